// Sums of kMaxRows x 2 registers, as in tensor/isa/gemm_tile.cpp; rows divide a panel.
#include "layers/outer_tile.hpp"
#include "tensor/isa/vector.hpp"

namespace lumachrome::LUMACHROME_ISA {
namespace {

constexpr int64_t kMaxRows = kRegisters == 32 ? 8 : 4;

template <int64_t kRows>
void multiply_rows(const float* a, int64_t a_step, const float* b, int64_t b_step, float* c,
                   int64_t c_row, int64_t pixels, bool add) {
    Vector sum[kRows][2] = {};
    if (add)
        for (int64_t r = 0; r < kRows; ++r)
            for (int64_t h = 0; h < 2; ++h) sum[r][h] = load(c + r * c_row + h * kLanes);
    for (int64_t t = 0; t < pixels; ++t, a += a_step, b += b_step) {
        const Vector b0 = load(b), b1 = load(b + kLanes);
#pragma GCC unroll 8
        for (int64_t r = 0; r < kRows; ++r) {
            sum[r][0] += a[r] * b0;
            sum[r][1] += a[r] * b1;
        }
    }
    for (int64_t r = 0; r < kRows; ++r)
        for (int64_t h = 0; h < 2; ++h) store(c + r * c_row + h * kLanes, sum[r][h]);
}

template <int64_t kRows>
void choose_rows(const float* a, int64_t a_step, const float* b, int64_t b_step, float* c,
                 int64_t c_row, int64_t rows, int64_t pixels, bool add) {
    if constexpr (kRows > 1)
        if (rows < kRows)
            return choose_rows<kRows - 1>(a, a_step, b, b_step, c, c_row, rows, pixels, add);
    multiply_rows<kRows>(a, a_step, b, b_step, c, c_row, pixels, add);
}

}  // namespace

extern const OuterTile outer_tile;
const OuterTile outer_tile{kPanel, kMaxRows, choose_rows<kMaxRows>};

}  // namespace lumachrome::LUMACHROME_ISA
