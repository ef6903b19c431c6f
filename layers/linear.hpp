// Fully connected layer (paper, Table 1: global features and class head).
//
//   y(n,o) = b(o) + sum_i w(o,i) x(n,i)          x [N,I]  w [O,I]  b [O]  y [N,O]
//
// Backward: dx = dy w, dw = dy^T x, db = column sums of dy.
#pragma once
#include "autograd/tape.hpp"
#include "tensor/choose.hpp"

namespace lumachrome {

template <class T>
void linear_reference(View<const T> x, View<const T> w, View<const T> b, View<T> y) {
    for (int64_t n = 0; n < x.shape[0]; ++n)
        for (int64_t o = 0; o < w.shape[0]; ++o) {
            T sum = b(o);
            for (int64_t i = 0; i < w.shape[1]; ++i) sum += w(o, i) * x(n, i);
            y(n, o) = sum;
        }
}

struct LinearProblem {
    int64_t N, I, O;  // samples, inputs, outputs
};
struct LinearKernel {
    void (*forward)(const Exec&, const LinearProblem&, const Tensor& x, const Tensor& w,
                    const Tensor& b, const Tensor& y);
    void (*grad_input)(const Exec&, const LinearProblem&, const Tensor& dy, const Tensor& w,
                       const GradIn& dx);
    void (*grad_weight)(const Exec&, const LinearProblem&, const Tensor& x, const Tensor& dy,
                        const GradIn& dw);
};
using LinearImpl = Implementation<LinearProblem, LinearKernel>;
std::span<const LinearImpl> linear_cpu();
std::span<const LinearImpl> linear_cuda();
const LinearKernel& choose_linear(const Exec& exec, const LinearProblem& problem);

// Inputs x, w, b.
struct LinearOp : Op {
    std::string name() const override { return "linear"; }
    Shape infer(std::span<const Shape> in) const override;
    void forward(const Exec&, std::span<const Tensor> in, Tensor& y, Saved*) const override;
    void backward(const Exec&, const Tensor& dy, const Saved&,
                  std::span<const GradIn> din) const override;
    void define(std::span<const View<const Dual>> in, View<Dual> y) const override {
        linear_reference<Dual>(in[0], in[1], in[2], y);
    }
    int64_t macs(std::span<const Shape> in) const override { return in[0][0] * in[1].numel(); }
};

struct Linear {
    Linear(int64_t in_features, int64_t out_features);
    static constexpr const char* kStateName = "linear";  // in checkpoints
    Parameter weight, bias;

    int64_t out_channels() const { return weight.value.shape()[0]; }

    Var operator()(const Var& x) {
        Tape& tape = *x.tape;
        return tape.apply(std::make_shared<LinearOp>(),
                          {x, tape.parameter(weight), tape.parameter(bias)});
    }
    template <class F>
    void visit(F&& f) {
        f("weight", weight);
        f("bias", bias);
    }
};

}  // namespace lumachrome
