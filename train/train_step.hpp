// One optimisation step, shared by training, benchmarks and goldens:
//   batch -> forward -> joint loss -> backward -> mean over processes -> clipping -> optimizer
// Walk 2, stop 5: loss -> gradients -> optimizer.
#pragma once
#include <functional>

#include "tensor/error.hpp"
#include "train/distributed/gradient_reducer.hpp"
#include "train/joint_loss.hpp"
#include "train/loader.hpp"
#include "train/optimizers.hpp"

namespace lumachrome {

// Training has diverged: a value of this step is not finite.
class NonFiniteError : public Error {
    using Error::Error;
};

struct StepSettings {
    LossWeights loss = {};
    double rate_factor = 1;  // of the learning rate (schedule.hpp)
    // Gradients longer than this (L2 norm over all parameters together) are scaled down to it
    // (Pascanu et al. 2013); 0: never.
    double clip_norm = 0;
    Watch* watch = nullptr;  // sees every op; null: nobody
    // Who else works on this step, each on its share of the batch; null: nobody.
    const PeerGroup* peers = nullptr;
    GradientReducer* reducer = nullptr;  // of those peers, over all trainable parameters
    // Called when a GPU has got its work, before its results are waited for; may be empty.
    std::function<void()> meanwhile = {};
};

struct StepResult {                         // of the whole batch, over all processes
    double color_loss = 0, class_loss = 0;  // class_loss 0 without the global branch
    int64_t labelled = 0, correct = 0;      // samples
    double gradient_norm = 0;               // before clipping
};

// What the network is fed: luma minus the mean, and the copy for the global branch, resized to its
// size; the same Var twice where the sizes agree or there is no such branch.
struct NetInput {
    Var x, copy;
};
NetInput net_input(Tape& tape, const ColorNet& net, const Tensor& luma);

// On the CPU; step_runner.hpp takes steps anywhere.
// `batch.luma` [N,S,S,1] in 0..1, `batch.ab` [N,S/2,S/2,2] in 0..1. Throws NonFiniteError naming
// the step and the first op whose value is not finite; the weights are then as before the step
// (running statistics may have moved), unless it was the update itself that went wrong. With peers,
// all of them throw in the same step.
StepResult train_step(ColorNet& net, Optimizer& optimizer, const Exec& exec, const Batch& batch,
                      const StepSettings& settings = {});

}  // namespace lumachrome
