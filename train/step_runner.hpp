// One training step after another, on the CPU (train_step) or on a GPU. There, nothing of a step
// waits for anything; its numbers come back together when it has ended. The first two steps are
// launched op by op, the third is recorded, and from then on the recording is replayed
// (tensor/cuda_graph.hpp): the CPU starts a step with one call. Recorded again when the shapes, the
// settings or the memory of the weights change. With several processes, whose gradients travel by
// way of the CPU, steps are not recorded; nor are they for a watch.
//
// Recorded or not, a step gives the same bits.
#pragma once
#include <memory>

#include "train/train_step.hpp"
#include "train/weight_average.hpp"

namespace lumachrome {

class StepRunner {
  public:
    // All of them outlive it and lie on exec.device. `average` follows every step; null: none.
    StepRunner(ColorNet& net, Optimizer& optimizer, const Exec& exec,
               WeightAverage* average = nullptr);
    ~StepRunner();
    StepRunner(const StepRunner&) = delete;
    StepRunner& operator=(const StepRunner&) = delete;

    // As train_step, and throws as it does. The batch may lie on the CPU or on the GPU.
    StepResult step(const Batch& batch, const StepSettings& settings = {});
    bool replays() const;  // whether the next step of this kind needs no launches

  private:
    class Gpu;
    ColorNet& net_;
    Optimizer& optimizer_;
    const Exec exec_;
    WeightAverage* average_;
    std::unique_ptr<Gpu> gpu_;  // none on the CPU
};

}  // namespace lumachrome
