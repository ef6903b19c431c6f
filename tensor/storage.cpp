#include "tensor/storage.hpp"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "tensor/error.hpp"

namespace lumachrome {
namespace {

constexpr int64_t kAlignment = 64;  // one cache line, one AVX-512 register

class Pool {
  public:
    void* take(int64_t bytes) {
        const std::lock_guard lock(mutex_);
        void* block = nullptr;
        if (auto it = free_.find(bytes); it != free_.end() && !it->second.empty()) {
            block = it->second.back();
            it->second.pop_back();
        } else {
            block = std::aligned_alloc(kAlignment, static_cast<size_t>(bytes));
            if (!block) {  // blocks of other sizes may lie unused
                free_all();
                block = std::aligned_alloc(kAlignment, static_cast<size_t>(bytes));
            }
            if (!block)
                throw ResourceError("out of memory: a tensor of " + std::to_string(bytes >> 20) +
                                    " MiB on top of " + std::to_string(counters_.live_bytes >> 20) +
                                    " MiB; try a smaller --size or --batch");
            ++counters_.system_allocations;
        }
        counters_.live_bytes += bytes;
        counters_.peak_live_bytes = std::max(counters_.peak_live_bytes, counters_.live_bytes);
        return block;
    }
    void give_back(void* block, int64_t bytes) {
        const std::lock_guard lock(mutex_);
        counters_.live_bytes -= bytes;
        free_[bytes].push_back(block);
    }
    void release() {
        const std::lock_guard lock(mutex_);
        free_all();
    }
    StorageCounters counters() {
        const std::lock_guard lock(mutex_);
        return counters_;
    }

  private:
    void free_all() {
        for (auto& [bytes, blocks] : free_)
            for (void* block : blocks) std::free(block);
        free_.clear();
    }
    std::mutex mutex_;
    std::map<int64_t, std::vector<void*>> free_;
    StorageCounters counters_{};
};

Pool& pool() {
    static Pool* instance = new Pool;  // never destroyed: tensors in statics may outlive any order
    return *instance;
}

// Size classes of 1/8 of a power of two: at most 12.5 % waste, and photos of nearly equal size
// reuse each other's blocks.
int64_t size_class(int64_t bytes) {
    const int64_t rounded = std::max(bytes, kAlignment);
    const int64_t step =
        std::max<int64_t>(kAlignment, static_cast<int64_t>(std::bit_floor(uint64_t(rounded))) / 8);
    return (rounded + step - 1) / step * step;
}

}  // namespace

std::shared_ptr<std::byte> allocate_cpu(int64_t bytes) {
    if (bytes < 0 || bytes > (int64_t{1} << 46))
        throw ResourceError("out of memory: a tensor of " + std::to_string(bytes) + " bytes");
    const int64_t size = size_class(bytes);
    auto* block = static_cast<std::byte*>(pool().take(size));
    return {block, [size](std::byte* p) { pool().give_back(p, size); }};
}

StorageCounters storage_counters() {
    return pool().counters();
}
void release_cached_storage() {
    pool().release();
}

}  // namespace lumachrome
