// Innermost loops of the convolutions prepared for inference, compiled per instruction set
// (layers/isa). A tile is a few neighbouring pixels of one row by one panel of output channels (two
// registers, tensor/gemm_tile.hpp).
#pragma once
#include "layers/epilogue.hpp"
#include "tensor/isa.hpp"

namespace lumachrome {

// Where the outputs of a tile go.
struct TileOutput {
    const float* const* bias;  // of each pixel, from the tile's first channel on
    float* y;
    int64_t pixel;  // floats from one pixel to the next
    int64_t pixels;
    int64_t channels;  // up to `panel`
    Epilogue epilogue;
    bool stream = false;  // to memory, past the caches: nobody reads y soon
};

// layers/isa/direct_tile.cpp: y = epilogue(bias + x w), summed in registers over all taps.
struct DirectTile {
    int64_t lanes, panel;
    int64_t max_pixels;         // of a tile
    int64_t max_pixels_narrow;  // with no more channels than lanes
    // Tap t of pixel i begins at taps[t] + i * pixel; w [tap_count * depth][panel].
    void (*run)(const float* const* taps, int64_t tap_count, int64_t depth, int64_t pixel,
                const float* w, const TileOutput& out);
    void (*end_stream)();  // after tiles with `stream`, before other threads read y
};
LUMACHROME_PER_ISA(DirectTile, direct_tile)

// layers/isa/narrow_tile.cpp: few output channels, so lanes run over the inputs.
struct NarrowTile {
    int64_t lanes;
    int64_t max_outputs;                 // K
    int64_t (*pixels)(int64_t outputs);  // of a tile
    // Kernel row r of pixel i is the `depth` floats at rows[r] + i * pixel.
    //   w [outputs][kernel][depth], depth padded with zeros to whole registers
    //   bias, y  [count][outputs]
    // All pixels of a tile are read, `count` are written.
    void (*run)(const float* const* rows, int64_t kernel, int64_t depth, int64_t pixel,
                const float* w, int64_t outputs, const float* bias, float* y, int64_t count,
                Epilogue epilogue);
};
LUMACHROME_PER_ISA(NarrowTile, narrow_tile)

// layers/isa/upsample_tile.cpp: what comes before and after the nine products.
struct UpsampleTile {
    // The differences of `count` pixels to their neighbours. `rows` are pixels of the rows above,
    // at and below; `left` and `right` of the tile there are neighbours, or else zeros. Null rows
    // are zeros.
    //   column [count+1][C]      x(i,j) - x(i,j-1)
    //   row[0..1] [count][C]     x(i,j) - x(i-1,j), x(i+1,j) - x(i,j)
    //   both[0..1] [count+1][C]  the column differences of row[0..1]
    void (*differences)(const float* const rows[3], int64_t count, int64_t C, bool left, bool right,
                        float* column, float* const row[2], float* const both[2]);
    // Nine products [count][panel], `stride` floats apart, row kinds (m, 0, p) by column kinds, to
    // 2 x 2 outputs each: y[0] is the even row, y[1] the odd one. bias[r] of its 2 * count pixels.
    void (*finish)(const float* products, int64_t stride, int64_t count,
                   const float* const* const bias[2], float* const y[2], int64_t pixel,
                   int64_t channels, Epilogue epilogue);
};
LUMACHROME_PER_ISA(UpsampleTile, upsample_tile)

// layers/isa/stride2_tile.cpp: y in tiles of out x out (conv2d_prepared_stride2.cpp).
// The interpolation points of F(4,2) are +-a, +-b and infinity.
inline constexpr float kStride2PointA = 0.5f, kStride2PointB = 1.25f;
// Along an axis a tile has odd = m + 1 frequencies and m even samples. Where the position of row r
// and column s lies among all (2 m + 1)^2: positions with the same weights follow one another.
template <int64_t kOut>
constexpr int64_t stride2_position(int64_t r, int64_t s) {
    constexpr int64_t kOdd = kOut + 1;
    if (r < kOdd && s < kOdd) return r * kOdd + s;
    if (r < kOdd) return kOdd * kOdd + r * kOut + s - kOdd;
    if (s < kOdd) return kOdd * kOdd + (kOdd + s) * kOut + r - kOdd;
    return kOdd * kOdd + 2 * kOdd * kOut + (r - kOdd) * kOut + s - kOdd;
}
// The part of a window that lies in the map; the rest is zero.
struct TilePart {
    int64_t row_begin, row_end, column_begin, column_end;
};
struct Stride2Transforms {
    int64_t out;  // m: 2 or 4
    // V of the window of one tile, x its first sample: C floats (of one chunk) at v + position *
    // stride.
    void (*input)(const float* x, int64_t x_row, int64_t x_pixel, const TilePart& part, int64_t C,
                  float* v, int64_t stride);
    // `rows` x `columns` outputs of the tile, from M in the same order. bias [out][out].
    void (*output)(const float* m, int64_t stride, int64_t rows, int64_t columns,
                   const float* const* bias, float* y, int64_t y_row, int64_t y_pixel,
                   int64_t channels, Epilogue epilogue);
};
struct Stride2Tile {
    Stride2Transforms p2, p4;
};
LUMACHROME_PER_ISA(Stride2Tile, stride2_tile)

}  // namespace lumachrome
