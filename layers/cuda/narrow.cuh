// What the kernels of narrow convolutions share (conv2d_narrow_cuda.cu, narrow_mma.cuh). As on the
// CPU (conv2d_narrow.hpp) both layers are one problem:
//
//   narrow side: kF channels, x of the first layer (kF = 1) or y of the last (kF = 2)   [N,H,W,kF]
//   wide side:   D channels, y of the first layer or x of the last                      [N,P,Q,D]
//   tap (r,s) of wide pixel (p,q) sees narrow pixel (p*kStride + r - 1, q*kStride + s - 1)
//
//   wide from narrow     first forward, last grad_input     wide(i,d) = sum_j column(i,j) w(j,d)
//   narrow from wide     last forward, first grad_input     its transpose
//   gradient of weights  of both                            dw(j,d) = sum_i column(i,j) wide(i,d)
//
// with j = tap * kF + f. Seen from x, the taps of the last layer are turned by 180 degrees.
#pragma once
#include "layers/conv2d.hpp"
#include "tensor/cuda/pack.cuh"

namespace lumachrome::narrow {

constexpr int kThreads = 256, kWarps = kThreads / 32;

template <int kF_, int kStride_>
struct Geometry {
    static constexpr int kF = kF_, kStride = kStride_, kColumn = 9 * kF;
    int N, P, Q, H, W, D;

    explicit Geometry(const Conv2dProblem& p)
        : N(static_cast<int>(p.N)),
          P(static_cast<int>(kF == 1 ? p.P : p.H)),
          Q(static_cast<int>(kF == 1 ? p.Q : p.W)),
          H(static_cast<int>(kF == 1 ? p.H : p.P)),
          W(static_cast<int>(kF == 1 ? p.W : p.Q)),
          D(static_cast<int>(kF == 1 ? p.K : p.C)) {}
    // Place of w(j,d) in the filters.
    __host__ __device__ int weight(int j, int d) const {
        return kF == 1 ? d * 9 + j : (j % 2 * 9 + 8 - j / 2) * D + d;
    }
};

// A tile of a map, by its number among all tiles of a batch.
template <int kRows, int kColumns>
struct Tile {
    int n, row, column;  // its first pixel
    __host__ __device__ static int64_t count(int N, int rows, int columns) {
        return int64_t{N} * ((rows + kRows - 1) / kRows) * ((columns + kColumns - 1) / kColumns);
    }
    __device__ Tile(unsigned index, int rows, int columns) {
        const unsigned down = (rows + kRows - 1) / kRows;
        const unsigned across = (columns + kColumns - 1) / kColumns;
        n = static_cast<int>(index / (down * across));
        row = static_cast<int>(index / across % down) * kRows;
        column = static_cast<int>(index % across) * kColumns;
    }
};

// Pixels of the narrow side that a tile of the wide side sees.
template <class G, int kRows, int kColumns>
struct Patch {
    static constexpr int kHigh = (kRows - 1) * G::kStride + 3;
    static constexpr int kWide = (kColumns - 1) * G::kStride + 3;
    static constexpr int kPixels = kHigh * kWide;

    // f(place in the patch, pixel of the map or null): outside of the map is zero.
    template <class T, class F>
    __device__ static void visit(const G& g, const Tile<kRows, kColumns>& at, const T* map,
                                 const F& f) {
        const int h0 = at.row * G::kStride - 1, w0 = at.column * G::kStride - 1;
        for (int i = static_cast<int>(threadIdx.x); i < kPixels; i += kThreads) {
            const int h = h0 + i / kWide, w = w0 + i % kWide;
            const bool inside = h >= 0 && h < g.H && w >= 0 && w < g.W;
            f(i, inside ? map + ((int64_t{at.n} * g.H + h) * g.W + w) * G::kF : nullptr);
        }
    }
};

// Narrow from wide, second half. `sums` [pixels of the patch][kColumn]: what each pixel of the wide
// side adds to the narrow pixels that it sees; here each narrow pixel collects its nine. The patch
// has the wide pixels that see a tile of kRows x kColumns narrow ones.
template <class G, int kRows, int kColumns>
struct Collected {
    static constexpr int kHigh = kRows / G::kStride + 2, kWide = kColumns / G::kStride + 2;
    static constexpr int kPixels = kHigh * kWide;

    // Place in the wide map of pixel i of the patch; negative: outside.
    __device__ static int64_t source(const G& g, const Tile<kRows, kColumns>& at, int i) {
        const int p = at.row / G::kStride - 1 + i / kWide;
        const int q = at.column / G::kStride - 1 + i % kWide;
        if (i >= kPixels || p < 0 || p >= g.P || q < 0 || q >= g.Q) return -1;
        return (int64_t{at.n} * g.P + p) * g.Q + q;
    }

    template <class T, class Sum>
    __device__ static void store(const G& g, const Tile<kRows, kColumns>& at, const Sum* sums,
                                 const Sum* b, T* narrow, bool add) {
        constexpr int kF = G::kF;
        for (int i = static_cast<int>(threadIdx.x); i < kRows * kColumns; i += kThreads) {
            const int row = i / kColumns, column = i % kColumns;
            const int h = at.row + row, w = at.column + column;
            if (h >= g.H || w >= g.W) continue;
            cuda::Values<T, kF> total;
#pragma unroll
            for (int f = 0; f < kF; ++f) total.at[f] = b ? b[f] : Sum(0);
#pragma unroll
            for (int tap = 0; tap < 9; ++tap) {
                const int down = row + 1 - tap / 3, right = column + 1 - tap % 3;
                if (G::kStride == 2 && (down % 2 != 0 || right % 2 != 0)) continue;
                const int from = (down / G::kStride + 1) * kWide + right / G::kStride + 1;
#pragma unroll
                for (int f = 0; f < kF; ++f) total.at[f] += sums[from * G::kColumn + tap * kF + f];
            }
            cuda::store_or_add<kF>(narrow + ((int64_t{at.n} * g.H + h) * g.W + w) * kF, total, add);
        }
    }
};

}  // namespace lumachrome::narrow
