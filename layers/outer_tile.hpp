// The register tile of products that sum over pixels, as gradients of weights do: both factors have
// the pixels as rows.
#pragma once
#include <cstdint>

#include "tensor/isa.hpp"

namespace lumachrome {

struct OuterTile {
    int64_t panel;     // columns of a tile: two registers
    int64_t max_rows;  // divides panel

    // c (+)= a^T b
    //   a  row r of pixel t at a[t * a_step + r]      b  pixel t at b + t * b_step, `panel` columns
    //   c  row r at c + r * c_row, `panel` columns
    // rows: 1..max_rows, pixels: 1 or more. With `add` false c is only written.
    void (*multiply)(const float* a, int64_t a_step, const float* b, int64_t b_step, float* c,
                     int64_t c_row, int64_t rows, int64_t pixels, bool add);
};
LUMACHROME_PER_ISA(OuterTile, outer_tile)
inline const OuterTile& outer_tile() {
    return outer_tile_for(isa());
}

}  // namespace lumachrome
