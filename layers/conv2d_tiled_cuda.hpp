// Convolution on a GPU by tiles in shared memory, without tensor cores: the step between the
// definition (conv2d_naive_cuda) and conv2d_mma_cuda, for f32, f64 and bf16.
#pragma once
#include "layers/conv2d.hpp"

namespace lumachrome {

extern const Conv2dKernel kConv2dTiledCuda;

}  // namespace lumachrome
