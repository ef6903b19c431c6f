// The register tile that all fast products are made of: a few rows by one panel of columns, summed
// over the depth without touching memory in between.
#pragma once
#include <cstdint>

#include "tensor/isa.hpp"

namespace lumachrome {

struct GemmTile {
    int64_t lanes;     // floats of a register
    int64_t panel;     // columns of a tile: two registers
    int64_t max_rows;  // the most rows of a tile, and the fastest number

    // c (+)= a b
    //   a  row r, depth k lies at a[r * a_row + k / panel * a_chunk + k % panel]: rows of an NHWC
    //      map with a_chunk = panel, or depth cut into chunks that lie apart
    //   b  [depth][panel], packed
    //   c  row r at c + r * c_row, `panel` columns, written whole
    // rows: 1..max_rows, depth: 1 or more. With `add` false c is only written.
    void (*multiply)(const float* a, int64_t a_row, int64_t a_chunk, const float* b, float* c,
                     int64_t c_row, int64_t rows, int64_t depth, bool add);
    // The same while `depth` rows of a panel of b that is wanted next come into L2, from `fetch`
    // on; null: none.
    void (*multiply_ahead)(const float* a, int64_t a_row, int64_t a_chunk, const float* b, float* c,
                           int64_t c_row, int64_t rows, int64_t depth, bool add,
                           const float* fetch);
    // The same with the transpose of a: row r, depth k lies at a[k * panel + r].
    void (*multiply_turned)(const float* a, const float* b, float* c, int64_t c_row, int64_t rows,
                            int64_t depth, bool add);
};
LUMACHROME_PER_ISA(GemmTile, gemm_tile)
// Of the chosen instruction set.
inline const GemmTile& gemm_tile() {
    return gemm_tile_for(isa());
}

}  // namespace lumachrome
