// Colour loss (paper, eq. 4, first term): mean squared error over all elements. The mean, not the
// sum: with alpha = 1/300 only the mean leaves both terms of the joint loss comparable (Torch's
// MSECriterion averages by default).
//
//   L = 1/n sum w (y - t)^2      dy = 2/n w (y - t) dL;   y, t of one shape, L a scalar
//   w = 1 + k |2t - 1|
//
// k = 0 is the paper. Where gray or red are equally likely, the least squared error is a dull red:
// photos come out faded. k > 0 lets strong colours, which are rare, count more; 0.5 is neutral
// gray. (Zhang et al., "Colorful Image Colorization", 2016, sec. 2.2, reweigh their classes so.)
// The target is data and has no gradient.
#pragma once
#include "autograd/tape.hpp"
#include "tensor/choose.hpp"

namespace lumachrome {

template <class T>
T mse_loss_reference(double chroma_weight, View<const T> y, View<const T> target) {
    T sum = 0;
    for (int64_t i = 0; i < y.numel(); ++i) {
        const T difference = y.data[i] - target.data[i];
        const T strength = T(2) * target.data[i] - T(1);
        const T weight = T(1) + T(chroma_weight) * (strength < T(0) ? -strength : strength);
        sum += weight * difference * difference;
    }
    return sum / T(double(y.numel()));
}

struct MseLossKernel {
    void (*forward)(const Exec&, double chroma_weight, const Tensor& y, const Tensor& target,
                    const Tensor& loss);
    void (*backward)(const Exec&, double chroma_weight, const Tensor& y, const Tensor& target,
                     const Tensor& dloss, const GradIn& dy);
};
using MseLossImpl = Implementation<Shape, MseLossKernel>;
std::span<const MseLossImpl> mse_loss_cpu();
std::span<const MseLossImpl> mse_loss_cuda();

// Inputs y, target.
struct MseLossOp : Op {
    explicit MseLossOp(double k = 0) : chroma_weight(k) {}
    const double chroma_weight;  // k
    std::string name() const override { return "mse_loss"; }
    Shape infer(std::span<const Shape> in) const override;
    void forward(const Exec&, std::span<const Tensor> in, Tensor& loss, Saved*) const override;
    void backward(const Exec&, const Tensor& dloss, const Saved&,
                  std::span<const GradIn> din) const override;
    void define(std::span<const View<const Dual>> in, View<Dual> loss) const override {
        loss.data[0] = mse_loss_reference<Dual>(chroma_weight, in[0], in[1]);
    }
};

inline Var mse_loss(const Var& y, const Var& target, double chroma_weight = 0) {
    return y.tape->apply(std::make_shared<MseLossOp>(chroma_weight), {y, target});
}

}  // namespace lumachrome
