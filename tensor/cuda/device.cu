#include <map>
#include <mutex>
#include <vector>

#include "tensor/cuda/launch.cuh"
#include "tensor/tensor.hpp"

namespace lumachrome::cuda {
namespace {

struct Devices {
    std::string unavailable;
    std::vector<Properties> list;
    Devices() {
        int count = 0;
        const cudaError_t error = cudaGetDeviceCount(&count);
        if (error == cudaErrorInsufficientDriver)
            unavailable = "the NVIDIA driver is missing or older than this build's CUDA Toolkit";
        else if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0))
            unavailable = "this machine has no NVIDIA GPU";
        else if (error != cudaSuccess)
            unavailable = std::string("the NVIDIA driver says: ") + cudaGetErrorString(error);
        if (!unavailable.empty()) {
            cudaGetLastError();  // or the next call would report it
            return;
        }
        for (int index = 0; index < count; ++index) {
            cudaDeviceProp found;
            CUDA_TRY(cudaGetDeviceProperties(&found, index));
            list.push_back({.name = found.name,
                            .major = found.major,
                            .minor = found.minor,
                            .multiprocessors = found.multiProcessorCount,
                            .bytes = static_cast<int64_t>(found.totalGlobalMem),
                            .l2_bytes = found.l2CacheSize,
                            .shared_bytes = static_cast<int64_t>(found.sharedMemPerBlockOptin)});
        }
        if (list.front().major < 8)
            unavailable = list.front().name + " is older than compute capability 8.0";
    }
};

const Devices& devices() {
    static const Devices instance;
    return instance;
}

std::string version(int number) {
    return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
}

template <class T>
__global__ void fill_kernel(T* out, int64_t count, T value) {
    for (int64_t i = first_index(); i < count; i += index_step()) out[i] = value;
}

template <class T>
__global__ void add_kernel(T* out, int64_t count, double value) {
    for (int64_t i = first_index(); i < count; i += index_step())
        out[i] = static_cast<T>(static_cast<Wider<T>>(value + static_cast<double>(out[i])));
}

template <class To, class From>
__global__ void convert_kernel(To* out, const From* in, int64_t count) {
    for (int64_t i = first_index(); i < count; i += index_step())
        out[i] = static_cast<To>(static_cast<Wider<To>>(in[i]));
}

// Every thread that meets one writes the same value.
template <class T>
__global__ void find_non_finite(const T* in, int64_t count, int* found) {
    for (int64_t i = first_index(); i < count; i += index_step())
        if (!isfinite(static_cast<Wider<T>>(in[i]))) *found = 1;
}

}  // namespace

void throw_cuda_error(cudaError_t error, const char* what) {
    const std::string call(what);
    throw ResourceError("CUDA: " + std::string(cudaGetErrorString(error)) + " (" +
                        cudaGetErrorName(error) + " from " + call.substr(0, call.find('(')) + ")");
}

const std::string& unavailable() {
    return devices().unavailable;
}
int device_count() {
    return static_cast<int>(devices().list.size());
}
const Properties& properties(int index) {
    return devices().list.at(static_cast<size_t>(index));
}

std::string versions() {
    int driver = 0, runtime = 0;
    CUDA_TRY(cudaRuntimeGetVersion(&runtime));
    const bool known = cudaDriverGetVersion(&driver) == cudaSuccess && driver > 0;
    return "CUDA Toolkit " + version(runtime) +
           (known ? ", driver for CUDA " + version(driver) : ", no driver");
}

cudaStream_t stream(Device device) {
    if (!unavailable().empty()) throw ResourceError("device cuda: " + unavailable());
    if (device.index >= device_count())
        throw ResourceError("device " + device.str() + ": this machine has " +
                            std::to_string(device_count()));
    thread_local int current = -1;
    if (current != device.index) CUDA_TRY(cudaSetDevice(device.index));
    current = device.index;
    static std::mutex mutex;
    static std::map<int, cudaStream_t> streams;
    const std::lock_guard lock(mutex);
    auto [it, added] = streams.try_emplace(device.index, nullptr);
    if (added) CUDA_TRY(cudaStreamCreateWithFlags(&it->second, cudaStreamNonBlocking));
    return it->second;
}

std::byte* take_segment(int index, int64_t bytes) {
    stream({Device::cuda, index});
    void* memory = nullptr;
    const cudaError_t error = cudaMalloc(&memory, static_cast<size_t>(bytes));
    if (error == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        return nullptr;
    }
    CUDA_TRY(error);
    return static_cast<std::byte*>(memory);
}

// Called by destructors: after an error of the GPU every call fails, and the first has been told.
void give_back_segment(int, std::byte* segment) {
    cudaFree(segment);
}

void copy(std::byte* to, Device to_device, const std::byte* from, Device from_device,
          int64_t bytes) {
    const bool to_gpu = to_device.kind == Device::cuda, from_gpu = from_device.kind == Device::cuda;
    const cudaStream_t where = stream(to_gpu ? to_device : from_device);
    CUDA_TRY(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDefault, where));
    if (!to_gpu || !from_gpu) CUDA_TRY(cudaStreamSynchronize(where));
}

std::byte* take_pinned(int64_t bytes) {
    void* memory = nullptr;
    CUDA_TRY(cudaMallocHost(&memory, static_cast<size_t>(bytes)));
    return static_cast<std::byte*>(memory);
}

void give_back_pinned(std::byte* memory) {
    cudaFreeHost(memory);
}

void synchronize(Device device) {
    CUDA_TRY(cudaStreamSynchronize(stream(device)));
}

void fill(const Tensor& tensor, double value) {
    dispatch_activations(tensor.dtype(), [&](auto t) {
        using T = decltype(t);
        launch<fill_kernel<T>>(tensor.device(), blocks_for(tensor.numel()), kThreads, 0,
                               tensor.data<T>(), tensor.numel(),
                               static_cast<T>(static_cast<Wider<T>>(value)));
    });
}

void add(const Tensor& tensor, double value) {
    dispatch_activations(tensor.dtype(), [&](auto t) {
        using T = decltype(t);
        launch<add_kernel<T>>(tensor.device(), blocks_for(tensor.numel()), kThreads, 0,
                              tensor.data<T>(), tensor.numel(), value);
    });
}

void convert(const Tensor& to, const Tensor& from) {
    dispatch_activations(to.dtype(), [&](auto t) {
        dispatch_activations(from.dtype(), [&](auto f) {
            using To = decltype(t);
            using From = decltype(f);
            launch<convert_kernel<To, From>>(
                to.device(), blocks_for(to.numel()), kThreads, 0, to.data<To>(),
                static_cast<const From*>(from.data<From>()), to.numel());
        });
    });
}

bool all_finite(const Tensor& tensor) {
    const Tensor flag = Tensor::zeros({1}, DType::f32, tensor.device());
    auto* const found = reinterpret_cast<int*>(flag.raw());
    dispatch_activations(tensor.dtype(), [&](auto t) {
        using T = decltype(t);
        launch<find_non_finite<T>>(tensor.device(), blocks_for(tensor.numel()), kThreads, 0,
                                   static_cast<const T*>(tensor.data<T>()), tensor.numel(), found);
    });
    int host = 0;
    copy(reinterpret_cast<std::byte*>(&host), Device{}, flag.raw(), tensor.device(), sizeof host);
    return host == 0;
}

}  // namespace lumachrome::cuda
