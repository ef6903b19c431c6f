// A training run on disk. `state.safetensors` holds everything a resume needs (weights, running
// statistics, optimizer slots, averages, step, sums of the unfinished log line) in one file that is
// replaced atomically, so that there is never a mixture of two steps; `model.safetensors` is the
// network alone, with averaged weights if there are such, for use and sharing;
// `best.safetensors` the same of the best validation.
#pragma once
#include <cstdint>
#include <limits>
#include <string>

#include "model/state.hpp"
#include "train/optimizers.hpp"
#include "train/weight_average.hpp"

namespace lumachrome {

inline constexpr int64_t kMostSteps = UINT32_MAX;  // dropout counts steps in 32 bits

struct TrainProgress {
    int64_t step = 0;    // at most kMostSteps
    double seconds = 0;  // spent training so far, over all resumes
    // Sums over the steps since the last line of the log.
    struct Window {
        double color_loss = 0, class_loss = 0, gradient_norm = 0;
        int64_t steps = 0, labelled = 0, correct = 0;
    } window;
    // Of the validations: the lowest colour loss, its step, and how many came after it.
    double best_loss = std::numeric_limits<double>::max();
    int64_t best_step = 0, validations_since_best = 0;
};

// What a run changes, borrowed.
struct TrainState {
    ColorNet& net;
    Optimizer& optimizer;
    WeightAverage* average = nullptr;  // null: none
};

std::string state_path(const std::string& run);
std::string model_path(const std::string& run);
std::string best_path(const std::string& run);

// Also keeps the states of the last `keep` saves as state-STEP.safetensors, when keep > 1. Throws
// Error, and writes nothing, when a value is not finite: a poisoned checkpoint is worse than none.
void save_train_state(const std::string& run, const TrainState& state,
                      const TrainProgress& progress, const Metadata& extra,
                      const Metadata& identity, int64_t keep = 1);
// Throws ModelError when the file is damaged or belongs to another network or optimizer, UsageError
// when an entry of `identity` differs from the saved one.
TrainProgress load_train_state(const std::string& run, const TrainState& state,
                               const Metadata& identity);

// The network as it is used: averaged weights if there are such.
void save_model(const std::string& path, const TrainState& state, const Metadata& extra);

std::string exact_text(double value);  // reads back as the same bits

}  // namespace lumachrome
