#include <sys/mman.h>

#include <chrono>
#include <map>
#include <mutex>
#include <vector>

#include "cuda_runtime.h"

namespace {

// Memory of the device. The CPU may not touch it but through the functions below.
class DeviceMemory {
  public:
    void* take(size_t bytes) {
        // On large pages, where there are any: protect() then has 512 times less to change.
        constexpr size_t kLarge = size_t{2} << 20;
        const size_t reserved = bytes + kLarge;
        void* const begin = mmap(nullptr, reserved, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (begin == MAP_FAILED) return nullptr;
        void* at = begin;
        size_t space = reserved;
        std::align(kLarge, bytes, at, space);
        if (at != begin) munmap(begin, reserved - space);
        madvise(at, bytes, MADV_HUGEPAGE);
        const std::lock_guard lock(mutex_);
        segments_[at] = space;
        if (users_ == 0) mprotect(at, space, PROT_NONE);
        return at;
    }
    void give_back(void* at) {
        const std::lock_guard lock(mutex_);
        munmap(at, segments_.at(at));
        segments_.erase(at);
    }
    void open() {
        const std::lock_guard lock(mutex_);
        if (users_++ == 0) protect(PROT_READ | PROT_WRITE);
    }
    void close() {
        const std::lock_guard lock(mutex_);
        if (--users_ == 0) protect(PROT_NONE);
    }

  private:
    void protect(int how) {
        for (const auto& [at, bytes] : segments_) mprotect(at, bytes, how);
    }
    std::mutex mutex_;
    std::map<void*, size_t> segments_;
    int users_ = 0;
};

DeviceMemory& memory() {
    static auto* instance = new DeviceMemory;
    return *instance;
}

struct Opened {
    Opened() { memory().open(); }
    ~Opened() { memory().close(); }
};

}  // namespace

void emulator::Stream::work(std::function<void()> task) {
    if (captured) {
        kept.push_back(std::move(task));
        return;
    }
    const Opened opened;
    task();
}

const char* cudaGetErrorName(cudaError_t error) {
    return error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation"
                                              : "cudaErrorInvalidValue";
}
const char* cudaGetErrorString(cudaError_t error) {
    return error == cudaErrorMemoryAllocation ? "out of memory" : "invalid argument";
}
cudaError_t cudaGetLastError() {
    return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
    *count = 1;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
    *properties = {.name = "emulated GPU",
                   .major = 9,
                   .minor = 0,
                   .multiProcessorCount = 4,  // few, so that small tests cut their work too
                   .l2CacheSize = 50 << 20,
                   .totalGlobalMem = size_t{4} << 30,
                   .sharedMemPerBlockOptin = 227 << 10};
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
    return device == 0 ? cudaSuccess : cudaErrorInvalidValue;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
    *version = 13000;
    return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
    *version = 0;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void** at, size_t bytes) {
    *at = bytes > (size_t{4} << 30) ? nullptr : memory().take(bytes);
    if (!*at) return cudaErrorMemoryAllocation;
    if (bytes <= (size_t{64} << 20)) {  // beyond, filling would cost real memory
        const Opened opened;
        std::memset(*at, 0xff, bytes);
    }
    return cudaSuccess;
}
cudaError_t cudaFree(void* at) {
    memory().give_back(at);
    return cudaSuccess;
}
cudaError_t cudaMallocHost(void** at, size_t bytes) {
    *at = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    return *at ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFreeHost(void* at) {
    std::free(at);
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
    stream->work([=] { std::memmove(to, from, bytes); });
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* at, int value, size_t bytes, cudaStream_t stream) {
    stream->work([=] { std::memset(at, value, bytes); });
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
    *stream = new emulator::Stream;
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    delete stream;
    return cudaSuccess;
}
// Waiting inside a capture is an error there too.
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    return stream->captured ? cudaErrorInvalidValue : cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) {
    return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
    *event = new double(0);
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) {
    return cudaEventCreateWithFlags(event, 0);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
    using Clock = std::chrono::steady_clock;
    *event = std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t) {
    return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
    *milliseconds = static_cast<float>((*end - *start) * 1000);
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    stream->captured = true;
    stream->kept.clear();
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
    stream->captured = false;
    *graph = new std::vector<std::function<void()>>(std::move(stream->kept));
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
    *executable = new std::vector<std::function<void()>>(*graph);
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
    for (const auto& task : *executable) stream->work(task);
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
    delete executable;
    return cudaSuccess;
}
