// Starting kernels, and the few helpers that most of them share. For .cu files only.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

#include "tensor/cuda.hpp"
#include "tensor/dtype.hpp"
#include "tensor/error.hpp"
#include "tensor/exec.hpp"

namespace lumachrome::cuda {

[[noreturn]] void throw_cuda_error(cudaError_t error, const char* what);

// Throws ResourceError naming the call.
#define CUDA_TRY(call)                                                \
    do {                                                              \
        if (const cudaError_t error_ = (call); error_ != cudaSuccess) \
            ::lumachrome::cuda::throw_cuda_error(error_, #call);      \
    } while (false)

// The stream of all work of one GPU; makes that GPU the calling thread's current one.
cudaStream_t stream(Device device);

// A kernel has 48 KiB of shared memory without asking for more: static and dynamic together, and
// ours have less than 16 KiB of the former.
constexpr size_t kDynamicWithoutAsking = 32 * 1024;

// Runs kKernel on `device` behind everything started before.
template <auto kKernel, class... Arguments>
void launch(Device device, dim3 grid, dim3 block, size_t dynamic_shared_bytes,
            const Arguments&... arguments) {
    const cudaStream_t where = stream(device);
    if (dynamic_shared_bytes > kDynamicWithoutAsking)
        CUDA_TRY(cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      static_cast<int>(dynamic_shared_bytes)));
    cudaLaunchConfig_t config{};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = dynamic_shared_bytes;
    config.stream = where;
    CUDA_TRY(cudaLaunchKernelEx(&config, kKernel, arguments...));
}

constexpr int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

// Element-wise kernels: a thread takes every (gridDim * blockDim)-th element, in 64-bit indices.
constexpr int kThreads = 256;
inline dim3 blocks_for(int64_t elements, int per_thread = 1) {
    const int64_t blocks = ceil_div(elements, int64_t{kThreads} * per_thread);
    return dim3(static_cast<unsigned>(blocks < 1 ? 1 : blocks < (1 << 20) ? blocks : (1 << 20)));
}
__device__ inline int64_t first_index() {
    return int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
}
__device__ inline int64_t index_step() {
    return int64_t{gridDim.x} * blockDim.x;
}

// What sums of T are kept in.
template <class T>
struct WiderOf {
    using type = float;
};
template <>
struct WiderOf<double> {
    using type = double;
};
template <class T>
using Wider = typename WiderOf<T>::type;

// Calls f with a value of the C++ type of `dtype`: one kernel for f32, f64 and bf16.
template <class F>
decltype(auto) dispatch_activations(DType dtype, F&& f) {
    if (dtype == DType::bf16) return f(bf16{});
    return dispatch_float(dtype, f);
}

}  // namespace lumachrome::cuda
