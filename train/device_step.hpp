// The end of a training step on a GPU, without a look at any value on the way: losses, hits and the
// gradient norm are left in a small piece of the GPU's memory, where clipping and the update find
// what they need, and all of it travels to the CPU at once. Everything between begin and wait can
// be captured and replayed.
#pragma once
#include <limits>
#include <memory>
#include <span>

#include "tensor/cuda_async.hpp"
#include "train/optimizers.hpp"
#include "train/weight_average.hpp"

namespace lumachrome {

struct StepOutcome {
    static constexpr int32_t kNone = std::numeric_limits<int32_t>::max();
    double color_loss = 0, class_loss = 0;
    double gradient_norm = 0;  // before clipping
    int32_t correct = 0;       // samples
    // The first slot of the optimizer whose weights the update made not finite, and the first of
    // the tensors given to check_finite that is not; kNone: all are.
    int32_t first_bad = kNone, first_bad_tensor = kNone;
    int32_t unused = 0;  // no padding: every byte of it is sent
};

// Not copied: captured work refers to its memory. A build without the CUDA Toolkit has nothing
// behind it: ResourceError.
class DeviceStep {
  public:
    explicit DeviceStep(Device device);
    DeviceStep(const DeviceStep&) = delete;
    DeviceStep& operator=(const DeviceStep&) = delete;

    // Before each step, and not captured with it: clears the outcome and brings what the optimizer
    // multiplies with (Optimizer::begin_step).
    void begin(const StepFactors& factors);

    // Scalars; `classes` may be undefined.
    void losses(const Tensor& color, const Tensor& classes);
    // logits [N,classes], labels [N] f32, -1: unlabelled.
    void count_correct(const Tensor& logits, const Tensor& labels);
    // The norm of all gradients together, and from it the factor of clipping. If it, or a loss
    // given before, is not finite, `update` will leave weights and state as they are.
    void gradient_norm(std::span<const Optimizer::Slot> slots);
    void update(const OptimizerSpec& spec, std::span<const Optimizer::Slot> slots);
    void check_finite(std::span<const Tensor> tensors);  // all of one type
    void publish();  // sends the outcome to the CPU; not captured

    // For the last one sent, and all work before it; what was started since goes on.
    const StepOutcome& wait() const;

  private:
    struct Unpin {
        void operator()(StepOutcome* pinned) const;
    };
    Device device_;
    Tensor state_;  // its layout is the kernels' matter
    std::unique_ptr<StepOutcome, Unpin> outcome_;
    cuda::Marker sent_;
};

namespace cuda {
// average += share (weights - average), for all entries.
void move_averages(Device device, std::span<const WeightAverage::Entry> entries, double share);
}  // namespace cuda

}  // namespace lumachrome
