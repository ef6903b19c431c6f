// Convolution on tensor cores (mma.sync: compute capability 8.0 and later), bf16 and f32 maps. f32
// products are made of three tf32 products, or of one where Exec::tf32 is set.
#pragma once
#include <optional>

#include "layers/activation.hpp"
#include "layers/conv2d.hpp"

namespace lumachrome {

extern const Conv2dKernel kConv2dMmaCuda;
const char* reject_conv2d_mma(const Conv2dProblem& problem);

// --- for inference: weights packed once, and what follows the convolution in the same pass

struct ConvEpilogue {
    const Tensor* bias = nullptr;  // f32 [K]; with border_bias [N,16,K] or [1,16,K]; null: none
    bool border_bias = false;      // by border case, see layers/fusion.hpp
    std::optional<Activation> activation;
};

// w [K,R,R,C] f32 in the form that conv2d_packed_cuda wants for maps of dtype `maps` (bf16 or f32)
// and the same exec.tf32. `upsample_input`: for x doubled, nearest neighbour, before a 3x3 stride 1
// convolution reads it; four outputs then cost 16 products instead of 36.
Tensor pack_conv2d_weights_cuda(const Exec& exec, const Tensor& w, DType maps,
                                bool upsample_input = false);

// y = activation(bias + w * x). x [N,H,W,C] of dtype problem.dtype, y [N,P,Q,K] bf16 or f32. With
// `upsample_input` problem.H, W are those of x before doubling, P = 2 H and Q = 2 W. No allocation
// that does not come back at once; fixed launches for a problem, so it can be captured.
void conv2d_packed_cuda(const Exec& exec, const Conv2dProblem& problem, bool upsample_input,
                        const Tensor& x, const Tensor& packed, const ConvEpilogue& epilogue,
                        const Tensor& y);

// dw [K,R,S,C] = beta dw + the sum over pixels, as in layers/conv2d.hpp.
void conv2d_grad_weight_mma_cuda(const Exec& exec, const Conv2dProblem& problem, const Tensor& x,
                                 const Tensor& dy, const GradIn& dw);

}  // namespace lumachrome
