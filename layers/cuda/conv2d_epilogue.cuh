// What happens to the sums of a convolution before they are written: bias, activation, addition to
// what was there, conversion.
#pragma once
#include "layers/activation.hpp"
#include "layers/fusion.hpp"
#include "tensor/cuda/launch.cuh"
#include "tensor/cuda/ptx.cuh"

namespace lumachrome::cuda {

constexpr int kColumns = 8;  // output channels that a thread writes at once: 16 bytes of bf16

struct ConvOutput {
    void* y;            // [N,P,Q,K]; null: partial sums go to `partial`
    float* partial;     // [splits,N,P,Q,K]
    const float* bias;  // null, [K], or by border case [N or 1,16,K]
    int64_t bias_step;  // by border case: from photo to photo
    int P, Q, K;
    bool is_bf16, border, activated, vectors;  // vectors: 16-byte accesses to y are aligned
    Activation activation;
    float beta;
};

// Eight sums, or what is left of the row, of channels k.. at a pixel of y.
__device__ __forceinline__ void finish(const ConvOutput& out, float (&v)[kColumns], int64_t pixel,
                                       int k) {
    const int left = out.K - k < kColumns ? out.K - k : kColumns;
    if (out.bias) {
        const float* bias = out.bias + k;
        if (out.border) {
            const auto i = static_cast<uint32_t>(pixel);
            const uint32_t q = i % out.Q, p = i / out.Q % out.P, n = i / out.Q / out.P;
            bias += int64_t{n} * out.bias_step +
                    (4 * border_case(p, out.P) + border_case(q, out.Q)) * out.K;
        }
#pragma unroll
        for (int i = 0; i < kColumns; ++i)
            if (i < left) v[i] += bias[i];
    }
    if (out.activated)
#pragma unroll
        for (int i = 0; i < kColumns; ++i) v[i] = activate_reference(out.activation, v[i]);
    const int64_t at = pixel * out.K + k;
    if (out.is_bf16) {
        bf16* const y = static_cast<bf16*>(out.y) + at;
        if (out.vectors) {
            if (out.beta != 0) {
                const uint4 old = *reinterpret_cast<const uint4*>(y);
                const uint32_t words[4] = {old.x, old.y, old.z, old.w};
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    v[2 * i] += __uint_as_float(words[i] << 16);
                    v[2 * i + 1] += __uint_as_float(words[i] & 0xffff0000u);
                }
            }
            *reinterpret_cast<uint4*>(y) = {pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]),
                                            pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7])};
            return;
        }
#pragma unroll
        for (int i = 0; i < kColumns; ++i)
            if (i < left) y[i] = bf16(out.beta == 0 ? v[i] : v[i] + static_cast<float>(y[i]));
        return;
    }
    float* const y = static_cast<float*>(out.y) + at;
    if (out.vectors) {
        float4* const y4 = reinterpret_cast<float4*>(y);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const float4 old = out.beta == 0 ? float4{0, 0, 0, 0} : y4[i];
            y4[i] = {v[4 * i] + old.x, v[4 * i + 1] + old.y, v[4 * i + 2] + old.z,
                     v[4 * i + 3] + old.w};
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < kColumns; ++i)
        if (i < left) y[i] = out.beta == 0 ? v[i] : v[i] + y[i];
}

// The same without finishing: into the partial sums of one part of the depth.
__device__ __forceinline__ void keep_partial(const ConvOutput& out, const float (&v)[kColumns],
                                             int64_t numel, int split, int64_t pixel, int k) {
    float* const at = out.partial + split * numel + pixel * out.K + k;
    if (out.K % kColumns == 0) {
        reinterpret_cast<float4*>(at)[0] = {v[0], v[1], v[2], v[3]};
        reinterpret_cast<float4*>(at)[1] = {v[4], v[5], v[6], v[7]};
        return;
    }
#pragma unroll
    for (int i = 0; i < kColumns; ++i)
        if (i < out.K - k) at[i] = v[i];
}

}  // namespace lumachrome::cuda
