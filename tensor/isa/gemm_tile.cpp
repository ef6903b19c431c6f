// Sums of kMaxRows x 2 registers; two more hold the row of b, and a is broadcast from memory.
#include "tensor/gemm_tile.hpp"
#include "tensor/isa/vector.hpp"

namespace lumachrome::LUMACHROME_ISA {
namespace {

constexpr int64_t kMaxRows = kRegisters == 32 ? 14 : 6;
constexpr int64_t kLine = 16;  // floats of a cache line

template <int64_t kRows>
struct Sums {
    Vector sum[kRows][2];

    [[gnu::always_inline]] inline Sums(const float* c, int64_t c_row, bool add) {
#pragma GCC unroll 14
        for (int64_t r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = Vector{};
        if (!add) return;
#pragma GCC unroll 14
        for (int64_t r = 0; r < kRows; ++r) {
            sum[r][0] = load(c + r * c_row);
            sum[r][1] = load(c + r * c_row + kLanes);
        }
    }
    // One step of the depth.
    [[gnu::always_inline]] inline void add_product(const float* a, int64_t a_row, const float* b) {
        const Vector b0 = load(b), b1 = load(b + kLanes);
#pragma GCC unroll 14
        for (int64_t r = 0; r < kRows; ++r) {
            const float value = a[r * a_row];
            sum[r][0] += value * b0;
            sum[r][1] += value * b1;
        }
    }
    [[gnu::always_inline]] inline void store_to(float* c, int64_t c_row) const {
#pragma GCC unroll 14
        for (int64_t r = 0; r < kRows; ++r) {
            store(c + r * c_row, sum[r][0]);
            store(c + r * c_row + kLanes, sum[r][1]);
        }
    }
};

// kRowStep: a_row, where it is known. Addresses of all rows are then one register and constants,
// and the next chunk of a, which follows, is fetched.
template <int64_t kRows, int64_t kRowStep, bool kFetch>
void multiply_rows(const float* a, int64_t a_row, int64_t a_chunk, const float* b, float* c,
                   int64_t c_row, int64_t depth, bool add, const float* fetch) {
    if (kRowStep) a_row = kRowStep;
    Sums<kRows> sums(c, c_row, add);
    for (; depth > 0; depth -= kPanel, a += a_chunk) {
        const float* const end = b + smaller(depth, kPanel) * kPanel;
        const float *from = a, *next = a + a_chunk;
#pragma GCC unroll 1
        for (; b < end; b += kPanel, ++from) {
            if (kRowStep) __builtin_prefetch(next);
            next += kLine;
            if (kFetch) {
                for (int64_t i = 0; i < kPanel; i += kLine) __builtin_prefetch(fetch + i, 0, 2);
                fetch += kPanel;
            }
            sums.add_product(from, a_row, b);
        }
    }
    sums.store_to(c, c_row);
}

template <int64_t kRows>
void multiply_ahead(const float* a, int64_t a_row, int64_t a_chunk, const float* b, float* c,
                    int64_t c_row, int64_t rows, int64_t depth, bool add, const float* fetch) {
    if constexpr (kRows > 1)
        if (rows < kRows)
            return multiply_ahead<kRows - 1>(a, a_row, a_chunk, b, c, c_row, rows, depth, add,
                                             fetch);
    const auto run = a_row != kPanel ? multiply_rows<kRows, 0, false>
                     : fetch         ? multiply_rows<kRows, kPanel, true>
                                     : multiply_rows<kRows, kPanel, false>;
    run(a, a_row, a_chunk, b, c, c_row, depth, add, fetch);
}

void multiply(const float* a, int64_t a_row, int64_t a_chunk, const float* b, float* c,
              int64_t c_row, int64_t rows, int64_t depth, bool add) {
    multiply_ahead<kMaxRows>(a, a_row, a_chunk, b, c, c_row, rows, depth, add, nullptr);
}

template <int64_t kRows>
void multiply_turned(const float* a, const float* b, float* c, int64_t c_row, int64_t rows,
                     int64_t depth, bool add) {
    if constexpr (kRows > 1)
        if (rows < kRows) return multiply_turned<kRows - 1>(a, b, c, c_row, rows, depth, add);
    Sums<kRows> sums(c, c_row, add);
#pragma GCC unroll 1
    for (; depth > 0; --depth, a += kPanel, b += kPanel) sums.add_product(a, 1, b);
    sums.store_to(c, c_row);
}

}  // namespace

extern const GemmTile gemm_tile;
const GemmTile gemm_tile{
    kLanes, kPanel, kMaxRows, multiply, multiply_ahead<kMaxRows>, multiply_turned<kMaxRows>};

}  // namespace lumachrome::LUMACHROME_ISA
