// The part of CUDA C++ and its runtime that this project uses, on the emulator (emulator.hpp).
#pragma once
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "emulator.hpp"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
// A block runs on one thread of the CPU.
#define __shared__ static thread_local

// --- vector types

#define EMULATOR_VECTORS(type, name)                                        \
    struct alignas(2 * sizeof(type)) name##2 {                              \
        type x, y;                                                          \
    };                                                                      \
    struct alignas(4 * sizeof(type) > 16 ? 16 : 4 * sizeof(type)) name##4 { \
        type x, y, z, w;                                                    \
    };                                                                      \
    inline name##2 make_##name##2(type x, type y) {                         \
        return {x, y};                                                      \
    }                                                                       \
    inline name##4 make_##name##4(type x, type y, type z, type w) {         \
        return {x, y, z, w};                                                \
    }
EMULATOR_VECTORS(float, float)
EMULATOR_VECTORS(double, double)
EMULATOR_VECTORS(int, int)
EMULATOR_VECTORS(unsigned, uint)
EMULATOR_VECTORS(unsigned char, uchar)
EMULATOR_VECTORS(unsigned short, ushort)
#undef EMULATOR_VECTORS

// --- threads

inline void __syncthreads() {
    emulator::sync_block();
}
inline void __syncwarp(unsigned mask = 0xffffffffu) {
    emulator::sync_warp(mask);
}
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __nanosleep(unsigned) {
    emulator::yield();
}
[[noreturn]] inline void __trap() {
    throw emulator::Error("a kernel stopped itself");
}

template <class T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32) {
    emulator::exchange(&value, sizeof value, mask);
    const unsigned lane = emulator::lane(), base = lane / unsigned(width) * unsigned(width);
    return emulator::value_of_lane<T>(base + unsigned(from) % unsigned(width));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
    emulator::exchange(&value, sizeof value, mask);
    const unsigned lane = emulator::lane(), other = lane ^ unsigned(bits);
    return other / unsigned(width) == lane / unsigned(width) ? emulator::value_of_lane<T>(other)
                                                             : value;
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32) {
    emulator::exchange(&value, sizeof value, mask);
    const unsigned lane = emulator::lane(), other = lane + by;
    return other / unsigned(width) == lane / unsigned(width) ? emulator::value_of_lane<T>(other)
                                                             : value;
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
    emulator::exchange(&predicate, sizeof predicate, mask);
    unsigned bits = 0;
    for (unsigned l = 0; l < 32; ++l)
        if (mask >> l & 1 && emulator::value_of_lane<int>(l)) bits |= 1u << l;
    return bits;
}
inline int __any_sync(unsigned mask, int predicate) {
    return __ballot_sync(mask, predicate) != 0;
}
inline int __all_sync(unsigned mask, int predicate) {
    return __ballot_sync(mask, predicate) == mask;
}

template <class T>
T atomicAdd(T* at, T value) {
    return std::atomic_ref<T>(*at).fetch_add(value);
}
template <class T>
T atomicMax(T* at, T value) {
    std::atomic_ref<T> ref(*at);
    T old = ref.load();
    while (old < value && !ref.compare_exchange_weak(old, value)) {
    }
    return old;
}
template <class T>
T atomicMin(T* at, T value) {
    std::atomic_ref<T> ref(*at);
    T old = ref.load();
    while (value < old && !ref.compare_exchange_weak(old, value)) {
    }
    return old;
}

// --- arithmetic

inline unsigned __float_as_uint(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}
inline float __uint_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
inline int __float_as_int(float value) {
    return static_cast<int>(__float_as_uint(value));
}
inline float __int_as_float(int bits) {
    return __uint_as_float(static_cast<unsigned>(bits));
}
inline float __expf(float x) {
    return std::exp(x);
}
inline float __logf(float x) {
    return std::log(x);
}
inline float __fdividef(float a, float b) {
    return a / b;
}
inline float rsqrtf(float x) {
    return 1 / std::sqrt(x);
}
inline double rsqrt(double x) {
    return 1 / std::sqrt(x);
}
inline float __frcp_rn(float x) {
    return 1 / x;
}
inline int __float2int_rn(float x) {
    return static_cast<int>(std::nearbyint(x));
}
inline unsigned __umulhi(unsigned a, unsigned b) {
    return static_cast<unsigned>((uint64_t{a} * b) >> 32);
}
inline int __popc(unsigned bits) {
    return __builtin_popcount(bits);
}
inline int __ffs(int bits) {
    return __builtin_ffs(bits);
}
template <class T>
T __ldg(const T* at) {
    return *at;
}
template <class T>
T __ldcs(const T* at) {
    return *at;
}
template <class T>
void __stcs(T* at, T value) {
    *at = value;
}
using std::exp, std::isfinite, std::max, std::min;

inline size_t __cvta_generic_to_shared(const void* at) {
    return reinterpret_cast<size_t>(at);
}

// --- runtime

enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInsufficientDriver = 35,
    cudaErrorNoDevice = 100,
};
enum cudaMemcpyKind { cudaMemcpyDefault = 4 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };
enum cudaStreamCaptureMode {
    cudaStreamCaptureModeThreadLocal = 1,
    cudaStreamCaptureModeRelaxed = 2
};

struct cudaDeviceProp {
    char name[256];
    int major, minor, multiProcessorCount, l2CacheSize;
    size_t totalGlobalMem, sharedMemPerBlockOptin;
};

namespace emulator {
// While it is captured, a stream keeps what it is told instead of doing it.
struct Stream {
    bool captured = false;
    std::vector<std::function<void()>> kept;
    void work(std::function<void()> task);
};
}  // namespace emulator
using cudaStream_t = emulator::Stream*;
using cudaGraph_t = std::vector<std::function<void()>>*;
using cudaGraphExec_t = std::vector<std::function<void()>>*;
using cudaEvent_t = double*;  // seconds

const char* cudaGetErrorName(cudaError_t error);
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaRuntimeGetVersion(int* version);
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaMalloc(void** memory, size_t bytes);
cudaError_t cudaFree(void* memory);
cudaError_t cudaMallocHost(void** memory, size_t bytes);
cudaError_t cudaFreeHost(void* memory);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* at, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventCreate(cudaEvent_t* event);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable);

// The dynamic shared memory that a kernel was allowed, of all its launches.
template <class... P>
int& allowed_dynamic_shared(void (*kernel)(P...)) {
    static std::map<void (*)(P...), int> allowed;
    return allowed[kernel];
}
template <class... P>
cudaError_t cudaFuncSetAttribute(void (*kernel)(P...), cudaFuncAttribute, int bytes) {
    allowed_dynamic_shared(kernel) = bytes;
    return cudaSuccess;
}

struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
    void* attrs;
    unsigned numAttrs;
};

template <class... P, class... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(P...),
                               A&&... arguments) {
    const cudaLaunchConfig_t c = *config;
    // A GPU counts a kernel's static memory too, which is not known here: at most 16 KiB.
    const int dynamic = static_cast<int>(c.dynamicSmemBytes);
    if (dynamic > 32 * 1024 && allowed_dynamic_shared(kernel) < dynamic)
        return cudaErrorInvalidValue;
    // As a launch does: every parameter is copied.
    std::tuple<P...> parameters{static_cast<P>(arguments)...};
    c.stream->work([c, kernel, parameters] {
        emulator::run(c.gridDim, c.blockDim, c.dynamicSmemBytes,
                      [&] { std::apply(kernel, parameters); });
    });
    return cudaSuccess;
}
