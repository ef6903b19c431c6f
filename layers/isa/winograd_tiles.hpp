// The transforms of Winograd's F(m x m, 3x3) between maps and frequencies, compiled per instruction
// set. Along one axis: evaluate x and w as polynomials at m + 1 points and infinity, multiply,
// interpolate (Lavin and Gray 2015); layers/conv2d_winograd.hpp has the equations.
//
// One call treats a run of tiles and one panel of channels (GemmTile::panel). Frequency f of tile t
// lies at v + f * stride + t * panel; f = row * (m + 2) + column. Channels that the map does not
// have are written as zeros and not read.
#pragma once
#include <cstdint>

#include "layers/epilogue.hpp"
#include "tensor/isa.hpp"

namespace lumachrome {

// Where a tile lies in a map. Its part outside is zero, or not written.
struct WinogradWindow {
    int64_t offset;                                  // elements from the map's start
    int64_t row_begin, row_end, col_begin, col_end;  // its part inside the map
    bool inside(int64_t size) const {
        return row_begin == 0 && row_end == size && col_begin == 0 && col_end == size;
    }
};

// A map from the first channel of the panel on.
template <class T>
struct WinogradMap {
    T* data;
    int64_t row, pixel;  // elements between neighbours
    int64_t channels;    // from here on, 1 or more
};

struct WinogradFinish {
    const float* bias = nullptr;  // of the panel's channels; null: none
    // More than 0: the bias of a pixel lies at bias + border_stride * case, and the case depends on
    // the borders that the pixel touches: (first row + 2 last row) * 4 + first column + 2 last
    // column.
    int64_t border_stride = 0;
    int64_t rows = 0, cols = 0;  // of the whole map, with border_stride
    Epilogue epilogue = Epilogue::none;
    bool add = false;  // to what the map holds
};

struct WinogradTransforms {
    int64_t out, in, frequencies;  // m, m + 2, (m + 2)^2

    // V = B^T x B of windows of in x in pixels.
    void (*input)(const WinogradMap<const float>& x, const WinogradWindow* windows, int64_t count,
                  float* v, int64_t stride);
    // y (+)= epilogue(A^T M A + bias), windows of out x out. `positions` holds row and column of
    // each window in the whole map; only read with border_stride.
    void (*output)(const float* m, int64_t stride, const WinogradMap<float>& y,
                   const WinogradWindow* windows, const int64_t (*positions)[2], int64_t count,
                   const WinogradFinish& finish);
    // U = G w G^T of one register of lanes; the nine taps of a lane lie `tap` apart (so a negative
    // one turns the kernel by 180 degrees).
    void (*weights)(const float* w, int64_t tap, int64_t channels, float* u, int64_t stride);
    // For training; null for F(6x6,3x3).
    // Z = A dy A^T of windows of out x out, and dw (+)= G^T dU G of one register of lanes.
    void (*output_grad)(const WinogradMap<const float>& dy, const WinogradWindow* windows,
                        int64_t count, float* z, int64_t stride);
    void (*weights_grad)(const float* du, int64_t stride, int64_t channels, float* dw, int64_t tap,
                         bool add);
};

struct WinogradTiles {
    WinogradTransforms f4, f6;  // F(4x4,3x3), F(6x6,3x3)
};
LUMACHROME_PER_ISA(WinogradTiles, winograd_tiles)

}  // namespace lumachrome
