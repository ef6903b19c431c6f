// Convolution of bf16 maps on Hopper's tensor cores (GPU only), sums in f32: the warpgroup products
// of tensor/cuda/wgmma.cuh. All tensors on the GPU: x, y, dx, dy bf16, w [K,R,S,C], b and dw f32.
#pragma once
#include <optional>

#include "layers/activation.hpp"
#include "layers/conv2d.hpp"

namespace lumachrome {

const char* reject_wgmma(const Conv2dProblem& problem);

// As in Conv2dKernel, dx with a beta of 0 or 1; each wants a problem that reject_wgmma accepts. The
// weights are converted to bf16 on the way.
void conv2d_forward_wgmma(const Exec& exec, const Conv2dProblem& problem, const Tensor& x,
                          const Tensor& w, const Tensor& b, const Tensor& y);
void conv2d_grad_input_wgmma(const Exec& exec, const Conv2dProblem& problem, const Tensor& dy,
                             const Tensor& w, const GradIn& dx);
void conv2d_grad_weight_wgmma(const Exec& exec, const Conv2dProblem& problem, const Tensor& x,
                              const Tensor& dy, const GradIn& dw);

// y = activation(conv(x, w) + bias), with w as bf16 in the order [K, R*S*C]. At most one bias: bias
// [K], or border_bias [N,16,K], one per border case (fusion.hpp); undefined: none.
void conv2d_forward_wgmma_packed(const Exec& exec, const Conv2dProblem& problem, const Tensor& x,
                                 const Tensor& w, const Tensor& bias, const Tensor& border_bias,
                                 std::optional<Activation> activation, const Tensor& y);

}  // namespace lumachrome
