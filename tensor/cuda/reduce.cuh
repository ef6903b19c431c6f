// Sums over the threads of a block, always in the same order.
#pragma once
#include "tensor/cuda/launch.cuh"

namespace lumachrome::cuda {

// By a whole warp; every lane receives the sum.
template <class T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
    for (int bits = 16; bits > 0; bits /= 2) value += __shfl_xor_sync(0xffffffffu, value, bits);
    return value;
}
template <class T>
__device__ __forceinline__ T warp_max(T value) {
#pragma unroll
    for (int bits = 16; bits > 0; bits /= 2) {
        const T other = __shfl_xor_sync(0xffffffffu, value, bits);
        value = other > value ? other : value;
    }
    return value;
}

// By a whole block of at most 1024 threads, a multiple of 32; thread 0 receives the sum. May be
// called again.
template <class T>
__device__ __forceinline__ T block_sum(T value) {
    __shared__ T of_warp[32];
    value = warp_sum(value);
    __syncthreads();  // whoever still reads the sums of the call before
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
    __syncthreads();
    if (threadIdx.x < 32)
        value = warp_sum(threadIdx.x < blockDim.x / 32 ? of_warp[threadIdx.x] : T{});
    return value;
}

}  // namespace lumachrome::cuda
