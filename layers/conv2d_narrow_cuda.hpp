// Convolutions with one or two channels on one side, on a GPU: the first layer (C = 1) and the last
// (K = 2). They do a handful of multiplications per byte, so they are bound by memory: each map is
// moved once. Plain C++; the signatures are Conv2dKernel's.
#pragma once
#include "layers/conv2d.hpp"

namespace lumachrome {

// Why the functions below cannot; null: they can.
inline const char* reject_narrow(const Conv2dProblem& p) {
    if (p.spec.kernel != 3) return "kernel is not 3x3";
    if (p.C == 1) {
        if (p.spec.stride > 2) return "stride is above 2";
        return p.K > 128 ? "more than 128 output channels" : nullptr;
    }
    if (p.K != 2) return "neither one input channel nor two output channels";
    if (p.spec.stride != 1) return "two output channels with stride 2";
    return p.C > 128 ? "more than 128 input channels" : nullptr;
}

void conv2d_forward_narrow_cuda(const Exec& exec, const Conv2dProblem& p, const Tensor& x,
                                const Tensor& w, const Tensor& b, const Tensor& y);
void conv2d_grad_input_narrow_cuda(const Exec& exec, const Conv2dProblem& p, const Tensor& dy,
                                   const Tensor& w, const GradIn& dx);
void conv2d_grad_weight_narrow_cuda(const Exec& exec, const Conv2dProblem& p, const Tensor& x,
                                    const Tensor& dy, const GradIn& dw);

}  // namespace lumachrome
