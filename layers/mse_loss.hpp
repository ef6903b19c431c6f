// Colour loss (paper, eq. 4, first term): mean squared error over all elements. The mean, not the
// sum: with alpha = 1/300 only the mean leaves both terms of the joint loss comparable (Torch's
// MSECriterion averages by default).
//
//   L = 1/n sum (y - t)^2        dy = 2/n (y - t) dL;   y, t of one shape, L a scalar
#pragma once
#include "autograd/tape.hpp"
#include "tensor/choose.hpp"

namespace lumachrome {

template <class T>
T mse_loss_reference(View<const T> y, View<const T> target) {
    T sum = 0;
    for (int64_t i = 0; i < y.numel(); ++i) {
        const T difference = y.data[i] - target.data[i];
        sum += difference * difference;
    }
    return sum / T(double(y.numel()));
}

struct MseLossKernel {
    void (*forward)(const Exec&, const Tensor& y, const Tensor& target, const Tensor& loss);
    // grad = beta grad + sign 2/n (y - target) dloss; sign is -1 for the target's own gradient
    void (*backward)(const Exec&, double sign, const Tensor& y, const Tensor& target,
                     const Tensor& dloss, const GradIn& grad);
};
using MseLossImpl = Implementation<Shape, MseLossKernel>;
std::span<const MseLossImpl> mse_loss_cpu();
std::span<const MseLossImpl> mse_loss_cuda();

// Inputs y, target.
struct MseLossOp : Op {
    std::string name() const override { return "mse_loss"; }
    Shape infer(std::span<const Shape> in) const override;
    void forward(const Exec&, std::span<const Tensor> in, Tensor& loss, Saved*) const override;
    void backward(const Exec&, const Tensor& dloss, const Saved&,
                  std::span<const GradIn> din) const override;
    void define(std::span<const View<const Dual>> in, View<Dual> loss) const override {
        loss.data[0] = mse_loss_reference<Dual>(in[0], in[1]);
    }
};

inline Var mse_loss(const Var& y, const Var& target) {
    return y.tape->apply(std::make_shared<MseLossOp>(), {y, target});
}

}  // namespace lumachrome
