#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <map>
#include <mutex>
#include <set>
#include <vector>

#include "cuda_runtime.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, bytes)
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes)
#endif

namespace {

// Memory of the device. The CPU may not touch it but through the functions below. A page that
// nobody may touch lies on either side, and a sanitizer sees the last byte.
class DeviceMemory {
    static constexpr size_t kLarge = size_t{2} << 20;
    struct Segment {
        size_t usable;
        void* begin;  // of all address space that belongs to it
        size_t reserved;
    };

  public:
    void* take(size_t bytes) {
        // On large pages, where there are any: protect() then has 512 times less to change.
        const size_t usable = (bytes + page_ - 1) / page_ * page_;
        const size_t alignment = usable >= kLarge ? kLarge : page_;
        const size_t reserved = usable + alignment + 2 * page_;
        void* const begin =
            mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (begin == MAP_FAILED) return nullptr;
        const auto first = reinterpret_cast<uintptr_t>(begin) + page_;
        auto* const at =
            reinterpret_cast<std::byte*>((first + alignment - 1) / alignment * alignment);
        if (alignment == kLarge) madvise(at, usable, MADV_HUGEPAGE);
        ASAN_POISON_MEMORY_REGION(at + bytes, usable - bytes);
        const std::lock_guard lock(mutex_);
        segments_[at] = {usable, begin, reserved};
        if (users_ > 0) mprotect(at, usable, PROT_READ | PROT_WRITE);
        return at;
    }
    void give_back(void* at) {
        const std::lock_guard lock(mutex_);
        const Segment& segment = segments_.at(at);
        ASAN_UNPOISON_MEMORY_REGION(at, segment.usable);
        munmap(segment.begin, segment.reserved);
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
        for (const auto& [at, segment] : segments_) mprotect(at, segment.usable, how);
    }
    const size_t page_ = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    std::mutex mutex_;
    std::map<void*, Segment> segments_;
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

// Streams that the program keeps until its end are no leak.
std::set<cudaStream_t>& streams() {
    static auto* instance = new std::set<cudaStream_t>;
    return *instance;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
    *stream = *streams().insert(new emulator::Stream).first;
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    streams().erase(stream);
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
