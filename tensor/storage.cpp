#include "tensor/storage.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>
#include <string>
#include <utility>

#include "tensor/arena.hpp"
#include "tensor/cuda.hpp"
#include "tensor/error.hpp"

namespace lumachrome {
namespace {

constexpr int64_t kAlignment = 64;      // one cache line, one AVX-512 register
constexpr int64_t kGpuAlignment = 256;  // as cudaMalloc's
// Up to this, blocks come from segments of their own: a bias that stays would cut the room of large
// tensors.
constexpr int64_t kSmall = int64_t{1} << 20, kSmallSegment = int64_t{4} << 20;
// Address space, not memory: pages nobody wrote to cost none. The larger, the less room is lost at
// the ends.
constexpr int64_t kSegment = int64_t{1} << 30;
// Of a GPU, where every byte of a segment is taken from others.
constexpr int64_t kGpuSegment = int64_t{256} << 20;

class HostMemory : public SegmentSource {
  public:
    std::byte* take(int64_t bytes) override {
        void* const at = std::aligned_alloc(kAlignment, static_cast<size_t>(bytes));
        // Fewer faults and fewer misses of the address cache: loading weights takes half the time.
        if (at && bytes >= kSegment) advise_huge(at, bytes);
        return static_cast<std::byte*>(at);
    }
    void give_back(std::byte* segment, int64_t) override { std::free(segment); }
    // The next use finds new pages.
    void unused(std::byte* at, int64_t bytes) override {
        const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
        const auto address = reinterpret_cast<uintptr_t>(at);
        const uintptr_t begin = (address + page - 1) / page * page;
        const uintptr_t end = (address + static_cast<uintptr_t>(bytes)) / page * page;
        if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
    }

  private:
    static void advise_huge(void* at, int64_t bytes) {
#if defined(MADV_HUGEPAGE)
        const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
        const uintptr_t begin = (reinterpret_cast<uintptr_t>(at) + page - 1) / page * page;
        const uintptr_t end = (reinterpret_cast<uintptr_t>(at) + uintptr_t(bytes)) / page * page;
        madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
    }
};

class GpuMemory : public SegmentSource {
  public:
    explicit GpuMemory(int index) : index_(index) {}
    std::byte* take(int64_t bytes) override { return cuda::take_segment(index_, bytes); }
    void give_back(std::byte* segment, int64_t) override {
        cuda::give_back_segment(index_, segment);
    }

  private:
    int index_;
};

std::string mebibytes(int64_t bytes) {
    return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB";
}

// Of all pools of a device together.
class Counters {
  public:
    void grown() {
        const std::lock_guard lock(mutex_);
        ++values_.system_allocations;
    }
    void add(int64_t bytes) {
        const std::lock_guard lock(mutex_);
        values_.live_bytes += bytes;
        values_.peak_live_bytes = std::max(values_.peak_live_bytes, values_.live_bytes);
    }
    StorageCounters values() {
        const std::lock_guard lock(mutex_);
        return values_;
    }

  private:
    std::mutex mutex_;
    StorageCounters values_{};
};

}  // namespace

class Pool {
  public:
    // `other`: gives up its unused memory where there is no room; may be null.
    Pool(Device device, SegmentSource& source, Counters& counters, Pool* other = nullptr)
        : device_(device),
          source_(&source),
          counters_(&counters),
          other_(other),
          small_(source, kSmallSegment),
          large_(source, device.kind == Device::cuda ? kGpuSegment : kSegment) {}
    ~Pool() { release_all(); }
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    std::byte* take(int64_t bytes) {
        const std::lock_guard lock(mutex_);
        Arena& arena = arena_for(bytes);
        std::byte* block = arena.take(bytes);
        if (!block) {
            if (!arena.grow(bytes)) {
                // Not of what is reserved: graphs hold its addresses, in use or not.
                if (other_)
                    other_->release();
                else
                    release_all();
                if (!arena.grow(bytes)) throw ResourceError(no_room(bytes));
            }
            counters_->grown();
            block = arena.take(bytes);
        }
        counters_->add(bytes);
        return block;
    }
    void give_back(std::byte* block, int64_t bytes) {
        const std::lock_guard lock(mutex_);
        counters_->add(-bytes);
        arena_for(bytes).give_back(block);
    }
    void release() {
        const std::lock_guard lock(mutex_);
        release_all();
    }
    StorageCounters counters() { return counters_->values(); }
    // Beside this one, on the same device.
    std::shared_ptr<Pool> reserved() {
        return std::make_shared<Pool>(device_, *source_, *counters_, this);
    }
    Device device() const { return device_; }

  private:
    Arena& arena_for(int64_t bytes) { return bytes <= kSmall ? small_ : large_; }
    void release_all() {
        small_.release();
        large_.release();
    }
    std::string no_room(int64_t bytes) const {
        const bool gpu = device_.kind == Device::cuda;
        return "out of memory" + (gpu ? " on " + device_.str() : std::string()) + ": a tensor of " +
               mebibytes(bytes) + " on top of " + mebibytes(counters_->values().live_bytes) +
               (gpu ? " (the device has " + mebibytes(cuda::properties(device_.index).bytes) + ")"
                    : std::string()) +
               "; try a smaller --size or --batch";
    }

    Device device_;
    SegmentSource* source_;
    Counters* counters_;
    Pool* other_;
    std::mutex mutex_;
    Arena small_, large_;
};

namespace {

// Never destroyed: tensors in statics may outlive any order.
class Pools {
  public:
    Pool& of(Device device) {
        if (device.kind == Device::cpu) return host_;
        const std::lock_guard lock(mutex_);
        auto& gpu = gpus_[device.index];
        if (!gpu) gpu = new Gpu(device);
        return gpu->pool;
    }
    void release() {
        host_.release();
        const std::lock_guard lock(mutex_);
        for (const auto& [index, gpu] : gpus_) gpu->pool.release();
    }

  private:
    struct Gpu {
        explicit Gpu(Device device) : memory(device.index), pool(device, memory, counters) {}
        GpuMemory memory;
        Counters counters;
        Pool pool;
    };
    HostMemory memory_;
    Counters counters_;
    Pool host_{Device{}, memory_, counters_};
    std::mutex mutex_;
    std::map<int, Gpu*> gpus_;
};

Pools& pools() {
    static Pools* instance = new Pools;
    return *instance;
}

thread_local std::shared_ptr<Pool> current_reserved;  // of a Scope; null: none

// Whoever has memory of a reserved pool keeps it alive.
std::shared_ptr<Pool> pool_for(Device device) {
    if (current_reserved && current_reserved->device() == device) return current_reserved;
    return {std::shared_ptr<Pool>(), &pools().of(device)};
}

}  // namespace

ReservedStorage::ReservedStorage(Device device) : pool_(pools().of(device).reserved()) {}
ReservedStorage::Scope::Scope(const ReservedStorage& storage)
    : kept_(std::exchange(current_reserved, storage.pool_)) {}
ReservedStorage::Scope::~Scope() {
    current_reserved = std::move(kept_);
}

std::shared_ptr<std::byte> allocate(int64_t bytes, Device device) {
    if (bytes < 0 || bytes > (int64_t{1} << 46))
        throw ResourceError("out of memory: a tensor of " + std::to_string(bytes) + " bytes");
    const int64_t alignment = device.kind == Device::cuda ? kGpuAlignment : kAlignment;
    const int64_t size = (std::max<int64_t>(bytes, 1) + alignment - 1) / alignment * alignment;
#if defined(__SANITIZE_ADDRESS__)
    // Each tensor by itself, so that reading past its end is seen; on the emulated GPU too.
    // Not what a recorded graph will use again.
    if (device.kind == Device::cuda && !current_reserved) {
        const int index = device.index;
        if (auto* const alone = cuda::take_segment(index, std::max<int64_t>(bytes, 1)))
            return {alone, [index](std::byte* p) { cuda::give_back_segment(index, p); }};
    }
    if (device.kind == Device::cpu) {
        auto* const alone = static_cast<std::byte*>(::operator new (
            static_cast<size_t>(std::max<int64_t>(bytes, 1)), std::align_val_t{kAlignment}));
        return {alone, [](std::byte* p) { ::operator delete (p, std::align_val_t{kAlignment}); }};
    }
#endif
    std::shared_ptr<Pool> pool = pool_for(device);
    std::byte* const block = pool->take(size);
    return {block, [pool = std::move(pool), size](std::byte* p) { pool->give_back(p, size); }};
}

StorageCounters storage_counters(Device device) {
    return pools().of(device).counters();
}
void release_cached_storage() {
    pools().release();
}

int64_t resident_bytes() {
    int64_t total = 0, resident = 0;  // pages
    if (std::FILE* file = std::fopen("/proc/self/statm", "r")) {
        if (std::fscanf(file, "%" SCNd64 " %" SCNd64, &total, &resident) != 2) resident = 0;
        std::fclose(file);
    }
    return resident * sysconf(_SC_PAGESIZE);
}

}  // namespace lumachrome
