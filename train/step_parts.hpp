// What a step on the CPU (train_step.cpp) and one on a GPU (step_runner.cpp) have in common.
#pragma once
#include <string>

#include "train/train_step.hpp"

namespace lumachrome {

struct ForwardPass {
    ColorNet::Output output;
    JointLoss loss;
};

// `labels` as JointLoss takes them.
template <class SomeLabels>
ForwardPass run_forward(Tape& tape, ColorNet& net, const Tensor& luma, const Tensor& ab,
                        const SomeLabels& labels, const LossWeights& weights,
                        double class_weight_factor = 1) {
    const NetInput in = net_input(tape, net, luma);
    const ColorNet::Output output = net(in.x, in.copy);
    const Tensor target = ab.to(net.output.weight.value.dtype());
    return {output, JointLoss(output, target, labels, weights, class_weight_factor)};
}

// Where the bad value was born: runs the pass again with a check after every op, which ends at the
// first that goes wrong. Alone, for the others may have found nothing wrong. `otherwise` if all
// goes well this time.
std::string birthplace(ColorNet& net, Exec exec, const Batch& batch, const StepSettings& settings,
                       std::string otherwise);

// "the gradient of NAME is not finite", of the first that is not.
std::string bad_gradient(Optimizer& optimizer);

// Means over the batch from means over its shares, which are of equal size; running statistics too.
void combine(const PeerGroup& peers, ColorNet& net, StepResult& result);

int64_t count_labelled(const Labels& labels);

// Throws NonFiniteError.
[[noreturn]] void throw_non_finite(int64_t step, const std::string& what);
[[noreturn]] void throw_bad_update(int64_t step, const std::string& name);

}  // namespace lumachrome
