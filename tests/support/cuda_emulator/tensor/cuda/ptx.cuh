// Stands in for tensor/cuda/ptx.cuh, which says what each function does.
#pragma once
#include <cuda_runtime.h>

#include "tensor/dtype.hpp"

namespace lumachrome::cuda {

inline std::byte* dynamic_shared() {
    return emulator::dynamic_shared();
}

inline void cp_async_16(void* shared, const void* global, bool valid) {
    emulator::start_copy({static_cast<std::byte*>(shared), static_cast<const std::byte*>(global),
                          valid ? 16u : 0u, valid ? 0u : 16u});
}
inline void cp_async_4(void* shared, const void* global, bool valid) {
    emulator::start_copy({static_cast<std::byte*>(shared), static_cast<const std::byte*>(global),
                          valid ? 4u : 0u, valid ? 0u : 4u});
}
inline void cp_async_commit() {
    emulator::commit_copies();
}
template <int kPending>
void cp_async_wait() {
    emulator::wait_copies(kPending);
}

namespace emulated {

// Element (row, column) of matrix m, whose rows' addresses the lanes gave.
inline uint32_t matrix_element(unsigned matrix, unsigned row, unsigned column) {
    const auto* at = emulator::value_of_lane<const std::byte*>(8 * matrix + row);
    uint16_t bits;
    std::memcpy(&bits, at + 2 * column, sizeof bits);
    return bits;
}
inline void load_matrices(uint32_t (&out)[4], const void* row, bool transposed) {
    if (reinterpret_cast<uintptr_t>(row) % 16 != 0) throw emulator::Error("a misaligned ldmatrix");
    emulator::exchange(&row, sizeof row);
    const unsigned g = emulator::lane() / 4, t = 2 * (emulator::lane() % 4);
    for (unsigned m = 0; m < 4; ++m)
        out[m] = transposed ? matrix_element(m, t, g) | matrix_element(m, t + 1, g) << 16
                            : matrix_element(m, g, t) | matrix_element(m, g, t + 1) << 16;
    __syncwarp();  // memory may change only when all have read
}

struct Fragments {
    uint32_t a[4], b[2];
};
inline float half_of(uint32_t bits, unsigned half) {
    return bf16_to_float(static_cast<uint16_t>(half ? bits >> 16 : bits & 0xffff));
}

}  // namespace emulated

inline void ldmatrix_x4(uint32_t (&out)[4], const void* row) {
    emulated::load_matrices(out, row, false);
}
inline void ldmatrix_x4_transposed(uint32_t (&out)[4], const void* row) {
    emulated::load_matrices(out, row, true);
}

inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    emulated::Fragments own{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
    emulator::exchange(&own, sizeof own);
    const unsigned g = emulator::lane() / 4, t = emulator::lane() % 4;
    for (unsigned i = 0; i < 4; ++i) {
        const unsigned high = i / 2, column = 2 * t + i % 2;
        float sum = d[i];
        for (unsigned k = 0; k < 16; ++k) {
            const auto of_a = emulator::value_of_lane<emulated::Fragments>(4 * g + k % 8 / 2);
            const auto of_b = emulator::value_of_lane<emulated::Fragments>(4 * column + k % 8 / 2);
            sum += emulated::half_of(of_a.a[high + 2 * (k / 8)], k % 2) *
                   emulated::half_of(of_b.b[k / 8], k % 2);
        }
        d[i] = sum;
    }
}
// The hardware reads the upper 19 bits.
inline void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    emulated::Fragments own{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
    emulator::exchange(&own, sizeof own);
    const auto value = [](uint32_t bits) { return __uint_as_float(bits & 0xffffe000u); };
    const unsigned g = emulator::lane() / 4, t = emulator::lane() % 4;
    for (unsigned i = 0; i < 4; ++i) {
        const unsigned high = i / 2, column = 2 * t + i % 2;
        float sum = d[i];
        for (unsigned k = 0; k < 8; ++k) {
            const auto of_a = emulator::value_of_lane<emulated::Fragments>(4 * g + k % 4);
            const auto of_b = emulator::value_of_lane<emulated::Fragments>(4 * column + k % 4);
            sum += value(of_a.a[high + 2 * (k / 4)]) * value(of_b.b[k / 4]);
        }
        d[i] = sum;
    }
}
// To nearest, ties away from zero.
inline uint32_t to_tf32(float value) {
    const uint32_t bits = __float_as_uint(value);
    return std::isfinite(value) ? (bits + 0x1000u) & 0xffffe000u : bits & 0xffffe000u;
}
inline uint32_t pack_bf16(float low, float high) {
    return uint32_t{float_to_bf16(low)} | uint32_t{float_to_bf16(high)} << 16;
}

}  // namespace lumachrome::cuda
