#include <algorithm>

#include "layers/conv2d_wgmma.hpp"
#include "layers/cuda/pack_wgmma.cuh"
#include "layers/cuda/wgmma_pipeline.cuh"
#include "layers/cuda/window.cuh"
#include "layers/fusion.hpp"

namespace lumachrome {
namespace {

using namespace wgmma;

// Where row (n, p, q) of the product goes: pixel (n, p * step + row, q * step + column) of
// y [N,H,W,K].
struct Target {
    bf16* y;
    int H, W, step, row, column;
    bool add;  // to what is there
};

struct Problem {
    Window window;
    const bf16* w;  // [K, depth]
    int K, pieces;  // depth / 8 = taps * C / 8
    Target target;
    const float* bias;  // [K], or [N,16,K]; null: none
    bool border_bias;
    std::optional<Activation> activation;

    __host__ __device__ int stages() const { return (pieces + 7) / 8; }
};

constexpr int kPatchRows = 16;  // of a product that one warp holds

template <int kRows, int kColumns>
using ForwardLayout = Layout<kRows, kColumns, kConsumerWarps * kPatchRows * kColumns * 2>;

// A thread copies the same 16 bytes (piece t % 8) of every 16th row of both matrices, so that 8
// threads read 128 bytes in a row. It keeps the corners of its rows' windows; the piece's tap and
// channel are the same for all of them.
template <class L, int kColumns>
__device__ void copy_tile(const Problem& problem, int tile_row, int tile_column,
                          Filling<L>& filling) {
    const Window& window = problem.window;
    constexpr int kStep = kGroup / 8, kOwn = L::kTileRows / kStep;
    const int thread = static_cast<int>(threadIdx.x) % kGroup;
    const int first = thread / 8, piece = thread % 8;
    // Rows 8 apart have the same swizzle.
    const int offset = first * kRowBytes + ((piece ^ (first % 8)) * 16);
    const bf16* rows[kOwn];
    uint32_t inside[kOwn];
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
        const Corner corner = corner_of(window, tile_row + first + i * kStep);
        rows[i] = window.x + int64_t{corner.piece} * 8;
        inside[i] = corner.taps;
    }
    const bf16* w = problem.w + (int64_t{tile_column + first} * problem.pieces + piece) * 8;
    const int64_t w_step = int64_t{kStep} * problem.pieces * 8;
    int tap = piece / window.pieces, channel = piece % window.pieces;
    const int tap_step = 8 / window.pieces, channel_step = 8 % window.pieces;
    for (int at = piece; at < problem.stages() * 8; at += 8) {
        std::byte* const stage = filling.begin() + offset;
        const int64_t to_tap = int64_t{tap_offset(window, tap) + channel} * 8;
#pragma unroll
        for (int i = 0; i < kOwn; ++i)
            cuda::cp_async_16(stage + i * kStep * kRowBytes, rows[i] + to_tap,
                              inside[i] >> tap & 1);
#pragma unroll
        for (int i = 0; i < kColumns / kStep; ++i)
            cuda::cp_async_16(stage + L::kABytes + i * kStep * kRowBytes, w + i * w_step,
                              tile_column + first + i * kStep < problem.K && at < problem.pieces);
        filling.end();
        w += kDepth;
        tap += tap_step;
        channel += channel_step;
        if (channel >= window.pieces) {
            channel -= window.pieces;
            ++tap;
        }
    }
}

// The 16-byte piece of a row of a warp's patch, [16, kColumns] bf16, stored so that neither a row
// of pieces nor a column of them falls on one bank.
template <int kColumns>
__device__ __forceinline__ std::byte* patch_piece(std::byte* patch, int row, int piece) {
    constexpr int kPieces = kColumns / 8;
    const int swizzle = kPieces >= 8 ? row % 8 : row / 2 % kPieces;
    return patch + (row * kPieces + (piece ^ swizzle)) * 16;
}

// Good to the last bits of f32, as bf16 asks for far less. Unused where products are missing.
[[maybe_unused]] __device__ __forceinline__ float activated(Activation activation, float x) {
    if (activation == Activation::relu) return x < 0 ? 0 : x;
    return __fdividef(1.0f, 1.0f + __expf(-x));
}

// The warp's 16 rows of sums plus bias, through the activation, as bf16 to y: by way of shared
// memory, so that a row leaves in pieces of 16 bytes side by side.
template <int kColumns>
__device__ __forceinline__ void write_patch(const Problem& problem, float (&sums)[kColumns / 2],
                                            int first_row, int tile_column, std::byte* patch) {
    constexpr int kPieces = kColumns / 8;
    const Target& target = problem.target;
    const int lane = cuda::computed_here(static_cast<int>(threadIdx.x) % 32);
    int pixel = -1, bias_row = 0;  // of row lane % 16
    if (const int row = first_row + lane % kPatchRows; row < problem.window.rows) {
        const Place at = place_of(problem.window, row);
        const int h = at.p * target.step + target.row, v = at.q * target.step + target.column;
        pixel = (at.n * target.H + h) * target.W + v;
        if (problem.border_bias)
            bias_row = at.n * 16 +
                       static_cast<int>(border_case(h, target.H) * 4 + border_case(v, target.W));
    }
    const auto for_pieces = [&](auto&& f) {
        const int here = cuda::computed_here(lane), piece = here % kPieces;
#pragma unroll
        for (int i = 0; i < kPatchRows * kPieces / 32; ++i) {
            const int row = (i * 32 + here) / kPieces;
            const int to = __shfl_sync(0xffffffffu, pixel, row);
            if (to >= 0 && tile_column + 8 * piece < problem.K)
                f(reinterpret_cast<uint4*>(patch_piece<kColumns>(patch, row, piece)),
                  reinterpret_cast<uint4*>(target.y + int64_t{to} * problem.K + tile_column +
                                           8 * piece));
        }
        __syncwarp();
    };
    if (target.add) for_pieces([](uint4* here, const uint4* there) { *here = *there; });

    const float* biases[2] = {};  // of rows lane / 4 and 8 further
    if (problem.bias)
        for (int i = 0; i < 2; ++i)
            biases[i] = problem.bias +
                        int64_t{__shfl_sync(0xffffffffu, bias_row, lane / 4 + 8 * i)} * problem.K;
    // A few columns at a time, or loads from far ahead take more registers than there are.
    constexpr int kAtOnce = 4;
#pragma unroll
    for (int first = 0; first < kPieces; first += kAtOnce) {
        const int here = cuda::computed_here(lane), g = here / 4, t = here % 4;
        const int column = tile_column + 8 * first + 2 * t;
        float2 bias[kAtOnce][2] = {};
        if (problem.bias)
#pragma unroll
            for (int j = 0; j < kAtOnce; ++j)
#pragma unroll
                for (int i = 0; i < 2; ++i)
                    if (column + 8 * j < problem.K)
                        bias[j][i] = *reinterpret_cast<const float2*>(biases[i] + column + 8 * j);
#pragma unroll
        for (int j = 0; j < kAtOnce; ++j)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                float low = sums[4 * (first + j) + 2 * i] + bias[j][i].x;
                float high = sums[4 * (first + j) + 2 * i + 1] + bias[j][i].y;
                auto* const cell = reinterpret_cast<uint32_t*>(
                                       patch_piece<kColumns>(patch, g + 8 * i, first + j)) +
                                   t;
                if (target.add) {
                    const uint32_t before = *cell;
                    low += __uint_as_float(before << 16);
                    high += __uint_as_float(before & 0xffff0000u);
                }
                if (problem.activation) {
                    low = activated(*problem.activation, low);
                    high = activated(*problem.activation, high);
                }
                *cell = cuda::pack_bf16(low, high);
            }
    }
    __syncwarp();
    for_pieces([](const uint4* here, uint4* there) { *there = *here; });
}

// y [rows, K] = windows [rows, depth] w^T, in tiles of 2 kRows by kColumns. Depth runs over taps
// and within them channels, as in w; where C is no multiple of 64, a stage holds parts of several
// taps, so that nothing but the last one's end is zeros.
//
// Persistent: a block takes every gridDim-th tile and its copying warps go on to the next while the
// others write theirs. Tiles beside each other in a row of tiles run at the same time and find each
// other's windows in L2. Registers: the sums, 128 a thread where kRows and kColumns are 128.
template <int kRows, int kColumns>
__global__ void __launch_bounds__(kThreads, 1)
    forward_kernel(const __grid_constant__ Problem problem) {
    if constexpr (cuda::kHasWarpgroupProducts) {
        using L = ForwardLayout<kRows, kColumns>;
        L::begin();
        const int columns = (problem.K + kColumns - 1) / kColumns;
        const int tiles = (problem.window.rows + L::kTileRows - 1) / L::kTileRows * columns;
        const int group = static_cast<int>(threadIdx.x) / kGroup;
        if (group == kConsumers) {
            cuda::give_up_registers<kCopierRegisters>();
            Filling<L> filling;
            for (int tile = static_cast<int>(blockIdx.x); tile < tiles;
                 tile += static_cast<int>(gridDim.x))
                copy_tile<L, kColumns>(problem, tile / columns * L::kTileRows,
                                       tile % columns * kColumns, filling);
            filling.finish();
        } else {
            cuda::take_registers<kConsumerRegisters>();
            const int warp = static_cast<int>(threadIdx.x) / 32;
            std::byte* const patch = L::staging() + warp * kPatchRows * kColumns * 2;
            Ring<L> ring;
            for (int tile = static_cast<int>(blockIdx.x); tile < tiles;
                 tile += static_cast<int>(gridDim.x)) {
                const int first_row =
                    tile / columns * L::kTileRows + group * kRows + warp % 4 * kPatchRows;
                float sums[kRows / 64][kColumns / 2];
                multiply<false>(sums, group, problem.stages(), ring);
#pragma unroll
                for (int m = 0; m < kRows / 64; ++m)
                    write_patch<kColumns>(problem, sums[m], first_row + 64 * m,
                                          tile % columns * kColumns, patch);
            }
        }
    } else {
        __trap();
    }
}

struct Tiles {
    int64_t count, multiprocessors;
    // Waves of blocks times the bytes a stage brings: what a tile shape costs.
    int64_t cost(int64_t rows, int64_t columns) const {
        return cuda::ceil_div(count, multiprocessors) * (rows + columns);
    }
};
template <int kRows, int kColumns>
Tiles tiles_of(const Exec& exec, const Problem& problem) {
    return {cuda::ceil_div(problem.window.rows, kConsumers * kRows) *
                cuda::ceil_div(problem.K, kColumns),
            cuda::properties(exec.device.index).multiprocessors};
}

template <int kRows, int kColumns>
void run_tiles(const Exec& exec, const Problem& problem) {
    const Tiles tiles = tiles_of<kRows, kColumns>(exec, problem);
    const int64_t blocks = std::min(tiles.count, tiles.multiprocessors);
    cuda::launch<forward_kernel<kRows, kColumns>>(exec.device, dim3(static_cast<unsigned>(blocks)),
                                                  dim3(kThreads),
                                                  ForwardLayout<kRows, kColumns>::kBytes, problem);
}

// The larger tile moves fewer bytes for a product, the smaller one gives more multiprocessors work.
template <int kColumns>
void run_columns(const Exec& exec, const Problem& problem) {
    if (tiles_of<128, kColumns>(exec, problem).cost(256, kColumns) <=
        tiles_of<64, kColumns>(exec, problem).cost(128, kColumns))
        run_tiles<128, kColumns>(exec, problem);
    else
        run_tiles<64, kColumns>(exec, problem);
}

void run(const Exec& exec, const Problem& problem) {
    if (problem.window.rows == 0) return;
    if (problem.K > 64)
        run_columns<128>(exec, problem);
    else if (problem.K > 32)
        run_columns<64>(exec, problem);
    else
        run_columns<32>(exec, problem);
}

}  // namespace

const char* reject_wgmma(const Conv2dProblem& p) {
    if (p.dtype != DType::bf16) return "only bf16";
    if (p.spec.kernel != 1 && p.spec.kernel != 3) return "only kernels of 1 and 3";
    if (p.spec.stride != 1 && p.spec.stride != 2) return "only strides of 1 and 2";
    if (p.C % 8 != 0 || p.K % 8 != 0) return "C and K must be multiples of 8";
    if (p.K < 32) return "too few output channels to fill a product";
    constexpr int64_t kMost = (int64_t{1} << 31) - 1024;  // rows and 16-byte pieces, as int
    if (p.N * p.H * p.W > kMost / std::max<int64_t>(p.C / 8, 1) ||
        p.N * p.P * p.Q > kMost / std::max<int64_t>(p.K / 8, 1))
        return "maps beyond 32 GiB";
    if (cuda::device_count() == 0) return "no GPU";
    const cuda::Properties& gpu = cuda::properties(0);
    if (gpu.major != 9 || gpu.minor != 0) return "only compute capability 9.0";
    return nullptr;
}

void conv2d_forward_wgmma_packed(const Exec& exec, const Conv2dProblem& p, const Tensor& x,
                                 const Tensor& w, const Tensor& bias, const Tensor& border_bias,
                                 std::optional<Activation> activation, const Tensor& y) {
    const Tensor& added = border_bias.defined() ? border_bias : bias;
    run(exec, {forward_window(p, x.data<bf16>()),
               w.data<bf16>(),
               static_cast<int>(p.K),
               static_cast<int>(p.taps() / 8),
               {y.data<bf16>(), static_cast<int>(p.P), static_cast<int>(p.Q), 1, 0, 0, false},
               added.defined() ? added.data<float>() : nullptr,
               border_bias.defined(),
               activation});
}

void conv2d_forward_wgmma(const Exec& exec, const Conv2dProblem& p, const Tensor& x,
                          const Tensor& w, const Tensor& b, const Tensor& y) {
    conv2d_forward_wgmma_packed(exec, p, x, cuda::pack_weights(exec, p, w), b, {}, {}, y);
}

// Stride 1: dx(h) = sum over r' of w(R-1-r') dy(h + r' - pad), a convolution of dy with the kernel
// turned around. Stride 2: pixel 2i + a is read through the taps r = a + pad - 2r', by dy(i + r');
// so each of the four phases of pixels has a convolution of its own: of a 3x3 kernel they have 1,
// 2, 2 and 4 taps, of a 1x1 kernel 1, 0, 0, 0.
void conv2d_grad_input_wgmma(const Exec& exec, const Conv2dProblem& p, const Tensor& dy,
                             const Tensor& w, const GradIn& dx) {
    const int R = static_cast<int>(p.spec.kernel), pad = static_cast<int>(p.spec.pad());
    const int step = static_cast<int>(p.spec.stride);
    const auto taps = [&](int phase) -> cuda::TapRange {
        if (step == 1) return {R - 1, 1, R};
        const int first = phase + pad;
        return {first, 2, first < R ? first / 2 + 1 : 0};
    };
    const int first = step == 1 ? -pad : 0;
    if (step == 2 && R == 1 && dx.beta == 0) cuda::fill(dx.grad, 0);  // phases without a tap
    for (int a = 0; a < step; ++a)
        for (int b = 0; b < step; ++b) {
            const cuda::TapRange down = taps(a), across = taps(b);
            const int count = down.count * across.count;
            const int64_t lines = (p.H - a + step - 1) / step, width = (p.W - b + step - 1) / step;
            if (lines == 0 || width == 0 || count == 0) continue;
            const Tensor packed = cuda::pack_transposed(exec, p, w, down, across);
            const Window window{dy.data<bf16>(),
                                static_cast<int>(p.P),
                                static_cast<int>(p.Q),
                                static_cast<int>(p.K / 8),
                                1,
                                first,
                                first,
                                down.count,
                                across.count,
                                static_cast<int>(p.N * lines * width),
                                Divisor(lines * width),
                                Divisor(width)};
            run(exec, {window,
                       packed.data<bf16>(),
                       static_cast<int>(p.C),
                       count * static_cast<int>(p.K / 8),
                       {dx.grad.data<bf16>(), static_cast<int>(p.H), static_cast<int>(p.W), step, a,
                        b, dx.beta != 0},
                       nullptr,
                       false,
                       {}});
        }
}

}  // namespace lumachrome
