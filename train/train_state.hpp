// A training run on disk. `state.safetensors` holds everything a resume needs (weights, running
// statistics, optimizer slots, step) in one file that is replaced atomically, so that there is
// never a mixture of two steps; `model.safetensors` is the network alone, for use and sharing.
#pragma once
#include <cstdint>
#include <string>

#include "model/state.hpp"
#include "train/optimizers.hpp"

namespace lumachrome {

inline constexpr int64_t kMostSteps = UINT32_MAX;  // dropout counts steps in 32 bits

struct TrainProgress {
    int64_t step = 0;    // at most kMostSteps
    double seconds = 0;  // spent training so far, over all resumes
};

std::string state_path(const std::string& run);
std::string model_path(const std::string& run);

void save_train_state(const std::string& run, ColorNet& net, Optimizer& optimizer,
                      const TrainProgress& progress, const Metadata& extra,
                      const Metadata& identity);
// Throws ModelError when the file is damaged or belongs to another network or optimizer, UsageError
// when an entry of `identity` differs from the saved one.
TrainProgress load_train_state(const std::string& run, ColorNet& net, Optimizer& optimizer,
                               const Metadata& identity);

}  // namespace lumachrome
