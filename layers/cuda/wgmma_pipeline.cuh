// What the convolutions on warpgroup products share: the way of tiles through shared memory. A
// block is three warpgroups: one copies 16-byte pieces (8 channels) of both matrices into a ring of
// stages, each 64 deep; two multiply, each its half of the rows. Barriers say when a stage is full
// and when it is empty again.
//
// Copies are cp.async, because a window hangs over the border and jumps from row to row of the map:
// zeros come for free where a piece is outside. The copying threads never wait for them, each
// copy's landing counts as its thread's arrival; so all stages but those read can be under way.
#pragma once
#include <type_traits>

#include "tensor/cuda/wgmma.cuh"

namespace lumachrome::wgmma {

constexpr int kDepth = 64;      // of a stage: 128 bytes of bf16, the width of the swizzle
constexpr int kRowBytes = 128;  // of a stage's matrices
constexpr int kSlabBytes = 64 * kRowBytes;
constexpr int kGroup = 128, kConsumers = 2, kThreads = (1 + kConsumers) * kGroup;
constexpr int kConsumerWarps = kConsumers * kGroup / 32;
// Of 65536 registers: 168 a thread at the launch, then these. Both are multiples of 8.
constexpr int kCopierRegisters = 88, kConsumerRegisters = 208;
static_assert((kCopierRegisters + kConsumers * kConsumerRegisters) * kGroup <= 65536);

// Shared memory of one tile shape; the stages are swizzled and so begin at multiples of 1024.
template <int kRows, int kColumns, int kStagingBytes>
struct Layout {
    static constexpr int kTileRows = kConsumers * kRows;
    static constexpr int kABytes = kTileRows * kRowBytes;
    static constexpr int kBBytes =
        (kColumns < 64 ? kColumns : (kColumns + 63) / 64 * 64) * kRowBytes;
    static constexpr int kStageBytes = kABytes + kBBytes;
    static constexpr int kFits = ((227 << 10) - kStagingBytes - 256) / kStageBytes;
    static constexpr int kStages = kFits < 8 ? kFits : 8;
    static_assert(kStages >= 3);
    static constexpr int kBytes =
        kStages * kStageBytes + kStagingBytes + 2 * kStages * int{sizeof(cuda::Barrier)};
    static __device__ std::byte* stage(int slot) {
        return cuda::dynamic_shared() + slot * kStageBytes;
    }
    static __device__ std::byte* staging() { return stage(kStages); }
    static __device__ cuda::Barrier* full() {
        return reinterpret_cast<cuda::Barrier*>(staging() + kStagingBytes);
    }
    static __device__ cuda::Barrier* empty() { return full() + kStages; }

    // By all threads.
    static __device__ void begin() {
        if (threadIdx.x == 0)
            for (int i = 0; i < kStages; ++i) {
                cuda::barrier_init(full() + i, kGroup);
                cuda::barrier_init(empty() + i, kConsumerWarps);
            }
        __syncthreads();
    }
};

// A position in the ring. Stages are filled and emptied in the same order, tile after tile.
template <class L>
struct Ring {
    int slot = 0;
    unsigned parity = 0;
    __device__ void step() {
        if (++slot < L::kStages) return;
        slot = 0;
        parity ^= 1;
    }
};

// The copying warpgroup's side.
template <class L>
class Filling {
  public:
    __device__ std::byte* begin() {
        cuda::barrier_wait(L::empty() + ring_.slot, ring_.parity ^ 1);
        return L::stage(ring_.slot);
    }
    __device__ void end() {
        cuda::barrier_arrive_after_copies(L::full() + ring_.slot);
        ring_.step();
    }
    __device__ void finish() {
        cuda::cp_async_commit();
        cuda::cp_async_wait<0>();
    }

  private:
    Ring<L> ring_;
};

// sums[m] = the rows 64m.. of consumer's part times all columns, over at least one stage. One group
// of products stays under way while the next stage is waited for. The first product replaces what
// the sums held: setting them to zero would be a write to registers of products under way, for all
// that ptxas can see, and it would let no two products overlap (its advice C7515).
template <bool kDepthAlongRows, class L, int kParts, int kSums>
__device__ __forceinline__ void multiply(float (&sums)[kParts][kSums], int consumer, int stages,
                                         Ring<L>& ring) {
    constexpr uint32_t kStep = kDepthAlongRows ? 16 * kRowBytes : 32;  // 16 deep
    constexpr uint32_t kLeading = kDepthAlongRows ? kSlabBytes : 16;
    const auto start_stage = [&](auto first) {
        const std::byte* const stage = L::stage(ring.slot);
        const uint64_t a =
            cuda::swizzled_matrix(stage + consumer * kParts * kSlabBytes, kLeading, 8 * kRowBytes);
        const uint64_t b = cuda::swizzled_matrix(stage + L::kABytes, kLeading, 8 * kRowBytes);
        cuda::barrier_wait(L::full() + ring.slot, ring.parity);
        cuda::fence_for_products();
        cuda::products_fence();
#pragma unroll
        for (int m = 0; m < kParts; ++m)
            cuda::product<!first, kDepthAlongRows, 2 * kSums>(sums[m],
                                                              cuda::advance(a, m * kSlabBytes), b);
#pragma unroll
        for (int k = 1; k < kDepth / 16; ++k)
#pragma unroll
            for (int m = 0; m < kParts; ++m)
                cuda::product<true, kDepthAlongRows, 2 * kSums>(
                    sums[m], cuda::advance(a, m * kSlabBytes + k * kStep),
                    cuda::advance(b, k * kStep));
        cuda::products_commit();
    };
    const auto release = [](int slot) {
        if (threadIdx.x % 32 == 0) cuda::barrier_arrive(L::empty() + slot);
    };
    start_stage(std::true_type{});
    int before = ring.slot;
    ring.step();
    for (int i = 1; i < stages; ++i) {
        start_stage(std::false_type{});
        cuda::products_wait<1>();
        release(before);
        before = ring.slot;
        ring.step();
    }
    cuda::products_wait<0>();
#pragma unroll
    for (int m = 0; m < kParts; ++m) cuda::pin(sums[m]);
    release(before);
}

}  // namespace lumachrome::wgmma
