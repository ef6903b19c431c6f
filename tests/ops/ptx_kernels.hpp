// Each wrapper of tensor/cuda/ptx.cuh on matrices that lie in tensors, by one warp.
#pragma once
#include "tensor/tensor.hpp"

namespace lumachrome::ptx_test {

// d [16,8] f32 = a [16,k] b [8,k]^T, k = 16 of bf16 or k = 8 of f32 rounded to tf32. The bf16
// operands go through shared memory, asynchronous copies and ldmatrix.
void mma(const Tensor& a, const Tensor& b, const Tensor& d);
// d [16,8] f32 = a [16,16] b [16,8], bf16, both read as they lie: a through ldmatrix, b through
// ldmatrix with transposition.
void mma_transposed(const Tensor& a, const Tensor& b, const Tensor& d);
// out [n] f32 as tf32, out [n] bf16 packed in pairs.
void round_tf32(const Tensor& in, const Tensor& out);
void round_bf16(const Tensor& in, const Tensor& out);

}  // namespace lumachrome::ptx_test
