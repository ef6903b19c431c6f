#include <algorithm>

#include "layers/conv2d.hpp"
#include "layers/linear.hpp"
#include "tensor/dispatch.hpp"
#include "tensor/gemm.hpp"

namespace lumachrome {
namespace {

constexpr int64_t kOutputs = 64;  // outputs per task
constexpr int64_t kInputs = 512;  // inputs per task of grad_input

// Calls task(begin, count) on pieces of at most `size`.
template <class Task>
void pieces(const Exec& exec, int64_t total, int64_t size, const Task& task) {
    parallel_for(exec, (total + size - 1) / size,
                 [&](int64_t i) { task(i * size, std::min(size, total - i * size)); });
}

void forward_gemm(const Exec& exec, const LinearProblem& p, const Tensor& x, const Tensor& w,
                  const Tensor& b, const Tensor& y) {
    dispatch_float(y.dtype(), [&](auto t) {
        using T = decltype(t);
        pieces(exec, p.O, kOutputs, [&](int64_t o, int64_t count) {
            for (int64_t n = 0; n < p.N; ++n)
                std::copy_n(b.data<T>() + o, count, y.data<T>() + n * p.O + o);
            gemm<T>({x.data<T>(), p.N, p.I, p.I}, {w.data<T>() + o * p.I, count, p.I, p.I, true},
                    y.data<T>() + o, p.O, 1);
        });
    });
}

void grad_input_gemm(const Exec& exec, const LinearProblem& p, const Tensor& dy, const Tensor& w,
                     const GradIn& dx) {
    dispatch_float(dy.dtype(), [&](auto t) {
        using T = decltype(t);
        pieces(exec, p.I, kInputs, [&](int64_t i, int64_t count) {
            gemm<T>({dy.data<T>(), p.N, p.O, p.O}, {w.data<T>() + i, p.O, count, p.I},
                    dx.grad.data<T>() + i, p.I, dx.beta);
        });
    });
}

void grad_weight_gemm(const Exec& exec, const LinearProblem& p, const Tensor& x, const Tensor& dy,
                      const GradIn& dw) {
    dispatch_float(dy.dtype(), [&](auto t) {
        using T = decltype(t);
        pieces(exec, p.O, kOutputs, [&](int64_t o, int64_t count) {
            gemm<T>({dy.data<T>() + o, p.N, count, p.O, true}, {x.data<T>(), p.N, p.I, p.I},
                    dw.grad.data<T>() + o * p.I, p.I, dw.beta);
        });
    });
}

void forward_naive(const Exec&, const LinearProblem&, const Tensor& x, const Tensor& w,
                   const Tensor& b, const Tensor& y) {
    dispatch_float(y.dtype(), [&](auto t) {
        using T = decltype(t);
        linear_reference<T>(x.view<const T>(), w.view<const T>(), b.view<const T>(), y.view<T>());
    });
}

void grad_input_naive(const Exec&, const LinearProblem& p, const Tensor& dy, const Tensor& w,
                      const GradIn& dx) {
    if (dx.beta == 0) dx.grad.fill(0);
    dispatch_float(dy.dtype(), [&](auto t) {
        using T = decltype(t);
        for (int64_t n = 0; n < p.N; ++n)
            for (int64_t o = 0; o < p.O; ++o)
                for (int64_t i = 0; i < p.I; ++i)
                    dx.grad.view<T>()(n, i) += dy.view<T>()(n, o) * w.view<T>()(o, i);
    });
}

void grad_weight_naive(const Exec&, const LinearProblem& p, const Tensor& x, const Tensor& dy,
                       const GradIn& dw) {
    if (dw.beta == 0) dw.grad.fill(0);
    dispatch_float(dy.dtype(), [&](auto t) {
        using T = decltype(t);
        for (int64_t n = 0; n < p.N; ++n)
            for (int64_t o = 0; o < p.O; ++o)
                for (int64_t i = 0; i < p.I; ++i)
                    dw.grad.view<T>()(o, i) += dy.view<T>()(n, o) * x.view<T>()(n, i);
    });
}

constexpr LinearImpl kImplementations[] = {
    {"gemm", accepts_all, {forward_gemm, grad_input_gemm, grad_weight_gemm}},
    {"naive", accepts_all, {forward_naive, grad_input_naive, grad_weight_naive}},
};

}  // namespace

const LinearKernel& choose_linear(const Exec& exec, const LinearProblem& problem) {
    return choose("linear", implementations(exec.device, linear_cpu, linear_cuda), problem);
}

std::span<const LinearImpl> linear_cpu() {
    return kImplementations;
}

Shape LinearOp::infer(std::span<const Shape> in) const {
    if (in[0].rank() != 2 || in[1].rank() != 2 || in[1][1] != in[0][1] || in[2] != Shape{in[1][0]})
        throw_shape_error("linear", "needs x [N,I], w [O,I], b [O]", in);
    return {in[0][0], in[1][0]};
}

void LinearOp::forward(const Exec& exec, std::span<const Tensor> in, Tensor& y,
                       Saved* saved) const {
    const LinearProblem problem{in[0].shape()[0], in[0].shape()[1], in[1].shape()[0]};
    choose_linear(exec, problem).forward(exec, problem, in[0], in[1], in[2], y);
    if (saved) saved->tensors = {in[0], in[1]};
}

void LinearOp::backward(const Exec& exec, const Tensor& dy, const Saved& saved,
                        std::span<const GradIn> din) const {
    const Tensor &x = saved.tensors[0], &w = saved.tensors[1];
    const LinearProblem problem{x.shape()[0], x.shape()[1], w.shape()[0]};
    const LinearKernel& kernel = choose_linear(exec, problem);
    if (din[0]) kernel.grad_input(exec, problem, dy, w, din[0]);
    if (din[1]) kernel.grad_weight(exec, problem, x, dy, din[1]);
    if (din[2]) grad_bias(exec, dy, din[2]);
}

Linear::Linear(int64_t in_features, int64_t out_features) {
    weight.value = Tensor::zeros({out_features, in_features});
    bias.value = Tensor::zeros({out_features});
}

}  // namespace lumachrome
