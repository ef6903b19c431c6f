// Weights as the tensor-core convolutions read them: [columns, taps, channels] in the type of the
// maps, channels rounded up to whole 16-byte chunks with zeros. Also rounds up maps that need it.
#pragma once
#include "layers/cuda/conv2d_gemm.cuh"

namespace lumachrome::cuda {

// A packed tap is the sum of w over rows [r0, r1) and columns [s0, s1) of the kernel.
struct PackedTap {
    int8_t r0, r1, s0, s1;
    int index, taps;  // it is the index-th of so many
    int64_t begin;    // of its phase
};
struct PackPlan {
    int count = 0;
    PackedTap tap[kMaxTaps];  // forward: R S; backward: R S in all phases; upsampled: 16
    int R, K, C;              // of w
    int padded;               // channels of the packed form (C, or K when transposed)
    bool tf32;
};

template <class T>
__device__ __forceinline__ T packed_value(float value, bool tf32) {
    if constexpr (std::is_same_v<T, float>) {
        return tf32 ? __uint_as_float(to_tf32(value)) : value;
    } else {
        return T(value);
    }
}

// w [K,R,R,C] -> columns K, channels C; transposed: columns C, channels K. A block of 32x8 threads
// per 32x32 (column, channel) of tap blockIdx.z. Transposed, values turn in shared memory, so that
// both reads and writes go along rows.
template <class T, bool kTransposed>
__global__ void pack_kernel(const __grid_constant__ PackPlan plan, const float* w, T* out) {
    __shared__ float tile[32][33];
    const PackedTap& tap = plan.tap[blockIdx.z];
    const int columns = kTransposed ? plan.C : plan.K, channels = kTransposed ? plan.K : plan.C;
    const int column0 = blockIdx.x * 32, channel0 = blockIdx.y * 32;
    for (int i = threadIdx.y; i < 32; i += 8) {
        const int k = kTransposed ? channel0 + i : column0 + i;
        const int c = (kTransposed ? column0 : channel0) + threadIdx.x;
        float sum = 0;
        if (k < plan.K && c < plan.C)
            for (int r = tap.r0; r < tap.r1; ++r)
                for (int s = tap.s0; s < tap.s1; ++s)
                    sum += w[((int64_t{k} * plan.R + r) * plan.R + s) * plan.C + c];
        tile[i][threadIdx.x] = sum;
    }
    __syncthreads();
    for (int i = threadIdx.y; i < 32; i += 8) {
        const int column = column0 + i, channel = channel0 + threadIdx.x;
        if (column >= columns || channel >= plan.padded) continue;
        const float value = channel >= channels ? 0
                            : kTransposed       ? tile[threadIdx.x][i]
                                                : tile[i][threadIdx.x];
        out[tap.begin + (int64_t{column} * tap.taps + tap.index) * plan.padded + channel] =
            packed_value<T>(value, plan.tf32);
    }
}

inline void pack_weights(const Exec& exec, const PackPlan& plan, bool transposed, const Tensor& w,
                         const Tensor& out) {
    const int columns = transposed ? plan.C : plan.K;
    const dim3 grid(static_cast<unsigned>(ceil_div(columns, 32)),
                    static_cast<unsigned>(ceil_div(plan.padded, 32)),
                    static_cast<unsigned>(plan.count));
    const auto run = [&](auto t) {
        using T = decltype(t);
        if (transposed)
            launch<pack_kernel<T, true>>(exec.device, grid, dim3(32, 8), 0, plan, w.data<float>(),
                                         out.data<T>());
        else
            launch<pack_kernel<T, false>>(exec.device, grid, dim3(32, 8), 0, plan, w.data<float>(),
                                          out.data<T>());
    };
    if (out.dtype() == DType::bf16)
        run(bf16{});
    else
        run(float{});
}

// x [pixels, C] with zeros behind each pixel: [pixels, padded].
template <class T>
__global__ void pad_channels_kernel(const T* x, T* out, int64_t pixels, int C, int padded) {
    for (int64_t i = first_index(); i < pixels * padded; i += index_step()) {
        const int64_t c = i % padded;
        out[i] = c < C ? x[i / padded * C + c] : T(0.0f);
    }
}

inline int64_t padded_channels(int64_t channels, DType dtype) {
    const int64_t chunk = 16 / size_in_bytes(dtype);
    return ceil_div(channels, chunk) * chunk;
}

// The map itself where 16-byte copies can read it, else a copy with more channels.
inline Tensor padded_map(const Exec& exec, const Tensor& x) {
    const int64_t C = x.shape().back(), padded = padded_channels(C, x.dtype());
    if (padded == C && reinterpret_cast<uintptr_t>(x.raw()) % 16 == 0) return x;
    const int64_t pixels = x.shape().rows();
    const Tensor out = Tensor::empty({pixels, padded}, x.dtype(), exec.device);
    const auto run = [&](auto t) {
        using T = decltype(t);
        launch<pad_channels_kernel<T>>(exec.device, blocks_for(out.numel()), kThreads, 0,
                                       x.data<T>(), out.data<T>(), pixels, static_cast<int>(C),
                                       static_cast<int>(padded));
    };
    if (x.dtype() == DType::bf16)
        run(bf16{});
    else
        run(float{});
    return out;
}

}  // namespace lumachrome::cuda
