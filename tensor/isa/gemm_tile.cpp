// Sums of kMaxRows x 2 registers; two more hold the row of b, and a is broadcast from memory.
#include "tensor/gemm_tile.hpp"
#include "tensor/isa/vector.hpp"

namespace lumachrome::LUMACHROME_ISA {
namespace {

constexpr int64_t kMaxRows = kRegisters == 32 ? 14 : 6;

template <int64_t kRows>
void multiply_rows(const float* a, int64_t a_row, int64_t a_chunk, const float* b, float* c,
                   int64_t c_row, int64_t depth, bool add) {
    Vector sum[kRows][2] = {};
    if (add)
        for (int64_t r = 0; r < kRows; ++r)
            for (int64_t h = 0; h < 2; ++h) sum[r][h] = load(c + r * c_row + h * kLanes);
    for (; depth > 0; depth -= kPanel, a += a_chunk) {
        const int64_t count = smaller(depth, kPanel);
        for (int64_t k = 0; k < count; ++k, b += kPanel) {
            const Vector b0 = load(b), b1 = load(b + kLanes);
#pragma GCC unroll 14
            for (int64_t r = 0; r < kRows; ++r) {
                const float value = a[r * a_row + k];
                sum[r][0] += value * b0;
                sum[r][1] += value * b1;
            }
        }
    }
    for (int64_t r = 0; r < kRows; ++r)
        for (int64_t h = 0; h < 2; ++h) store(c + r * c_row + h * kLanes, sum[r][h]);
}

template <int64_t kRows>
void choose_rows(const float* a, int64_t a_row, int64_t a_chunk, const float* b, float* c,
                 int64_t c_row, int64_t rows, int64_t depth, bool add) {
    if constexpr (kRows > 1)
        if (rows < kRows)
            return choose_rows<kRows - 1>(a, a_row, a_chunk, b, c, c_row, rows, depth, add);
    multiply_rows<kRows>(a, a_row, a_chunk, b, c, c_row, depth, add);
}

}  // namespace

extern const GemmTile gemm_tile;
const GemmTile gemm_tile{kLanes, kPanel, kMaxRows, choose_rows<kMaxRows>};

}  // namespace lumachrome::LUMACHROME_ISA
