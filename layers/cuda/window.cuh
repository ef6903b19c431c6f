// Where the windows of a convolution lie, for kernels that treat it as a matrix product (implicit
// GEMM): a row of the left matrix is the window of one output pixel, in pieces of 16 bytes (8
// channels of bf16).
#pragma once
#include "layers/conv2d.hpp"
#include "tensor/cuda/launch.cuh"

namespace lumachrome::wgmma {

// n / divisor of 0 <= n < 2^31 by a multiplication: with 2^(shift-1) < divisor <= 2^shift, factor =
// ceil(2^(31+shift) / divisor) is too large by less than one, n times that by less than 2^31.
struct Divisor {
    int divisor, shift = 0;
    uint32_t factor;
    explicit Divisor(int64_t d) : divisor(static_cast<int>(d)) {
        while ((int64_t{1} << shift) < d) ++shift;
        factor = static_cast<uint32_t>(((int64_t{1} << (31 + shift)) + d - 1) / d);
    }
    __device__ int quotient(int n) const {
        return static_cast<int>(static_cast<uint64_t>(static_cast<unsigned>(n)) * factor >>
                                (31 + shift));
    }
};

// Row m of the product is position (n, p, q) of the output; its window covers the pixels
// (p * stride + first_row + r, q * stride + first_column + s) of image n of x [N,H,W,C].
struct Window {
    const bf16* x;
    int H, W, pieces;  // C / 8
    int stride, first_row, first_column, down, across;
    int rows;             // N * P * Q
    Divisor image, line;  // P * Q, Q

    int taps() const { return down * across; }
};

struct Place {
    int n, p, q;
};
__device__ __forceinline__ Place place_of(const Window& window, int row) {
    const int n = window.image.quotient(row), within = row - n * window.image.divisor;
    const int p = window.line.quotient(within);
    return {n, p, within - p * window.line.divisor};
}

// Where a row's window begins, in pieces, and a bit for each of its taps that is inside the map.
struct Corner {
    int piece;
    uint32_t taps;
};
__device__ __forceinline__ Corner corner_of(const Window& window, int row) {
    if (row >= window.rows) return {0, 0};
    const Place at = place_of(window, row);
    const int h = at.p * window.stride + window.first_row;
    const int v = at.q * window.stride + window.first_column;
    uint32_t across = 0, taps = 0;
#pragma unroll
    for (int s = 0; s < 3; ++s)
        if (s < window.across && v + s >= 0 && v + s < window.W) across |= 1u << s;
#pragma unroll
    for (int r = 0; r < 3; ++r)
        if (r < window.down && h + r >= 0 && h + r < window.H) taps |= across << r * window.across;
    return {((at.n * window.H + h) * window.W + v) * window.pieces, taps};
}

// From the window's corner to a tap, in pieces; at most 3 taps across.
__device__ __forceinline__ int tap_offset(const Window& window, int tap) {
    const int r = window.across == 3 ? tap * 11 >> 5 : window.across == 2 ? tap >> 1 : tap;
    return (r * window.W + tap - r * window.across) * window.pieces;
}

// The window of a convolution's forward pass.
inline Window forward_window(const Conv2dProblem& p, const bf16* x) {
    const int pad = static_cast<int>(p.spec.pad()), R = static_cast<int>(p.spec.kernel);
    return {x,
            static_cast<int>(p.H),
            static_cast<int>(p.W),
            static_cast<int>(p.C / 8),
            static_cast<int>(p.spec.stride),
            -pad,
            -pad,
            R,
            R,
            static_cast<int>(p.N * p.P * p.Q),
            Divisor(p.P * p.Q),
            Divisor(p.Q)};
}

}  // namespace lumachrome::wgmma
