// Convolution (cross-correlation, as in Torch and PyTorch), the heart of the network (paper, Table
// 1).
//
//   y(n,p,q,k) = b(k) + sum_{r,s,c} w(k,r,s,c) x(n, p*stride + r - pad, q*stride + s - pad, c)
//
//   x [N,H,W,C]   w [K,R,S,C]   b [K]   y [N,P,Q,K],  P = (H + 2 pad - R) / stride + 1, Q likewise
//
// Outside of x is zero. Backward is three sums of the same form:
//   dx(n,h,w,c) = sum over the (p,q,r,s) that read x(n,h,w,c) of  sum_k w(k,r,s,c) dy(n,p,q,k)
//   dw(k,r,s,c) = sum_{n,p,q} dy(n,p,q,k) x(n, p*stride + r - pad, q*stride + s - pad, c)
//   db(k)       = sum_{n,p,q} dy(n,p,q,k)
// Walk 1, stop 4: photo -> PNG.
#pragma once
#include "autograd/tape.hpp"
#include "tensor/choose.hpp"

namespace lumachrome {

struct Conv2dSpec {
    int64_t kernel = 3;  // R = S, odd
    int64_t stride = 1;
    int64_t pad() const { return kernel / 2; }
};

template <class T>
void conv2d_reference(const Conv2dSpec& spec, View<const T> x, View<const T> w, View<const T> b,
                      View<T> y) {
    const int64_t H = x.shape[1], W = x.shape[2], C = x.shape[3], K = w.shape[0];
    for (int64_t n = 0; n < y.shape[0]; ++n)
        for (int64_t p = 0; p < y.shape[1]; ++p)
            for (int64_t q = 0; q < y.shape[2]; ++q)
                for (int64_t k = 0; k < K; ++k) {
                    T sum = b(k);
                    for (int64_t r = 0; r < spec.kernel; ++r)
                        for (int64_t s = 0; s < spec.kernel; ++s) {
                            const int64_t h = p * spec.stride + r - spec.pad();
                            const int64_t v = q * spec.stride + s - spec.pad();
                            if (h < 0 || h >= H || v < 0 || v >= W) continue;
                            for (int64_t c = 0; c < C; ++c) sum += w(k, r, s, c) * x(n, h, v, c);
                        }
                    y(n, p, q, k) = sum;
                }
}

// Shapes of one call, with the letters above.
struct Conv2dProblem {
    Conv2dSpec spec;
    int64_t N, H, W, C, K, P, Q;
    DType dtype = DType::f32;
    int64_t taps() const { return spec.kernel * spec.kernel * C; }
};
// Throws ShapeError unless x is [N,H,W,C] and w is [K,R,R,C].
Conv2dProblem conv2d_problem(const Conv2dSpec& spec, const Shape& x, const Shape& w,
                             DType dtype = DType::f32);

struct Conv2dKernel {
    // b may be undefined: no bias.
    void (*forward)(const Exec&, const Conv2dProblem&, const Tensor& x, const Tensor& w,
                    const Tensor& b, const Tensor& y);
    void (*grad_input)(const Exec&, const Conv2dProblem&, const Tensor& dy, const Tensor& w,
                       const GradIn& dx);
    void (*grad_weight)(const Exec&, const Conv2dProblem&, const Tensor& x, const Tensor& dy,
                        const GradIn& dw);
};
using Conv2dImpl = Implementation<Conv2dProblem, Conv2dKernel>;
std::span<const Conv2dImpl> conv2d_cpu();
std::span<const Conv2dImpl> conv2d_cuda();
const Conv2dKernel& choose_conv2d(const Exec& exec, const Conv2dProblem& problem);

// db = beta db + column sums of dy [rows, K]; also the bias gradient of a linear layer.
void grad_bias(const Exec& exec, const Tensor& dy, const GradIn& db);
struct GradBiasKernel {
    void (*run)(const Exec&, const Tensor& dy, const GradIn& db);
};
using GradBiasImpl = Implementation<Shape, GradBiasKernel>;
std::span<const GradBiasImpl> grad_bias_cpu();
std::span<const GradBiasImpl> grad_bias_cuda();

// Inputs x, w, b.
struct Conv2dOp : Op {
    explicit Conv2dOp(Conv2dSpec s) : spec(s) {}
    Conv2dSpec spec;

    std::string name() const override { return "conv2d"; }
    Shape infer(std::span<const Shape> in) const override;
    void forward(const Exec&, std::span<const Tensor> in, Tensor& y, Saved*) const override;
    void backward(const Exec&, const Tensor& dy, const Saved&,
                  std::span<const GradIn> din) const override;
    void define(std::span<const View<const Dual>> in, View<Dual> y) const override {
        conv2d_reference<Dual>(spec, in[0], in[1], in[2], y);
    }
    std::optional<Rows> input_rows(Rows out) const override {
        return Rows{out.begin * spec.stride - spec.pad(),
                    (out.end - 1) * spec.stride - spec.pad() + spec.kernel};
    }
    int64_t macs(std::span<const Shape> in) const override;
};

struct Conv2d {
    Conv2d(int64_t in_channels, int64_t out_channels, Conv2dSpec spec);
    static constexpr const char* kStateName = "conv";  // in checkpoints
    Conv2dSpec spec;
    Parameter weight, bias;

    int64_t out_channels() const { return weight.value.shape()[0]; }

    Var operator()(const Var& x) {
        Tape& tape = *x.tape;
        return tape.apply(std::make_shared<Conv2dOp>(spec),
                          {x, tape.parameter(weight), tape.parameter(bias)});
    }
    template <class F>
    void visit(F&& f) {
        f("weight", weight);
        f("bias", bias);
    }
};

}  // namespace lumachrome
