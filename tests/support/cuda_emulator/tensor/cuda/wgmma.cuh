// Stands in for tensor/cuda/wgmma.cuh, which says what each function does.
#pragma once
#include "tensor/cuda/ptx.cuh"

namespace lumachrome::cuda {

constexpr bool kHasWarpgroupProducts = true;

struct alignas(8) Barrier {
    uint16_t arrivals, missing;
    uint32_t phase;
};
inline void barrier_init(Barrier* barrier, unsigned arrivals) {
    const auto count = static_cast<uint16_t>(arrivals);
    *barrier = {count, count, 0};
}
inline void barrier_arrive(Barrier* barrier) {
    if (--barrier->missing > 0) return;
    barrier->missing = barrier->arrivals;
    ++barrier->phase;
}
inline void barrier_arrive_after_copies(Barrier* barrier) {
    emulator::commit_copies([barrier] { barrier_arrive(barrier); });
}
inline void barrier_wait(Barrier* barrier, unsigned parity) {
    while (barrier->phase % 2 == parity) emulator::yield();
}

template <int kRegisters>
void give_up_registers() {}
template <int kRegisters>
void take_registers() {}

inline void fence_for_products() {
    emulator::fence_for_products();
}
inline void products_fence() {
    emulator::products().fence();
}
inline void products_commit() {
    emulator::products().commit();
}
template <int kPending>
void products_wait() {
    emulator::wait_products(kPending);
}
template <int kCount>
void pin(float (&)[kCount]) {}
inline int computed_here(int value) {
    return value;
}

inline uint64_t swizzled_matrix(const void* shared, uint32_t leading_bytes, uint32_t stride_bytes) {
    const auto address =
        static_cast<uint64_t>(static_cast<const std::byte*>(shared) - emulator::dynamic_shared());
    return uint64_t{1} << 62 | uint64_t{stride_bytes >> 4} << 32 |
           uint64_t{leading_bytes >> 4} << 16 | (address & 0x3ffff) >> 4;
}
inline uint64_t advance(uint64_t matrix, uint32_t bytes) {
    return matrix + (bytes >> 4);
}

template <bool kAdd, bool kDepthAlongRows, int kColumns>
void product(float (&d)[kColumns / 2], uint64_t a, uint64_t b) {
    emulator::start_product({d, a, b, kColumns, kDepthAlongRows, kAdd});
}

}  // namespace lumachrome::cuda
