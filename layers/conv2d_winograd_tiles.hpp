// What inference and training share of Winograd's algorithm: how maps are cut into tiles, how
// weights are packed, and the convolution of a map with packed weights. The transforms themselves
// are in layers/isa/winograd_tiles.hpp.
#pragma once
#include "layers/extents.hpp"
#include "layers/isa/winograd_tiles.hpp"
#include "tensor/exec.hpp"
#include "tensor/gemm_tile.hpp"

namespace lumachrome {

// An odd number of cache lines, 16 floats each: equal places of all frequencies then lie in
// different sets of L1.
inline int64_t odd_lines(int64_t floats) {
    return divide_up(floats, 16) / 2 * 32 + 16;
}

// Rows [row_begin, row_end) of N maps [H,W], cut into tiles of `out` x `out` pixels, row by row.
struct WinogradCut {
    int64_t N, H, W, out, row_begin, row_end;

    int64_t rows() const { return divide_up(row_end - row_begin, out); }
    int64_t cols() const { return divide_up(W, out); }
    int64_t count() const { return N * rows() * cols(); }

    static constexpr int64_t kRun = 16;  // the most tiles of one call
    struct Positions {
        int64_t row_and_col[kRun][2];
    };
    // Windows of `size` x `size` pixels from `pad` before the tiles [begin, begin + tiles) on, in a
    // map of C channels that holds the rows [first_row, end_row).
    void windows(int64_t begin, int64_t tiles, int64_t size, int64_t pad, int64_t C,
                 int64_t first_row, int64_t end_row, WinogradWindow (&windows)[kRun],
                 Positions* positions = nullptr) const;
};

// Weights w [K,3,3,C] as U [K/panel][frequency][C][panel], the frequencies u_stride apart; turned
// by 180 degrees and with C and K exchanged where `turned`.
struct WinogradWeights {
    WinogradWeights(const WinogradTransforms& transforms, int64_t C, int64_t K,
                    bool turned = false);
    const WinogradTransforms& f;
    int64_t C, K;  // of the convolution that reads U: exchanged where turned
    bool turned;
    int64_t u_stride, floats;
    void pack(const Exec& exec, const float* w, float* u) const;
};

// y (+)= epilogue(x convolved + bias)
struct WinogradConvolution {
    const WinogradWeights& weights;
    WinogradCut cut;  // of y
    const float* u;
    const float* x;  // from row x_row on
    int64_t x_row;
    float* y;               // from row cut.row_begin on
    WinogradFinish finish;  // of all channels
    // Of memory that the threads share, a multiple of a cache line.
    int64_t shared_floats() const;
    void run(const Exec& exec, float* shared) const;
};

}  // namespace lumachrome
