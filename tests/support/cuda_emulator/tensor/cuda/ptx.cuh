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
// The hardware reads the upper 19 bits of a tf32.
inline float tf32_of(uint32_t bits) {
    return __uint_as_float(bits & 0xffffe000u);
}

// d += a b with kValues elements to a register.
template <unsigned kValues>
void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    const Fragments own{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
    emulator::exchange(&own, sizeof own);
    constexpr unsigned kDepth = 8 * kValues;
    float rows[2][kDepth], columns[2][kDepth];  // the two of each that this lane multiplies
    const unsigned g = emulator::lane() / 4, t = emulator::lane() % 4;
    for (unsigned lane = 0; lane < 4; ++lane)
        for (unsigned i = 0; i < 2; ++i) {
            const auto of_row = emulator::value_of_lane<Fragments>(4 * g + lane);
            const auto of_column = emulator::value_of_lane<Fragments>(4 * (2 * t + i) + lane);
            for (unsigned high = 0; high < 2; ++high)
                for (unsigned v = 0; v < kValues; ++v) {
                    const unsigned k = 4 * kValues * high + kValues * lane + v;
                    const uint32_t left = of_row.a[i + 2 * high], right = of_column.b[high];
                    rows[i][k] = kValues == 2 ? half_of(left, v) : tf32_of(left);
                    columns[i][k] = kValues == 2 ? half_of(right, v) : tf32_of(right);
                }
        }
    for (unsigned i = 0; i < 4; ++i)
        for (unsigned k = 0; k < kDepth; ++k) d[i] += rows[i / 2][k] * columns[i % 2][k];
}

}  // namespace emulated

inline void ldmatrix_x4(uint32_t (&out)[4], const void* row) {
    emulated::load_matrices(out, row, false);
}
inline void ldmatrix_x4_transposed(uint32_t (&out)[4], const void* row) {
    emulated::load_matrices(out, row, true);
}

inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    emulated::multiply<2>(d, a, b);
}
inline void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    emulated::multiply<1>(d, a, b);
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
