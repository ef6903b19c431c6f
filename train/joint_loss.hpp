// The paper's objective (eq. 4): colour error plus alpha times classification error,
//   L = mean ||y_color - y_color*||^2 - alpha (z_l - log sum_i exp z_i)
// with alpha = 1/300. The colour term reaches every layer, the class term the global and low-level
// ones. Walk 2, stop 1: loss -> gradients -> optimizer.
#pragma once
#include <optional>

#include "layers/cross_entropy.hpp"
#include "layers/mse_loss.hpp"
#include "model/colornet.hpp"

namespace lumachrome {

inline constexpr double kAlpha = 1.0 / 300;

struct LossWeights {
    double alpha = kAlpha;  // of the class term
    double chroma = 0;      // how much more strong colours count; 0: not (mse_loss.hpp)
};

struct JointLoss {
    Var color;                   // scalar
    std::optional<Var> classes;  // scalar; none without the global branch
    double alpha;

    // `class_weight_factor` corrects alpha where `output` is one of several equal shares of a batch
    // with labels unevenly spread (PeerGroup::share_of): the colour term of the batch is then the
    // mean of its shares', and so is the class term.
    // `labels` is Labels, or a tensor of them on the GPU (cross_entropy.hpp).
    template <class SomeLabels = Labels>
    JointLoss(const ColorNet::Output& output, const Tensor& target, const SomeLabels& labels,
              const LossWeights& weights, double class_weight_factor = 1)
        : color(mse_loss(output.color, output.color.tape->input(target), weights.chroma)),
          alpha(weights.alpha * class_weight_factor) {
        if (output.logits) classes = cross_entropy(*output.logits, labels);
    }
    double total() const {  // waits for a GPU
        return color.value.item() + (classes ? alpha * classes->value.item() : 0);
    }
    void backward(const Tape::Ready& ready = {}) const {
        if (classes)
            color.tape->backward({{color, 1.0}, {*classes, alpha}}, ready);
        else
            color.tape->backward({{color, 1.0}}, ready);
    }
};

}  // namespace lumachrome
