#include "tensor/storage.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <map>
#include <mutex>
#include <new>
#include <set>
#include <string>
#include <utility>

#include "tensor/error.hpp"

namespace lumachrome {
namespace {

constexpr int64_t kAlignment = 64;  // one cache line, one AVX-512 register
// Up to this, blocks come from segments of their own: a bias that stays would cut the room of large
// tensors.
constexpr int64_t kSmall = int64_t{1} << 20, kSmallSegment = int64_t{4} << 20;
// Address space, not memory: pages nobody wrote to cost none. The larger, the less room is lost at
// the ends.
constexpr int64_t kSegment = int64_t{1} << 30;

// Cuts segments of the operating system's memory into blocks: the smallest free one that is large
// enough, and neighbours that are both free are one. What a pass has freed thus fits tensors of any
// size, and the peak of the process stays close to that of the live tensors.
class Arena {
  public:
    explicit Arena(int64_t segment) : segment_(segment) {}

    std::byte* take(int64_t bytes) {
        const auto fit = free_.lower_bound({bytes, nullptr});
        if (fit == free_.end()) return nullptr;
        std::byte* const at = fit->second;
        free_.erase(fit);
        Block& block = blocks_.at(at);
        if (block.bytes > bytes) {
            add_free(at + bytes, {block.bytes - bytes, false});
            block.bytes = bytes;
        }
        block.used = true;
        return at;
    }
    void give_back(std::byte* at) {
        auto block = blocks_.find(at);
        block->second.used = false;
        if (const auto next = std::next(block); next != blocks_.end() && joins(*block, *next)) {
            free_.erase({next->second.bytes, next->first});
            block->second.bytes += next->second.bytes;
            blocks_.erase(next);
        }
        if (block != blocks_.begin())
            if (const auto before = std::prev(block); joins(*before, *block)) {
                free_.erase({before->second.bytes, before->first});
                before->second.bytes += block->second.bytes;
                blocks_.erase(block);
                block = before;
            }
        free_.insert({block->second.bytes, block->first});
    }
    // Asks the operating system for room for `bytes`; it may be stingy with address space.
    bool grow(int64_t bytes) {
        for (int64_t size = std::max(bytes, segment_);; size = std::max(bytes, size / 2)) {
            void* const at = std::aligned_alloc(kAlignment, static_cast<size_t>(size));
            // Fewer faults and fewer misses of the address cache: loading weights takes half the
            // time.
            if (at && size >= kSegment) madvise_huge(at, size);
            if (at) add_free(static_cast<std::byte*>(at), {size, true});
            if (at || size == bytes) return at != nullptr;
        }
    }
    // Segments without a used block are freed; in the others, the pages of free blocks.
    void release() {
        for (auto block = blocks_.begin(); block != blocks_.end();) {
            const auto next = std::next(block);
            const auto& [at, b] = *block;
            if (!b.used && b.first && (next == blocks_.end() || next->second.first)) {
                free_.erase({b.bytes, at});
                std::free(at);
                blocks_.erase(block);
            } else if (!b.used) {
                drop_pages(at, b.bytes);
            }
            block = next;
        }
    }

  private:
    struct Block {
        int64_t bytes;
        bool first;  // of its segment
        bool used = false;
    };
    using Place = std::pair<std::byte* const, Block>;

    static void madvise_huge(void* at, int64_t bytes) {
#if defined(MADV_HUGEPAGE)
        const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
        const uintptr_t begin = (reinterpret_cast<uintptr_t>(at) + page - 1) / page * page;
        const uintptr_t end = (reinterpret_cast<uintptr_t>(at) + uintptr_t(bytes)) / page * page;
        madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
    }
    static bool joins(const Place& a, const Place& b) {
        return !a.second.used && !b.second.used && !b.second.first;
    }
    // The next use finds new pages.
    static void drop_pages(std::byte* at, int64_t bytes) {
        const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
        const auto address = reinterpret_cast<uintptr_t>(at);
        const uintptr_t begin = (address + page - 1) / page * page;
        const uintptr_t end = (address + static_cast<uintptr_t>(bytes)) / page * page;
        if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
    }
    void add_free(std::byte* at, Block block) {
        blocks_.emplace(at, block);
        free_.insert({block.bytes, at});
    }
    int64_t segment_;
    std::map<std::byte*, Block> blocks_;
    std::set<std::pair<int64_t, std::byte*>> free_;
};

class Pool {
  public:
    std::byte* take(int64_t bytes) {
        const std::lock_guard lock(mutex_);
        Arena& arena = arena_for(bytes);
        std::byte* block = arena.take(bytes);
        if (!block) {
            if (!arena.grow(bytes)) {
                release_all();
                if (!arena.grow(bytes))
                    throw ResourceError("out of memory: a tensor of " +
                                        std::to_string(bytes >> 20) + " MiB on top of " +
                                        std::to_string(counters_.live_bytes >> 20) +
                                        " MiB; try a smaller --size or --batch");
            }
            ++counters_.system_allocations;
            block = arena.take(bytes);
        }
        counters_.live_bytes += bytes;
        counters_.peak_live_bytes = std::max(counters_.peak_live_bytes, counters_.live_bytes);
        return block;
    }
    void give_back(std::byte* block, int64_t bytes) {
        const std::lock_guard lock(mutex_);
        counters_.live_bytes -= bytes;
        arena_for(bytes).give_back(block);
    }
    void release() {
        const std::lock_guard lock(mutex_);
        release_all();
    }
    StorageCounters counters() {
        const std::lock_guard lock(mutex_);
        return counters_;
    }

  private:
    Arena& arena_for(int64_t bytes) { return bytes <= kSmall ? small_ : large_; }
    void release_all() {
        small_.release();
        large_.release();
    }
    std::mutex mutex_;
    Arena small_{kSmallSegment}, large_{kSegment};
    StorageCounters counters_{};
};

Pool& pool() {
    static Pool* instance = new Pool;  // never destroyed: tensors in statics may outlive any order
    return *instance;
}

}  // namespace

std::shared_ptr<std::byte> allocate_cpu(int64_t bytes) {
    if (bytes < 0 || bytes > (int64_t{1} << 46))
        throw ResourceError("out of memory: a tensor of " + std::to_string(bytes) + " bytes");
#if defined(__SANITIZE_ADDRESS__)
    // Each tensor by itself, so that reading past its end is seen.
    auto* const alone = static_cast<std::byte*>(::operator new (
        static_cast<size_t>(std::max<int64_t>(bytes, 1)), std::align_val_t{kAlignment}));
    return {alone, [](std::byte* p) { ::operator delete (p, std::align_val_t{kAlignment}); }};
#else
    const int64_t size = (std::max<int64_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
    return {pool().take(size), [size](std::byte* p) { pool().give_back(p, size); }};
#endif
}

StorageCounters storage_counters() {
    return pool().counters();
}
void release_cached_storage() {
    pool().release();
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
