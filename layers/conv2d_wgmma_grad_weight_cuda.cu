#include <algorithm>

#include "layers/conv2d_wgmma.hpp"
#include "layers/cuda/wgmma_pipeline.cuh"
#include "layers/cuda/window.cuh"

namespace lumachrome {
namespace {

using namespace wgmma;

struct Problem {
    Window window;   // of the forward pass
    const bf16* dy;  // [window.rows, K]
    int K, pieces;   // taps * C / 8
    int stages;      // 64 pixels each, of one split
    float* partial;  // [splits, K, taps * C]
};

// A thread copies the same 16 bytes (piece t % 8) of every 16th pixel, of all slabs of 64 columns.
// What changes from stage to stage are the pixels, and their corners with them; which tap and
// channels a slab's piece is stays.
template <class L, int kColumns>
__device__ void copy_tile(const Problem& problem, int tile_piece, int tile_column, int first_stage,
                          int stages, Filling<L>& filling) {
    const Window& window = problem.window;
    constexpr int kStep = kGroup / 8, kOwn = kDepth / kStep;
    constexpr int kSlabs = L::kTileRows / 64;
    const int thread = static_cast<int>(threadIdx.x) % kGroup;
    const int first = thread / 8, piece = thread % 8;
    const int offset = first * kRowBytes + ((piece ^ (first % 8)) * 16);
    int taps[kSlabs], to_tap[kSlabs];
#pragma unroll
    for (int s = 0; s < kSlabs; ++s) {
        const int at = tile_piece + 8 * s + piece;
        taps[s] = at < problem.pieces ? at / window.pieces : 31;  // a bit that no corner has
        to_tap[s] = tap_offset(window, taps[s]) + at % window.pieces;
    }
    for (int stage = first_stage; stage < first_stage + stages; ++stage) {
        const int pixel = stage * kDepth + first;
        Corner corners[kOwn];
#pragma unroll
        for (int i = 0; i < kOwn; ++i) corners[i] = corner_of(window, pixel + i * kStep);
        std::byte* const to = filling.begin() + offset;
#pragma unroll
        for (int i = 0; i < kOwn; ++i) {
#pragma unroll
            for (int s = 0; s < kSlabs; ++s)
                cuda::cp_async_16(to + s * kSlabBytes + i * kStep * kRowBytes,
                                  window.x + (int64_t{corners[i].piece} + to_tap[s]) * 8,
                                  corners[i].taps >> taps[s] & 1);
#pragma unroll
            for (int s = 0; s < kColumns / 64; ++s) {
                const int column = tile_column + 64 * s + 8 * piece;
                cuda::cp_async_16(to + L::kABytes + s * kSlabBytes + i * kStep * kRowBytes,
                                  problem.dy + int64_t{pixel + i * kStep} * problem.K + column,
                                  column < problem.K && pixel + i * kStep < window.rows);
            }
        }
        filling.end();
    }
}

// partial[split](k, rsc) = sum over the split's pixels of dy(pixel, k) window(pixel, rsc): the
// transpose dw^T = windows^T dy in tiles of 2 kRows (of taps * C) by kColumns (of K), since taps *
// C is the larger of the two. Depth are the pixels, so both matrices lie with the depth along the
// rows of a stage, 64 columns to a slab. A block has one tile of one split; split z of the grid.
template <int kRows, int kColumns>
__global__ void __launch_bounds__(kThreads, 1)
    grad_weight_kernel(const __grid_constant__ Problem problem) {
    if constexpr (cuda::kHasWarpgroupProducts) {
        using L = Layout<kRows, kColumns, 0>;
        L::begin();
        const int tile_row = static_cast<int>(blockIdx.x) * L::kTileRows;
        const int tile_column = static_cast<int>(blockIdx.y) * kColumns;
        const int split = static_cast<int>(blockIdx.z), first_stage = split * problem.stages;
        const int all = (problem.window.rows + kDepth - 1) / kDepth;
        const int stages = min(problem.stages, all - first_stage);
        const int group = static_cast<int>(threadIdx.x) / kGroup;
        if (group == kConsumers) {
            cuda::give_up_registers<kCopierRegisters>();
            Filling<L> filling;
            copy_tile<L, kColumns>(problem, tile_row / 8, tile_column, first_stage, stages,
                                   filling);
            filling.finish();
        } else {
            cuda::take_registers<kConsumerRegisters>();
            Ring<L> ring;
            float sums[kRows / 64][kColumns / 2];
            multiply<true>(sums, group, stages, ring);
            const int lane = static_cast<int>(threadIdx.x) % 32;
            const int row =
                tile_row + group * kRows + static_cast<int>(threadIdx.x) / 32 % 4 * 16 + lane / 4;
            const int64_t depth = int64_t{problem.pieces} * 8;
            float* const out = problem.partial + split * problem.K * depth;
            // Eight lanes write 32 bytes in a row.
#pragma unroll
            for (int m = 0; m < kRows / 64; ++m)
#pragma unroll
                for (int i = 0; i < kColumns / 2; ++i) {
                    const int column = tile_column + i / 4 * 8 + lane % 4 * 2 + i % 2;
                    const int64_t at = row + 64 * m + i / 2 % 2 * 8;
                    if (at < depth && column < problem.K) out[column * depth + at] = sums[m][i];
                }
        }
    } else {
        __trap();
    }
}

// dw = beta dw + the splits' sums, in their order.
__global__ void add_splits_kernel(const float* partial, float* dw, int64_t count, int splits,
                                  float beta) {
    for (int64_t i = cuda::first_index(); i < count; i += cuda::index_step()) {
        float sum = partial[i];
        for (int s = 1; s < splits; ++s) sum += partial[s * count + i];
        dw[i] = beta == 0 ? sum : beta * dw[i] + sum;
    }
}

// Stages of a split, so that the blocks fill the multiprocessors evenly: the time of a wave is its
// stages and what a block takes besides (first copies, writing the sums), about as long as 8 more.
int64_t stages_of_split(int64_t tiles, int64_t stages, int64_t multiprocessors) {
    constexpr int64_t kOverhead = 8, kMostSplits = 64;
    int64_t best = stages, best_cost = INT64_MAX;
    for (int64_t splits = 1; splits <= std::min(kMostSplits, stages); ++splits) {
        const int64_t each = cuda::ceil_div(stages, splits);
        const int64_t cost = cuda::ceil_div(tiles * cuda::ceil_div(stages, each), multiprocessors) *
                             (each + kOverhead);
        if (cost >= best_cost) continue;
        best = each;
        best_cost = cost;
    }
    return best;
}

template <int kRows, int kColumns>
void run(const Exec& exec, Problem problem, const GradIn& dw) {
    const int64_t depth = int64_t{problem.pieces} * 8;
    const int64_t rows = cuda::ceil_div(depth, kConsumers * kRows);
    const int64_t columns = cuda::ceil_div(problem.K, kColumns);
    const int64_t stages = cuda::ceil_div(problem.window.rows, kDepth);
    const int64_t each = stages_of_split(rows * columns, stages,
                                         cuda::properties(exec.device.index).multiprocessors);
    const int64_t splits = cuda::ceil_div(stages, each);
    const Tensor partial = Tensor::empty({splits, problem.K, depth}, DType::f32, exec.device);
    problem.stages = static_cast<int>(each);
    problem.partial = partial.data<float>();
    cuda::launch<grad_weight_kernel<kRows, kColumns>>(
        exec.device,
        dim3(static_cast<unsigned>(rows), static_cast<unsigned>(columns),
             static_cast<unsigned>(splits)),
        dim3(kThreads), Layout<kRows, kColumns, 0>::kBytes, problem);
    const int64_t count = problem.K * depth;
    cuda::launch<add_splits_kernel>(exec.device, cuda::blocks_for(count), cuda::kThreads, 0,
                                    problem.partial, dw.grad.data<float>(), count,
                                    static_cast<int>(splits), dw.beta);
}

}  // namespace

void conv2d_grad_weight_wgmma(const Exec& exec, const Conv2dProblem& p, const Tensor& x,
                              const Tensor& dy, const GradIn& dw) {
    const Problem problem{forward_window(p, x.data<bf16>()),
                          dy.data<bf16>(),
                          static_cast<int>(p.K),
                          static_cast<int>(p.taps() / 8),
                          0,
                          nullptr};
    // 128 rows are enough where there are no more.
    if (p.taps() <= 128)
        p.K > 64 ? run<64, 128>(exec, problem, dw) : run<64, 64>(exec, problem, dw);
    else
        p.K > 64 ? run<128, 128>(exec, problem, dw) : run<128, 64>(exec, problem, dw);
}

}  // namespace lumachrome
