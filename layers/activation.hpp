// Pointwise non-linearities: ReLU in the hidden layers (as published), sigmoid at the output and,
// by option, in the hidden layers (the talk's variant).
//
//   relu:     y = max(x, 0)          dx = dy where y > 0
//   sigmoid:  y = 1 / (1 + e^-x)     dx = dy y (1 - y)
//
// Both derivatives are functions of y, so forward saves y alone. ReLU has a kink at 0: difference
// quotients lie there, the derivative is taken as 0.
#pragma once
#include "autograd/tape.hpp"
#include "tensor/choose.hpp"

namespace lumachrome {

enum class Activation { relu, sigmoid };
inline const char* name(Activation a) {
    return a == Activation::relu ? "relu" : "sigmoid";
}

template <class T>
constexpr T activate_reference(Activation activation, T x) {
    using std::exp;
    if (activation == Activation::relu) return x < T(0) ? T(0) : x;
    return T(1) / (T(1) + exp(-x));
}

struct ActivationKernel {
    void (*forward)(const Exec&, Activation, const Tensor& x, const Tensor& y);
    void (*backward)(const Exec&, Activation, const Tensor& y, const Tensor& dy, const GradIn& dx);
};
using ActivationImpl = Implementation<Shape, ActivationKernel>;
std::span<const ActivationImpl> activation_cpu();
std::span<const ActivationImpl> activation_cuda();

struct ActivationOp : Op {
    explicit ActivationOp(Activation a) : activation(a) {}
    Activation activation;

    std::string name() const override { return lumachrome::name(activation); }
    Shape infer(std::span<const Shape> in) const override { return in[0]; }
    void forward(const Exec&, std::span<const Tensor> in, Tensor& y, Saved*) const override;
    void backward(const Exec&, const Tensor& dy, const Saved&,
                  std::span<const GradIn> din) const override;
    void define(std::span<const View<const Dual>> in, View<Dual> y) const override {
        for (int64_t i = 0; i < y.numel(); ++i)
            y.data[i] = activate_reference(activation, in[0].data[i]);
    }
    std::optional<Rows> input_rows(Rows out) const override { return out; }
};

inline Var activate(const Var& x, Activation activation) {
    return x.tape->apply(std::make_shared<ActivationOp>(activation), {x});
}

}  // namespace lumachrome
