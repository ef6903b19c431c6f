#include "layers/conv2d_narrow_cuda.hpp"

#include <algorithm>

#include "layers/cuda/narrow.cuh"
#include "layers/cuda/narrow_mma.cuh"

namespace lumachrome {
namespace narrow {
namespace {

using cuda::Values, cuda::Wider;

// --- for every type and width, by multiply-adds; see narrow_mma.cuh for bf16 on tensor cores

// Four neighbouring pixels of a row by kWidth channels are what a thread works on at a time: a
// weight that it loads serves four pixels, a narrow pixel serves kWidth channels.
constexpr int kRun = 4;
constexpr int kTileRows = 8, kTileColumns = 32, kRunsPerRow = kTileColumns / kRun,
              kRuns = kTileRows * kRunsPerRow;
template <class G>
using WideTile = Tile<kTileRows, kTileColumns>;
template <class G>
using NarrowPatch = Patch<G, kTileRows, kTileColumns>;
template <class G>
constexpr int kSeen = (kRun - 1) * G::kStride + 3;  // columns of a row that a run sees

// The narrow pixels of `patch` [pixels][kF] that row r of the taps of run `run` sees.
template <class G, class Sum>
__device__ __forceinline__ void look(const Sum* patch, int run, int r, int f,
                                     Sum (&seen)[kSeen<G>]) {
    const int row = run / kRunsPerRow * G::kStride + r;
    const int column = run % kRunsPerRow * kRun * G::kStride;
#pragma unroll
    for (int i = 0; i < kSeen<G>; ++i)
        seen[i] = patch[(row * NarrowPatch<G>::kWide + column + i) * G::kF + f];
}

template <class G, class T>
__device__ __forceinline__ void load_patch(const G& g, const WideTile<G>& at, const T* map,
                                           Wider<T>* patch) {
    NarrowPatch<G>::visit(g, at, map, [&](int i, const T* pixel) {
#pragma unroll
        for (int f = 0; f < G::kF; ++f)
            patch[i * G::kF + f] = pixel ? static_cast<Wider<T>>(pixel[f]) : Wider<T>(0);
    });
}

// Wide from narrow. A block has 8x32 wide pixels; in shared memory are the weights [kColumn][D] and
// the patch. Neighbouring threads have neighbouring channels, so that a pixel is written in one
// piece. Written once: D channels; read: about one narrow pixel for each.
template <class G, class T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    wide_kernel(G g, const T* map, const Wider<T>* w, const Wider<T>* b, T* wide, bool add) {
    using Sum = Wider<T>;
    auto* const weights = reinterpret_cast<Sum*>(cuda::dynamic_shared());
    auto* const patch = weights + G::kColumn * g.D;
    const WideTile<G> at(blockIdx.x, g.P, g.Q);
    for (int i = static_cast<int>(threadIdx.x); i < G::kColumn * g.D; i += kThreads)
        weights[i] = w[g.weight(i / g.D, i % g.D)];
    load_patch(g, at, map, patch);
    __syncthreads();

    const int groups = g.D / kWidth;
    for (int i = static_cast<int>(threadIdx.x); i < kRuns * groups; i += kThreads) {
        const int run = i / groups, d = (i - run * groups) * kWidth;
        const int p = at.row + run / kRunsPerRow, q = at.column + run % kRunsPerRow * kRun;
        if (p >= g.P || q >= g.Q) continue;
        Values<T, kWidth> sums[kRun];
#pragma unroll
        for (int c = 0; c < kWidth; ++c) {
            const Sum start = b ? b[d + c] : Sum(0);
#pragma unroll
            for (int k = 0; k < kRun; ++k) sums[k].at[c] = start;
        }
#pragma unroll
        for (int r = 0; r < 3; ++r)
#pragma unroll
            for (int f = 0; f < G::kF; ++f) {
                Sum seen[kSeen<G>];
                look<G>(patch, run, r, f, seen);
#pragma unroll
                for (int s = 0; s < 3; ++s) {
                    const int j = (r * 3 + s) * G::kF + f;
                    const auto factor = cuda::load_pack<kWidth>(weights + j * g.D + d);
#pragma unroll
                    for (int k = 0; k < kRun; ++k)
#pragma unroll
                        for (int c = 0; c < kWidth; ++c)
                            sums[k].at[c] += seen[k * G::kStride + s] * factor.at[c];
                }
            }
        T* const to = wide + ((int64_t{at.n} * g.P + p) * g.Q + q) * g.D + d;
#pragma unroll
        for (int k = 0; k < kRun; ++k)
            if (q + k < g.Q) cuda::store_or_add<kWidth>(to + int64_t{k} * g.D, sums[k], add);
    }
}

// Narrow from wide. A block has 16x32 narrow pixels. First a thread has a wide pixel, reads its
// channels once and keeps the kColumn inner products in registers; the weights [kColumn][D] are in
// shared memory, the same for all threads at a time. Then the narrow pixels collect them.
constexpr int kNarrowRows = 16, kNarrowColumns = 32;

template <class G, class T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    narrow_kernel(G g, const T* wide, const Wider<T>* w, const Wider<T>* b, T* map, bool add) {
    using Sum = Wider<T>;
    using Collect = Collected<G, kNarrowRows, kNarrowColumns>;
    auto* const weights = reinterpret_cast<Sum*>(cuda::dynamic_shared());
    auto* const sums = weights + G::kColumn * g.D;
    const Tile<kNarrowRows, kNarrowColumns> at(blockIdx.x, g.H, g.W);
    for (int i = static_cast<int>(threadIdx.x); i < G::kColumn * g.D; i += kThreads)
        weights[i] = w[g.weight(i / g.D, i % g.D)];
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < Collect::kPixels; i += kThreads) {
        const int64_t from = Collect::source(g, at, i);
        Sum product[G::kColumn] = {};
        if (from >= 0)
            for (int d = 0; d < g.D; d += kWidth) {
                const auto v = cuda::load_pack<kWidth>(wide + from * g.D + d);
#pragma unroll
                for (int j = 0; j < G::kColumn; ++j) {
                    const auto factor = cuda::load_pack<kWidth>(weights + j * g.D + d);
#pragma unroll
                    for (int c = 0; c < kWidth; ++c) product[j] += v.at[c] * factor.at[c];
                }
            }
#pragma unroll
        for (int j = 0; j < G::kColumn; ++j) sums[i * G::kColumn + j] = product[j];
    }
    __syncthreads();
    Collect::store(g, at, sums, b, map, add);
}

// Gradient of the weights, stage 1: partial [blocks][kColumn][D]. A thread has kWidth channels and
// one narrow channel, 9 * kWidth sums in registers, and takes every so manieth run of every so
// manieth tile; both sides of the map are read once. At the end the sums of a block are added up
// in order.
template <class G, class T, int kWidth>
__global__ void __launch_bounds__(kThreads, 2)
    weight_kernel(G g, const T* map, const T* wide, Wider<T>* partial, unsigned tiles) {
    using Sum = Wider<T>;
    auto* const patch = reinterpret_cast<Sum*>(cuda::dynamic_shared());
    const int pairs = g.D / kWidth * G::kF, lanes = kThreads / pairs;
    const int lane = static_cast<int>(threadIdx.x) / pairs;
    const int pair = static_cast<int>(threadIdx.x) - lane * pairs;
    const int d = pair / G::kF * kWidth, f = pair % G::kF;
    Values<T, kWidth> sums[9] = {};
    for (unsigned tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        const WideTile<G> at(tile, g.P, g.Q);
        __syncthreads();
        load_patch(g, at, map, patch);
        __syncthreads();
        if (lane >= lanes) continue;
        for (int run = lane; run < kRuns; run += lanes) {
            const int p = at.row + run / kRunsPerRow, q = at.column + run % kRunsPerRow * kRun;
            if (p >= g.P || q >= g.Q) continue;
            const T* const from = wide + ((int64_t{at.n} * g.P + p) * g.Q + q) * g.D + d;
            Values<T, kWidth> v[kRun];
#pragma unroll
            for (int k = 0; k < kRun; ++k)
                v[k] = q + k < g.Q ? cuda::load_pack<kWidth>(from + int64_t{k} * g.D)
                                   : Values<T, kWidth>{};
#pragma unroll
            for (int r = 0; r < 3; ++r) {
                Sum seen[kSeen<G>];
                look<G>(patch, run, r, f, seen);
#pragma unroll
                for (int s = 0; s < 3; ++s)
#pragma unroll
                    for (int k = 0; k < kRun; ++k)
#pragma unroll
                        for (int c = 0; c < kWidth; ++c)
                            sums[r * 3 + s].at[c] += seen[k * G::kStride + s] * v[k].at[c];
            }
        }
    }
    Sum* const shared = patch;  // [lanes][kF][D]
    const int row = g.D * G::kF;
#pragma unroll
    for (int tap = 0; tap < 9; ++tap) {
        __syncthreads();
        if (lane < lanes)
#pragma unroll
            for (int c = 0; c < kWidth; ++c) shared[lane * row + f * g.D + d + c] = sums[tap].at[c];
        __syncthreads();
        for (int i = static_cast<int>(threadIdx.x); i < row; i += kThreads) {
            Sum total = 0;
            for (int l = 0; l < lanes; ++l) total += shared[l * row + i];
            partial[(int64_t{blockIdx.x} * 9 + tap) * row + i] = total;
        }
    }
}

// Stage 2: a block adds up 32 weights, each by 8 threads that take every eighth partial sum.
constexpr int kOutputs = 32, kStrips = kThreads / kOutputs;

template <class G, class Sum>
__global__ void __launch_bounds__(kThreads)
    weight_sums_kernel(G g, const Sum* partial, Sum* dw, int blocks, bool add) {
    __shared__ Sum shared[kStrips][kOutputs];
    const int column = static_cast<int>(threadIdx.x) % kOutputs;
    const int strip = static_cast<int>(threadIdx.x) / kOutputs;
    const int count = G::kColumn * g.D, i = static_cast<int>(blockIdx.x) * kOutputs + column;
    Sum total = 0;
    if (i < count)
#pragma unroll 8
        for (int k = strip; k < blocks; k += kStrips) total += partial[int64_t{k} * count + i];
    shared[strip][column] = total;
    __syncthreads();
    if (strip != 0 || i >= count) return;
#pragma unroll
    for (int s = 1; s < kStrips; ++s) total += shared[s][column];
    Sum& to = dw[g.weight(i / g.D, i % g.D)];
    to = add ? to + total : total;
}

// --- launches

// Calls f with the geometry as a type.
template <class F>
void with_geometry(const Conv2dProblem& p, const F& f) {
    if (p.C != 1)
        f(Geometry<2, 1>(p));
    else if (p.spec.stride == 1)
        f(Geometry<1, 1>(p));
    else
        f(Geometry<1, 2>(p));
}
// Calls f with the type of the elements and the number of channels in one access.
template <class F>
void with_packs(const Conv2dProblem& p, int D, const Tensor& wide, const F& f) {
    cuda::dispatch_activations(p.dtype, [&](auto t) {
        constexpr int kWidth = cuda::kPackOf<decltype(t)>;
        if (D % kWidth == 0 && cuda::aligned_16({wide.raw()}))
            f(t, std::integral_constant<int, kWidth>());
        else
            f(t, std::integral_constant<int, 1>());
    });
}
template <class T>
T* data_or_null(const Tensor& t) {
    return t.defined() ? t.data<T>() : nullptr;
}
bool on_tensor_cores(const Conv2dProblem& p, int D, const Tensor& wide) {
    return p.dtype == DType::bf16 && D % kChunk == 0 && cuda::aligned_16({wide.raw()});
}

void wide_from_narrow(const Exec& exec, const Conv2dProblem& p, const Tensor& map, const Tensor& w,
                      const Tensor& b, const Tensor& wide, bool add) {
    with_geometry(p, [&](const auto& g) {
        using G = std::decay_t<decltype(g)>;
        if (on_tensor_cores(p, g.D, wide)) return launch_wide_mma(exec, g, map, w, b, wide, add);
        with_packs(p, g.D, wide, [&](auto t, auto width) {
            using T = decltype(t);
            const int64_t tiles = WideTile<G>::count(g.N, g.P, g.Q);
            const size_t bytes =
                (G::kColumn * g.D + NarrowPatch<G>::kPixels * G::kF) * sizeof(Wider<T>);
            cuda::launch<wide_kernel<G, T, decltype(width)::value>>(
                exec.device, dim3(static_cast<unsigned>(tiles)), kThreads, bytes, g, map.data<T>(),
                w.data<Wider<T>>(), data_or_null<Wider<T>>(b), wide.data<T>(), add);
        });
    });
}

void narrow_from_wide(const Exec& exec, const Conv2dProblem& p, const Tensor& wide, const Tensor& w,
                      const Tensor& b, const Tensor& map, bool add) {
    with_geometry(p, [&](const auto& g) {
        using G = std::decay_t<decltype(g)>;
        if (on_tensor_cores(p, g.D, wide)) return launch_narrow_mma(exec, g, wide, w, b, map, add);
        with_packs(p, g.D, wide, [&](auto t, auto width) {
            using T = decltype(t);
            const int64_t tiles = Tile<kNarrowRows, kNarrowColumns>::count(g.N, g.H, g.W);
            const size_t pixels = Collected<G, kNarrowRows, kNarrowColumns>::kPixels;
            const size_t bytes = G::kColumn * (g.D + pixels) * sizeof(Wider<T>);
            cuda::launch<narrow_kernel<G, T, decltype(width)::value>>(
                exec.device, dim3(static_cast<unsigned>(tiles)), kThreads, bytes, g, wide.data<T>(),
                w.data<Wider<T>>(), data_or_null<Wider<T>>(b), map.data<T>(), add);
        });
    });
}

void weights(const Exec& exec, const Conv2dProblem& p, const Tensor& map, const Tensor& wide,
             const GradIn& dw) {
    // Two blocks for each multiprocessor: their registers allow no more.
    const int64_t most = 2 * cuda::properties(exec.device.index).multiprocessors;
    with_geometry(p, [&](const auto& g) {
        using G = std::decay_t<decltype(g)>;
        const bool mma = on_tensor_cores(p, g.D, wide);
        const int64_t tiles =
            mma ? WideMmaTile::count(g.N, g.P, g.Q) : WideTile<G>::count(g.N, g.P, g.Q);
        const auto blocks = static_cast<unsigned>(std::min(tiles, most));
        const int64_t count = int64_t{G::kColumn} * g.D;
        const Tensor partial = Tensor::empty({blocks, count}, dw.grad.dtype(), exec.device);
        if (mma)
            launch_weight_mma(exec, g, map, wide, partial, tiles);
        else
            with_packs(p, g.D, wide, [&](auto t, auto width) {
                using T = decltype(t);
                constexpr int kWidth = decltype(width)::value;
                const size_t elements =
                    std::max(NarrowPatch<G>::kPixels * G::kF, kThreads * kWidth);
                cuda::launch<weight_kernel<G, T, kWidth>>(
                    exec.device, dim3(blocks), kThreads, elements * sizeof(Wider<T>), g,
                    map.data<T>(), wide.data<T>(), partial.data<Wider<T>>(),
                    static_cast<unsigned>(tiles));
            });
        dispatch_float(dw.grad.dtype(), [&](auto t) {
            using Sum = decltype(t);
            cuda::launch<weight_sums_kernel<G, Sum>>(
                exec.device, dim3(static_cast<unsigned>(cuda::ceil_div(count, kOutputs))), kThreads,
                0, g, partial.data<Sum>(), dw.grad.data<Sum>(), static_cast<int>(blocks),
                dw.beta != 0);
        });
    });
}

}  // namespace
}  // namespace narrow

void conv2d_forward_narrow_cuda(const Exec& exec, const Conv2dProblem& p, const Tensor& x,
                                const Tensor& w, const Tensor& b, const Tensor& y) {
    if (p.C == 1)
        narrow::wide_from_narrow(exec, p, x, w, b, y, false);
    else
        narrow::narrow_from_wide(exec, p, x, w, b, y, false);
}

void conv2d_grad_input_narrow_cuda(const Exec& exec, const Conv2dProblem& p, const Tensor& dy,
                                   const Tensor& w, const GradIn& dx) {
    if (p.C == 1)
        narrow::narrow_from_wide(exec, p, dy, w, {}, dx.grad, dx.beta != 0);
    else
        narrow::wide_from_narrow(exec, p, dy, w, {}, dx.grad, dx.beta != 0);
}

void conv2d_grad_weight_narrow_cuda(const Exec& exec, const Conv2dProblem& p, const Tensor& x,
                                    const Tensor& dy, const GradIn& dw) {
    if (p.C == 1)
        narrow::weights(exec, p, x, dy, dw);
    else
        narrow::weights(exec, p, dy, x, dw);
}

}  // namespace lumachrome
