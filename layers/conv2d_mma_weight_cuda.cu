// The gradient of convolution weights on tensor cores:
//
//   dw(k,t,c) = sum over n,p,q of  dy(n,p,q,k) x(n, p stride + dh(t), q stride + dw(t), c)
//
// a product of dy^T [K, pixels] and the gathered x [pixels, taps C], whose depth is the pixels:
// both sides lie in memory by depth. The depth, often a million, is cut over blocks; their partial
// sums are added in a fixed order by a second kernel.
#include "layers/conv2d_mma_cuda.hpp"
#include "layers/cuda/mma_tile.cuh"
#include "layers/cuda/pack_weights.cuh"

namespace lumachrome {
namespace {

using namespace cuda;

struct WeightGemm {
    const void *x, *dy;  // x [N,H,W,C], dy [N,P,Q,K]; channels are multiples of 16 bytes
    int H, W, C, P, Q, K;
    int R, stride, pad;
    int columns;     // taps C
    int64_t pixels;  // N P Q
    int column_tiles;
    int64_t per_split;    // pixels of a part, a multiple of a stage's
    float *dw, *partial;  // [rows, columns], or null; [splits, rows, columns]
    int rows;             // of them: K without padding
    float beta;
};

// Copies of one thread: one chunk (16 bytes of channels) of every few pixels, of dy and of x. For x
// the chunk is one tap and channel from beginning to end; where the pixels of a stage lie is worked
// out once per pixel, and shared. Chunk i of pixel d is stored at i ^ turn(d): see DepthFragments.
template <class T, class Tile>
struct PixelCopy {
    static constexpr bool kShares = true;
    static constexpr int kChunk = 16 / sizeof(T), kDepth = kDepthBytes / sizeof(T);
    static constexpr int kLeftChunks = Tile::kM / kChunk, kRightChunks = Tile::kN / kChunk;
    static constexpr int kLeftApart = Tile::kThreads / kLeftChunks,
                         kRightApart = Tile::kThreads / kRightChunks;
    static constexpr int kLeft = kDepth / kLeftApart, kRight = kDepth / kRightApart;
    static constexpr int kTurns = sizeof(T) == 2 ? 8 : 4;
    static_assert(kLeftApart % kTurns == 0 && kRightApart % kTurns == 0);
    static_assert(kDepth <= Tile::kThreads);

    __device__ static __forceinline__ int turn(int d) { return sizeof(T) == 2 ? d % 8 : d % 4 * 2; }

    const WeightGemm& z;
    int4 (*table)[kDepth];  // [2][pixel of the stage] (pixel of x, its row, its column, 0)
    int64_t pixel, end;     // of dy: first of the stage, end of the part
    int side = 0;
    const T *x, *dy;  // at this thread's channels
    bool left_inside, right_inside;
    int dh, dw, delta;
    uint32_t left_target, right_target;

    __device__ __forceinline__ PixelCopy(const WeightGemm& gemm, int4 (*pixels)[kDepth],
                                         int first_row, int first_column, int64_t begin,
                                         int64_t end_)
        : z(gemm), table(pixels), pixel(begin), end(end_) {
        const int left_chunk = threadIdx.x % kLeftChunks, left = threadIdx.x / kLeftChunks;
        const int right_chunk = threadIdx.x % kRightChunks, right = threadIdx.x / kRightChunks;
        const int k = first_row + left_chunk * kChunk;
        const int column = first_column + right_chunk * kChunk;
        const int tap = column / z.C, c = column % z.C;
        left_inside = k < z.K;
        right_inside = column < z.columns;
        dy = static_cast<const T*>(z.dy) + k;
        x = static_cast<const T*>(z.x) + c;
        dh = tap / z.R - z.pad;
        dw = tap % z.R - z.pad;
        delta = dh * z.W + dw;
        left_target = (left * kLeftChunks + (left_chunk ^ turn(left))) * 16;
        right_target =
            Tile::kM * kDepthBytes + (right * kRightChunks + (right_chunk ^ turn(right))) * 16;
    }
    __device__ __forceinline__ void prepare() {
        if (threadIdx.x >= kDepth) return;
        const int64_t index = pixel + threadIdx.x;
        int4 at = {0, -(1 << 20), 0, 0};  // a row outside of x
        if (index < end) {
            const auto i = static_cast<uint32_t>(index);
            const int q = static_cast<int>(i % z.Q), p = static_cast<int>(i / z.Q % z.P),
                      n = static_cast<int>(i / z.Q / z.P);
            at = {(n * z.H + p * z.stride) * z.W + q * z.stride, p * z.stride, q * z.stride, 0};
        }
        table[side][threadIdx.x] = at;
    }
    __device__ __forceinline__ void part(std::byte* stage, int which) const {
        constexpr int kItems = kLeft + kRight;
#pragma unroll
        for (int i = 0; i < kLeft; ++i) {
            if (i * 3 / kItems != which) continue;
            const int64_t index = pixel + threadIdx.x / kLeftChunks + i * kLeftApart;
            cp_async_16(stage + left_target + i * kLeftApart * kLeftChunks * 16, dy + index * z.K,
                        left_inside && index < end);
        }
#pragma unroll
        for (int i = 0; i < kRight; ++i) {
            if ((kLeft + i) * 3 / kItems != which) continue;
            const int4 at = table[side][threadIdx.x / kRightChunks + i * kRightApart];
            const bool inside = static_cast<unsigned>(at.y + dh) < static_cast<unsigned>(z.H) &&
                                static_cast<unsigned>(at.z + dw) < static_cast<unsigned>(z.W);
            cp_async_16(stage + right_target + i * kRightApart * kRightChunks * 16,
                        x + int64_t{at.x + delta} * z.C, right_inside && inside);
        }
    }
    __device__ __forceinline__ void next() {
        pixel += kDepth;
        side ^= 1;
    }
};

// Fragments of tiles that lie by depth. bf16: ldmatrix turns 8x8 matrices; the eight depths of one
// chunk it reads together were put into eight places of 16 bytes. f32: ldmatrix turns 16-bit
// elements only, so every element is read by itself; the lanes' 4 depths x 8 channels fall into all
// 32 banks because depth d moves chunks by 2 d.
template <class T, class Tile>
struct DepthFragments {
    static constexpr bool kRightRounded = false;
    static constexpr int kLeftBytes = Tile::kM * sizeof(T), kRightBytes = Tile::kN * sizeof(T);
    uint32_t left, right, left_turn, right_turn;

    __device__ __forceinline__ DepthFragments() {
        const int warp = threadIdx.x / 32, l = threadIdx.x % 32;
        const int row0 = warp / Tile::kWarpsN * Tile::kWarpM;
        const int column0 = warp % Tile::kWarpsN * Tile::kWarpN;
        if constexpr (sizeof(T) == 2) {
            const int matrix = l / 8;
            left = (l % 8 + matrix / 2 * 8) * kLeftBytes + row0 / 64 * 128;
            left_turn = (row0 % 64 / 8 + matrix % 2) ^ l % 8;
            right = Tile::kM * kDepthBytes + (l % 8 + matrix % 2 * 8) * kRightBytes +
                    column0 / 64 * 128;
            right_turn = (column0 % 64 / 8 + matrix / 2) ^ l % 8;
        } else {
            const int g = l / 4, t = l % 4;
            left = t * kLeftBytes + row0 * 4 + g % 4 * 4;
            left_turn = g / 4 ^ t * 2;
            right = Tile::kM * kDepthBytes + t * kRightBytes + column0 * 4 + g % 4 * 4;
            right_turn = left_turn;
        }
    }
    __device__ __forceinline__ void load(const std::byte* stage, int step, Plain<4> (&a)[Tile::kMi],
                                         Plain<4> (&b)[Tile::kNi / 2]) const {
        if constexpr (sizeof(T) == 2) {
            const std::byte* const left_at = stage + left + step * 16 * kLeftBytes;
            const std::byte* const right_at = stage + right + step * 16 * kRightBytes;
#pragma unroll
            for (int n = 0; n < Tile::kNi / 2; ++n)
                ldmatrix_x4_transposed(b[n].bits, right_at + (right_turn ^ 2 * n) * 16);
#pragma unroll
            for (int m = 0; m < Tile::kMi; ++m)
                ldmatrix_x4_transposed(a[m].bits, left_at + (left_turn ^ 2 * m) * 16);
        } else {
            const std::byte* const left_at = stage + left + step * 8 * kLeftBytes;
            const std::byte* const right_at = stage + right + step * 8 * kRightBytes;
            // Chunk `at` counts from the warp's corner, a multiple of 8 chunks.
            const auto word = [](const std::byte* row, uint32_t turn, int at) {
                return *reinterpret_cast<const uint32_t*>(row + at / 8 * 128 +
                                                          (turn ^ at % 8) * 16);
            };
#pragma unroll
            for (int n = 0; n < Tile::kNi / 2; ++n)
#pragma unroll
                for (int i = 0; i < 4; ++i)  // (first fragment, second) x (depth t, t + 4)
                    b[n].bits[i] =
                        word(right_at + i % 2 * 4 * kRightBytes, right_turn, 4 * n + i / 2 * 2);
#pragma unroll
            for (int m = 0; m < Tile::kMi; ++m)
#pragma unroll
                for (int i = 0; i < 4; ++i)  // (row g, g + 8) x (depth t, t + 4)
                    a[m].bits[i] =
                        word(left_at + i / 2 * 4 * kLeftBytes, left_turn, 4 * m + i % 2 * 2);
        }
    }
};

// A block per kM channels of dy by kN of the (tap, channel) pairs of x, and per part of the pixels
// (blockIdx.y).
template <class Product, class Tile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kResident)
    weight_gemm_kernel(const __grid_constant__ WeightGemm z) {
    using T = typename Product::Element;
    using Copy = PixelCopy<T, Tile>;
    __shared__ int4 table[2][Copy::kDepth];
    const int first_row = static_cast<int>(blockIdx.x / z.column_tiles) * Tile::kM;
    const int first_column = static_cast<int>(blockIdx.x % z.column_tiles) * Tile::kN;
    const int64_t begin = blockIdx.y * z.per_split;
    const int64_t end = min(begin + z.per_split, z.pixels);
    const int stages =
        end > begin ? static_cast<int>((end - begin + Copy::kDepth - 1) / Copy::kDepth) : 0;

    std::byte* const shared = dynamic_shared();
    Sums<Tile> sums = {};
    {
        Copy copy(z, table, first_row, first_column, begin, end);
        multiply_stages<Product, Tile>(shared, stages, copy, DepthFragments<T, Tile>(), sums);
    }
    float* const shared_sums = reinterpret_cast<float*>(shared);
    share_sums<Tile>(shared_sums, sums);

    constexpr int kGroups = Tile::kN / 4, kRowsApart = Tile::kThreads / kGroups;
    const int group = threadIdx.x % kGroups, column = first_column + group * 4;
    if (column >= z.columns) return;
    for (int row = threadIdx.x / kGroups; row < Tile::kM && first_row + row < z.rows;
         row += kRowsApart) {
        float4 v = *reinterpret_cast<const float4*>(shared_sums + row * Tile::kPitch + group * 4);
        const int64_t at = int64_t{first_row + row} * z.columns + column;
        if (z.partial) {
            const int64_t numel = int64_t{z.rows} * z.columns;
            *reinterpret_cast<float4*>(z.partial + blockIdx.y * numel + at) = v;
            continue;
        }
        float4* const to = reinterpret_cast<float4*>(z.dw + at);
        if (z.beta != 0) {
            const float4 old = *to;
            v = {v.x + old.x, v.y + old.y, v.z + old.z, v.w + old.w};
        }
        *to = v;
    }
}

// A thread per element of dw [rows, taps, C], from partial [splits, rows, taps, padded].
__global__ void add_parts_kernel(const float* partial, float* dw, int64_t numel, int C, int padded,
                                 int splits, float beta) {
    const int64_t step = numel / C * padded;
    for (int64_t i = first_index(); i < numel; i += index_step()) {
        const float* from = partial + (padded == C ? i : i / C * padded + i % C);
        float sum = beta == 0 ? 0 : dw[i];
#pragma unroll 4
        for (int s = 0; s < splits; ++s) sum += from[s * step];
        dw[i] = sum;
    }
}

// Square for K above 64, Flat up to there; three products a pair of factors want registers, and
// read shared memory less often for it.
using Square = MmaTile<2, 2, 64, 64, 3, 2>;
using Flat = MmaTile<2, 2, 32, 64, 3, 2>;
using Small = MmaTile<2, 2, 32, 32, 3, 3>;

template <class Product, class Tile>
void run(const Exec& exec, WeightGemm gemm, const Conv2dProblem& problem, const GradIn& dw) {
    constexpr int64_t kDepth = kDepthBytes / int64_t{sizeof(typename Product::Element)};
    constexpr int64_t kStageOverhead = 3, kMinStages = 8;  // start and end; of a part
    constexpr double kBytesPerCycle = 2000;                // of memory
    constexpr int64_t kMaxSplits = 256, kPartialBytes = int64_t{256} << 20;
    gemm.column_tiles = static_cast<int>(ceil_div(gemm.columns, Tile::kN));
    const int64_t tiles = ceil_div(gemm.rows, Tile::kM) * gemm.column_tiles;
    const int64_t stages = ceil_div(gemm.pixels, kDepth);
    const int64_t numel = int64_t{gemm.rows} * gemm.columns;
    // The number of parts with the lowest estimate, in cycles: what fills the multiprocessors
    // evenly, against the writing and reading of partial sums.
    const int64_t slots = int64_t{properties(exec.device.index).multiprocessors} * Tile::kResident;
    const double stage_cycles = Tile::kM * Tile::kN / 16.0 * Tile::kResident * Product::kPasses;
    int64_t splits = 1;
    double least = 0;
    const int64_t most = std::min({kMaxSplits, stages / kMinStages, kPartialBytes / (4 * numel)});
    for (int64_t s = 1; s <= std::max<int64_t>(most, 1); ++s) {
        const auto rounds = static_cast<double>(ceil_div(tiles * s, slots) *
                                                (ceil_div(stages, s) + kStageOverhead));
        const double cost = rounds * stage_cycles +
                            (s == 1 ? 0 : 8.0 * static_cast<double>(s * numel) / kBytesPerCycle);
        if (s > 1 && cost >= least) continue;
        least = cost;
        splits = s;
    }
    gemm.per_split = ceil_div(stages, splits) * kDepth;
    float* const out = dw.grad.data<float>();
    const bool direct =
        splits == 1 && gemm.C == problem.C && reinterpret_cast<uintptr_t>(out) % 16 == 0;
    const Tensor partial =
        direct ? Tensor() : Tensor::empty({splits, numel}, DType::f32, exec.device);
    gemm.dw = out;
    gemm.partial = direct ? nullptr : partial.data<float>();
    gemm.beta = dw.beta;
    launch<weight_gemm_kernel<Product, Tile>>(
        exec.device, dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(splits)),
        Tile::kThreads, Tile::kSharedBytes, gemm);
    if (direct) return;
    launch<add_parts_kernel>(exec.device, blocks_for(dw.grad.numel()), kThreads, 0, gemm.partial,
                             out, dw.grad.numel(), static_cast<int>(problem.C), gemm.C,
                             static_cast<int>(splits), dw.beta);
}

}  // namespace

void conv2d_grad_weight_mma_cuda(const Exec& exec, const Conv2dProblem& z, const Tensor& x,
                                 const Tensor& dy, const GradIn& dw) {
    const Tensor x_map = padded_map(exec, x), dy_map = padded_map(exec, dy);
    WeightGemm gemm{};
    gemm.x = x_map.raw();
    gemm.dy = dy_map.raw();
    gemm.H = static_cast<int>(z.H);
    gemm.W = static_cast<int>(z.W);
    gemm.P = static_cast<int>(z.P);
    gemm.Q = static_cast<int>(z.Q);
    gemm.C = static_cast<int>(padded_channels(z.C, z.dtype));
    gemm.K = static_cast<int>(padded_channels(z.K, z.dtype));
    gemm.R = static_cast<int>(z.spec.kernel);
    gemm.stride = static_cast<int>(z.spec.stride);
    gemm.pad = static_cast<int>(z.spec.pad());
    gemm.columns = gemm.R * gemm.R * gemm.C;
    gemm.rows = static_cast<int>(z.K);
    gemm.pixels = z.N * z.P * z.Q;
    if (z.dtype == DType::bf16 && z.K > Flat::kM)
        run<Bf16Product, Square>(exec, gemm, z, dw);
    else if (z.dtype == DType::bf16)
        run<Bf16Product, Flat>(exec, gemm, z, dw);
    else if (exec.tf32 && z.K > Flat::kM)
        run<Tf32Product, Square>(exec, gemm, z, dw);
    else if (exec.tf32)
        run<Tf32Product, Flat>(exec, gemm, z, dw);
    else
        run<Tf32x3Product, Small>(exec, gemm, z, dw);
}

}  // namespace lumachrome
