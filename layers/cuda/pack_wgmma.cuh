// Weights of a convolution as the products of bf16 want them. w [K,R,R,C] f32.
#pragma once
#include "layers/conv2d.hpp"
#include "tensor/cuda/launch.cuh"

namespace lumachrome::cuda {

// bf16 [K, R*S*C]: the same order.
inline Tensor pack_weights(const Exec& exec, const Conv2dProblem& p, const Tensor& w) {
    const Tensor packed = Tensor::empty({p.K, p.taps()}, DType::bf16, exec.device);
    convert(packed, w.reshape(packed.shape()));
    return packed;
}

// Taps t = 0..count-1 of one axis stand for the rows (columns) first - t * step of the kernel.
struct TapRange {
    int first, step, count;
};

// out(c, r, s, k) = w(k, down(r), across(s), c). A block turns 32 k by 32 c of one tap around, so
// that both sides are read and written along their rows; + 1 keeps columns off one bank.
static __global__ void pack_transposed_kernel(const float* w, bf16* out, int K, int R, int C,
                                              TapRange down, TapRange across) {
    __shared__ float tile[32][33];
    const int c0 = static_cast<int>(blockIdx.x) * 32, k0 = static_cast<int>(blockIdx.y) * 32;
    const int tap = static_cast<int>(blockIdx.z), taps = down.count * across.count;
    const int r = down.first - tap / across.count * down.step;
    const int s = across.first - tap % across.count * across.step;
    const int lane = static_cast<int>(threadIdx.x), first = static_cast<int>(threadIdx.y);
    for (int i = first; i < 32; i += 8)
        if (k0 + i < K && c0 + lane < C)
            tile[i][lane] = w[((int64_t{k0 + i} * R + r) * R + s) * C + c0 + lane];
    __syncthreads();
    for (int i = first; i < 32; i += 8)
        if (c0 + i < C && k0 + lane < K)
            out[(int64_t{c0 + i} * taps + tap) * K + k0 + lane] = bf16(tile[lane][i]);
}

// bf16 [C, taps, K]; at least one tap.
inline Tensor pack_transposed(const Exec& exec, const Conv2dProblem& p, const Tensor& w,
                              TapRange down, TapRange across) {
    const int taps = down.count * across.count;
    const Tensor packed = Tensor::empty({p.C, taps, p.K}, DType::bf16, exec.device);
    const dim3 grid(static_cast<unsigned>(ceil_div(p.C, 32)),
                    static_cast<unsigned>(ceil_div(p.K, 32)), static_cast<unsigned>(taps));
    launch<pack_transposed_kernel>(exec.device, grid, dim3(32, 8), 0, w.data<float>(),
                                   packed.data<bf16>(), static_cast<int>(p.K),
                                   static_cast<int>(p.spec.kernel), static_cast<int>(p.C), down,
                                   across);
    return packed;
}

}  // namespace lumachrome::cuda
