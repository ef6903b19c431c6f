// A convolution as a matrix product that gathers its left side: "implicit GEMM".
//
//   y(n,p,q,k) = sum over taps t, channels c of  w(k,t,c) x(n, p step + dh(t), q step + dw(t), c)
//
// Rows are pixels of y, columns its channels, depth is (t, c), with c fastest. A call has one to
// four phases, each with its own taps: pixels of y that lie `out_step` apart. So a gradient through
// stride 2, and a convolution of a doubled map, multiply nothing that is zero or known already.
#pragma once
#include "layers/cuda/conv2d_epilogue.cuh"
#include "layers/cuda/mma_tile.cuh"

namespace lumachrome::cuda {

constexpr int kMaxTaps = 25, kMaxPhases = 4;  // 5x5; a thread keeps a bit per tap and pixel

struct ConvPhase {
    int taps = 0;
    int8_t dh[kMaxTaps], dw[kMaxTaps];
    int delta[kMaxTaps];      // dh W + dw, in pixels
    int P, Q;                 // its pixels of y
    int64_t rows;             // N P Q
    int oh, ow;               // the first of them
    int64_t weights;          // where its weights [K,taps,C] begin
    unsigned first_tile = 0;  // of the grid
};

struct ConvGemm {
    const void *x, *w;  // x [N,H,W,C], C a multiple of 16 bytes
    int H, W, C;
    int in_step, out_step;
    int phases;
    ConvPhase phase[kMaxPhases];
    int column_tiles;
    int64_t numel;  // of y
    ConvOutput out;
};

// Copies of one thread: chunk threadIdx % 8 (16 bytes) of the 128 bytes of every kApart-th row of A
// and of B. It belongs to one (tap, channel) for all of them; where a pixel lies is worked out
// once. Chunks are stored at chunk ^ row % 8: eight rows of one chunk, which ldmatrix reads
// together, and eight chunks of one row, which are written together, both fall into all 32 banks.
template <class T, class Tile>
struct GatherCopy {
    static constexpr int kChunk = 16 / sizeof(T), kDepth = kDepthBytes / sizeof(T);
    static constexpr int kApart = Tile::kThreads / 8;
    static constexpr int kLeft = Tile::kM / kApart, kRight = Tile::kN / kApart;
    static_assert(kApart % 8 == 0);
    static constexpr bool kShares = false;

    const T *x, *w;  // w: of this thread's first row, at the current depth
    const ConvPhase& phase;
    int C, tap, c, delta, columns;  // columns: left of K from this thread's first row on
    int64_t depth;
    uint32_t target;
    int pixel[kLeft];
    uint32_t inside[kLeft];  // by tap

    __device__ __forceinline__ GatherCopy(const ConvGemm& z, const ConvPhase& p, int64_t first_row,
                                          int first_column, int first_stage)
        : x(static_cast<const T*>(z.x)), phase(p), C(z.C), depth(int64_t{p.taps} * z.C) {
        const int row = threadIdx.x / 8, chunk = threadIdx.x % 8;
        target = row * kDepthBytes + (chunk ^ row % 8) * 16;
        const int64_t at = int64_t{first_stage} * kDepth + chunk * kChunk;
        tap = static_cast<int>(at / C);
        c = static_cast<int>(at % C);
        delta = tap < p.taps ? p.delta[tap] : 0;
        columns = z.out.K - first_column - row;
        w = static_cast<const T*>(z.w) + p.weights + (first_column + row) * depth + at;
#pragma unroll
        for (int i = 0; i < kLeft; ++i) {
            const int64_t index = first_row + row + i * kApart;
            const auto plane = static_cast<uint32_t>(p.P) * static_cast<uint32_t>(p.Q);
            const auto of_photo = static_cast<uint32_t>(index) % plane;
            const int n = static_cast<int>(static_cast<uint32_t>(index) / plane);
            const int h = static_cast<int>(of_photo) / p.Q * z.in_step;
            const int v = static_cast<int>(of_photo) % p.Q * z.in_step;
            pixel[i] = index < p.rows ? (n * z.H + h) * z.W + v : 0;
            inside[i] = 0;
            for (int t = 0; t < p.taps; ++t) {
                const bool is = static_cast<unsigned>(h + p.dh[t]) < static_cast<unsigned>(z.H) &&
                                static_cast<unsigned>(v + p.dw[t]) < static_cast<unsigned>(z.W);
                inside[i] |= uint32_t{is && index < p.rows} << t;
            }
        }
    }
    __device__ __forceinline__ void prepare() {}
    __device__ __forceinline__ void part(std::byte* stage, int which) const {
        constexpr int kItems = kLeft + kRight;
        std::byte* const to = stage + target;
        const bool deep = tap < phase.taps;
#pragma unroll
        for (int i = 0; i < kLeft; ++i) {
            if (i * 3 / kItems != which) continue;
            cp_async_16(to + i * kApart * kDepthBytes, x + (int64_t{pixel[i] + delta} * C + c),
                        deep && (inside[i] >> tap & 1));
        }
#pragma unroll
        for (int i = 0; i < kRight; ++i) {
            if ((kLeft + i) * 3 / kItems != which) continue;
            cp_async_16(to + (Tile::kM + i * kApart) * kDepthBytes, w + i * kApart * depth,
                        deep && i * kApart < columns);
        }
    }
    __device__ __forceinline__ void next() {
        w += kDepth;
        c += kDepth;
        if (c < C) return;
        do {
            c -= C;
            ++tap;
        } while (c >= C);
        delta = tap < phase.taps ? phase.delta[tap] : 0;
    }
};

// Fragments of rows of 128 bytes; 32 of them make a step. For 32-bit elements an 8x8 matrix of
// ldmatrix is 8 rows of 4, and its lanes receive just what mma_tf32 wants.
template <class Tile>
struct RowFragments {
    static constexpr bool kRightRounded = true;  // packed weights
    uint32_t left, right, left_chunk, right_chunk;

    __device__ __forceinline__ RowFragments() {
        const int warp = threadIdx.x / 32, l = threadIdx.x % 32;
        left = (warp / Tile::kWarpsN * Tile::kWarpM + l % 16) * kDepthBytes;
        left_chunk = l / 16 ^ l % 8;
        right = (Tile::kM + warp % Tile::kWarpsN * Tile::kWarpN + l % 8 + l / 16 * 8) * kDepthBytes;
        right_chunk = l / 8 % 2 ^ l % 8;
    }
    __device__ __forceinline__ void load(const std::byte* stage, int step, Plain<4> (&a)[Tile::kMi],
                                         Plain<4> (&b)[Tile::kNi / 2]) const {
        const std::byte* const left_row = stage + left + (left_chunk ^ 2 * step) * 16;
        const std::byte* const right_row = stage + right + (right_chunk ^ 2 * step) * 16;
#pragma unroll
        for (int n = 0; n < Tile::kNi / 2; ++n)
            ldmatrix_x4(b[n].bits, right_row + n * 16 * kDepthBytes);
#pragma unroll
        for (int m = 0; m < Tile::kMi; ++m) ldmatrix_x4(a[m].bits, left_row + m * 16 * kDepthBytes);
    }
};

// A block per tile of kM pixels of a phase by kN channels (channels fastest: blocks that run
// together read the same pixels from L2) and per part of the depth (blockIdx.y).
template <class Product, class Tile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kResident)
    conv_gemm_kernel(const __grid_constant__ ConvGemm z) {
    using T = typename Product::Element;
    int which = 0;
    while (which + 1 < z.phases && z.phase[which + 1].first_tile <= blockIdx.x) ++which;
    const ConvPhase& phase = z.phase[which];
    const unsigned tile = blockIdx.x - phase.first_tile;
    const int64_t first_row = int64_t{tile / z.column_tiles} * Tile::kM;
    const int first_column = static_cast<int>(tile % z.column_tiles) * Tile::kN;

    constexpr int kDepth = kDepthBytes / sizeof(T);
    const int stages = static_cast<int>((int64_t{phase.taps} * z.C + kDepth - 1) / kDepth);
    const int parts = static_cast<int>(gridDim.y), part = static_cast<int>(blockIdx.y);
    const int per_part = (stages + parts - 1) / parts;
    const int begin = min(part * per_part, stages), end = min(begin + per_part, stages);

    std::byte* const shared = dynamic_shared();
    Sums<Tile> sums = {};
    {
        GatherCopy<T, Tile> copy(z, phase, first_row, first_column, begin);
        multiply_stages<Product, Tile>(shared, end - begin, copy, RowFragments<Tile>(), sums);
    }
    float* const shared_sums = reinterpret_cast<float*>(shared);
    share_sums<Tile>(shared_sums, sums);

    constexpr int kGroups = Tile::kN / kColumns, kRowsApart = Tile::kThreads / kGroups;
    const int group = threadIdx.x % kGroups, k = first_column + group * kColumns;
    if (k >= z.out.K) return;
    for (int row = threadIdx.x / kGroups; row < Tile::kM; row += kRowsApart) {
        const int64_t index = first_row + row;
        if (index >= phase.rows) return;
        int64_t pixel = index;
        if (z.out_step > 1) {
            const auto i = static_cast<uint32_t>(index);
            const uint32_t q = i % phase.Q, p = i / phase.Q % phase.P, n = i / phase.Q / phase.P;
            pixel = (int64_t{n} * z.out.P + (p * z.out_step + phase.oh)) * z.out.Q +
                    (q * z.out_step + phase.ow);
        }
        const float* const from = shared_sums + row * Tile::kPitch + group * kColumns;
        const float4 low = reinterpret_cast<const float4*>(from)[0];
        const float4 high = reinterpret_cast<const float4*>(from)[1];
        float v[kColumns] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
        if (z.out.partial)
            keep_partial(z.out, v, z.numel, part, pixel, k);
        else
            finish(z.out, v, pixel, k);
    }
}

}  // namespace lumachrome::cuda
