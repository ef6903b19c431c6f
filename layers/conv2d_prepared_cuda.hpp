// A convolution prepared for inference on a GPU: as conv2d_prepared.hpp, but of whole maps of any
// number of photos, so that one kernel does one layer.
//
//   y = activation(b + w * x)  or, with `upsample`,  activation(b + w * upsample(x))
//
//   x [N,H,W,C] f32 or bf16   y [N,P,Q,K] f32 or bf16   b [K] f32, or [N,16,K] with `border_bias`
#pragma once
#include "layers/conv2d_prepared.hpp"

namespace lumachrome {

struct PreparedConv2dGpuProblem : PreparedConv2dProblem {  // H, W: of x before doubling
    int64_t N = 1;
    DType in = DType::f32, out = DType::f32;  // of x and y
    bool tf32 = false;                        // as in Exec
    std::string str() const;                  // "8 of 112x112x64 -> 112x112x128, 3x3, relu, bf16"
};

struct PreparedConv2dGpuKernel {
    // w [K,R,R,C] f32 on the CPU in whatever form `run` wants it, on the GPU. The form may depend
    // on the weights' shape, stride, types and doubling, not on N, H and W.
    Tensor (*pack)(const Exec&, const PreparedConv2dGpuProblem&, const Tensor& w);
    void (*run)(const Exec&, const PreparedConv2dGpuProblem&, const Tensor& x, const Tensor& packed,
                const Tensor& bias, const Tensor& y);
    double products = 1;  // multiplications it makes for each of the definition's
};
using PreparedConv2dGpuImpl = Implementation<PreparedConv2dGpuProblem, PreparedConv2dGpuKernel>;
// Named conv2d_prepared in LUMACHROME_FORCE, as on the CPU; best first, `naive` last.
std::span<const PreparedConv2dGpuImpl> conv2d_prepared_cuda();

}  // namespace lumachrome
