// A fully connected layer is a 1x1 convolution of maps of one pixel, and shares its kernels.
#include "layers/conv2d.hpp"
#include "layers/linear.hpp"

namespace lumachrome {
namespace {

Conv2dProblem as_conv2d(const LinearProblem& p, DType dtype) {
    return {{1, 1}, p.N, 1, 1, p.I, p.O, 1, 1, dtype};
}

void forward(const Exec& exec, const LinearProblem& problem, const Tensor& x, const Tensor& w,
             const Tensor& b, const Tensor& y) {
    const Conv2dProblem conv = as_conv2d(problem, x.dtype());
    choose_conv2d(exec, conv).forward(exec, conv, x, w, b, y);
}

void grad_input(const Exec& exec, const LinearProblem& problem, const Tensor& dy, const Tensor& w,
                const GradIn& dx) {
    const Conv2dProblem conv = as_conv2d(problem, dy.dtype());
    choose_conv2d(exec, conv).grad_input(exec, conv, dy, w, dx);
}

void grad_weight(const Exec& exec, const LinearProblem& problem, const Tensor& x, const Tensor& dy,
                 const GradIn& dw) {
    const Conv2dProblem conv = as_conv2d(problem, dy.dtype());
    choose_conv2d(exec, conv).grad_weight(exec, conv, x, dy, dw);
}

constexpr LinearImpl kImplementations[] = {
    {"conv2d", accepts_all, {forward, grad_input, grad_weight}}};

}  // namespace

std::span<const LinearImpl> linear_cuda() {
    return kImplementations;
}

}  // namespace lumachrome
