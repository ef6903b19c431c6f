// One kernel over many tensors: tables of their addresses travel as kernel arguments, so that
// nothing need be uploaded, waited for or kept in step with the tensors, and a captured launch
// holds its own. Every tensor is cut into chunks, one block each.
#pragma once
#include <cstdint>
#include <vector>

#include "tensor/cuda/pack.cuh"

namespace lumachrome::cuda {

// A table with what else a kernel needs stays below the 4096 bytes every CUDA version can pass.
constexpr int kTensorsInTable = 64;
constexpr int64_t kTableChunk = 8192;  // elements: 32 per thread

template <class T>
struct TensorTable {
    struct Entry {
        // What a kernel reads and writes; null where it needs none.
        const T* grad;
        T *w, *s1, *s2;
        int64_t count;
        int32_t first_block;
        int32_t index : 31;    // among all tensors given, in all tables
        uint32_t aligned : 1;  // all of the above to 16 bytes
    };
    Entry entries[kTensorsInTable];
    int tensors = 0, blocks = 0;

    void add(int index, int64_t count, const T* grad, T* w = nullptr, T* s1 = nullptr,
             T* s2 = nullptr) {
        const auto bits = reinterpret_cast<uintptr_t>(grad) | reinterpret_cast<uintptr_t>(w) |
                          reinterpret_cast<uintptr_t>(s1) | reinterpret_cast<uintptr_t>(s2);
        entries[tensors++] = {grad, w, s1, s2, count, blocks, index, bits % 16 == 0};
        blocks += static_cast<int>(ceil_div(count, kTableChunk));
    }
    // The tensor that block b works on.
    __device__ const Entry& of_block(int b) const {
        int low = 0, high = tensors;  // the entry is in [low, high)
        while (high - low > 1) {
            const int middle = (low + high) / 2;
            if (entries[middle].first_block <= b)
                low = middle;
            else
                high = middle;
        }
        return entries[low];
    }
};

// Collects tensors into as few tables as hold them.
template <class T>
struct TensorTables {
    std::vector<TensorTable<T>> tables;
    template <class... Pointers>
    void add(int index, int64_t count, Pointers... pointers) {
        if (count == 0) return;
        if (tables.empty() || tables.back().tensors == kTensorsInTable) tables.emplace_back();
        tables.back().add(index, count, pointers...);
    }
};

// Calls one(i, packed) for every place of the calling block's chunk that falls to the calling
// thread: with std::true_type for kPackOf<T> elements from i on, with std::false_type for one.
template <class T, class F>
__device__ __forceinline__ void for_chunk(const typename TensorTable<T>::Entry& entry,
                                          const F& one) {
    const int64_t begin = (int64_t{blockIdx.x} - entry.first_block) * kTableChunk;
    const int64_t end = begin + kTableChunk < entry.count ? begin + kTableChunk : entry.count;
    const int64_t packed = entry.aligned ? begin + (end - begin) / kPackOf<T> * kPackOf<T> : begin;
    for (int64_t i = begin + int64_t{threadIdx.x} * kPackOf<T>; i < packed;
         i += int64_t{blockDim.x} * kPackOf<T>)
        one(i, std::true_type{});
    for (int64_t i = packed + threadIdx.x; i < end; i += blockDim.x) one(i, std::false_type{});
}

}  // namespace lumachrome::cuda
