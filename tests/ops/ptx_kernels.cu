#include "ops/ptx_kernels.hpp"

#include "tensor/cuda/launch.cuh"
#include "tensor/cuda/ptx.cuh"

namespace lumachrome::ptx_test {
namespace {

using namespace cuda;

__device__ void store(const float (&d)[4], float* out) {
    const unsigned g = threadIdx.x / 4, t = threadIdx.x % 4;
    for (unsigned i = 0; i < 4; ++i) out[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2] = d[i];
}

__global__ void mma_bf16_kernel(const bf16* a, const bf16* b, float* out) {
    __shared__ __align__(16) bf16 rows[24 * 16];  // of a, then of b
    const unsigned lane = threadIdx.x;
    for (unsigned i = lane; i < 48; i += 32)  // 8 numbers each
        cp_async_16(rows + 8 * i, i < 32 ? a + 8 * i : b + 8 * (i - 32), true);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    uint32_t fa[4], fb[4];
    // Matrices 0 to 3 of a: (rows 0-7, k 0-7), (8-15, 0-7), (0-7, 8-15), (8-15, 8-15).
    ldmatrix_x4(fa, rows + (lane % 16) * 16 + lane / 16 * 8);
    // Of b, two are wanted; the others repeat them.
    ldmatrix_x4(fb, rows + (16 + lane % 8) * 16 + lane / 8 % 2 * 8);
    float d[4] = {};
    mma_bf16(d, fa, {fb[0], fb[1]});
    store(d, out);
}

__global__ void mma_transposed_kernel(const bf16* a, const bf16* b, float* out) {
    __shared__ __align__(16) bf16 rows[16 * 16 + 16 * 8];
    const unsigned lane = threadIdx.x;
    for (unsigned i = lane; i < 48; i += 32)
        cp_async_16(rows + 8 * i, i < 32 ? a + 8 * i : b + 8 * (i - 32), true);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    uint32_t fa[4], fb[4];
    ldmatrix_x4(fa, rows + (lane % 16) * 16 + lane / 16 * 8);
    ldmatrix_x4_transposed(fb, rows + 256 + (lane % 16) * 8);
    float d[4] = {};
    mma_bf16(d, fa, {fb[0], fb[1]});
    store(d, out);
}

__global__ void mma_tf32_kernel(const float* a, const float* b, float* out) {
    const unsigned g = threadIdx.x / 4, t = threadIdx.x % 4;
    const uint32_t fa[4] = {to_tf32(a[g * 8 + t]), to_tf32(a[(g + 8) * 8 + t]),
                            to_tf32(a[g * 8 + t + 4]), to_tf32(a[(g + 8) * 8 + t + 4])};
    const uint32_t fb[2] = {to_tf32(b[g * 8 + t]), to_tf32(b[g * 8 + t + 4])};
    float d[4] = {};
    mma_tf32(d, fa, fb);
    store(d, out);
}

__global__ void round_tf32_kernel(const float* in, float* out, int64_t count) {
    for (int64_t i = first_index(); i < count; i += index_step())
        out[i] = __uint_as_float(to_tf32(in[i]));
}

__global__ void round_bf16_kernel(const float* in, uint32_t* out, int64_t pairs) {
    for (int64_t i = first_index(); i < pairs; i += index_step())
        out[i] = pack_bf16(in[2 * i], in[2 * i + 1]);
}

}  // namespace

void mma(const Tensor& a, const Tensor& b, const Tensor& d) {
    if (a.dtype() == DType::bf16)
        launch<mma_bf16_kernel>(d.device(), 1, 32, 0, a.data<bf16>(), b.data<bf16>(),
                                d.data<float>());
    else
        launch<mma_tf32_kernel>(d.device(), 1, 32, 0, a.data<float>(), b.data<float>(),
                                d.data<float>());
}

void mma_transposed(const Tensor& a, const Tensor& b, const Tensor& d) {
    launch<mma_transposed_kernel>(d.device(), 1, 32, 0, a.data<bf16>(), b.data<bf16>(),
                                  d.data<float>());
}

void round_tf32(const Tensor& in, const Tensor& out) {
    launch<round_tf32_kernel>(in.device(), blocks_for(in.numel()), kThreads, 0, in.data<float>(),
                              out.data<float>(), in.numel());
}

void round_bf16(const Tensor& in, const Tensor& out) {
    launch<round_bf16_kernel>(in.device(), blocks_for(in.numel() / 2), kThreads, 0,
                              in.data<float>(), reinterpret_cast<uint32_t*>(out.raw()),
                              in.numel() / 2);
}

}  // namespace lumachrome::ptx_test
