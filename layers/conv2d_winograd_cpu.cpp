// F(4x4,3x3) for training. Forward and the gradient of x are one convolution each, with weights
// packed anew. The gradient of the weights keeps tiles side by side,
//   V [36][C/panel][tiles][panel]   transformed tiles of x; Z: of dy, with K for C
//   dU [36][C/panel][K][panel]      gradient of the transformed weights
// and works them off in batches, each in phases: transform (a task is a panel and a run of tiles),
// multiply (a task is a frequency).
#include "layers/conv2d_winograd.hpp"

#include <algorithm>

#include "layers/conv2d_winograd_tiles.hpp"

namespace lumachrome {
namespace {

constexpr int64_t kOut = 4, kIn = 6, kFrequencies = 36;
constexpr int64_t kFewChannels = 256;  // C + K up to which a thread takes a batch of tiles alone
constexpr int64_t kAloneFloats = 192 << 10, kSharedFloats = 1 << 20;  // of a batch: L2, L3
constexpr int64_t kWeightGroups = 8;  // partial sums of dw, where one thread takes a batch alone

const WinogradTransforms& transforms() {
    return winograd_tiles_for(isa()).f4;
}
int64_t padded(int64_t channels) {
    return divide_up(channels, gemm_tile().panel) * gemm_tile().panel;
}
WinogradCut cut(int64_t N, int64_t H, int64_t W) {
    return {N, H, W, kOut, 0, H};
}

// y [N,H,W,K] = beta y + x [N,H,W,C] convolved (+ b)
void convolve(const Exec& exec, const WinogradCut& tiles, const WinogradWeights& weights,
              const float* w, const float* x, const float* b, float* y, float beta) {
    WinogradConvolution convolution{
        weights, tiles, nullptr, x, 0, y, {.bias = b, .add = beta != 0}};
    const int64_t shared = convolution.shared_floats();
    float* v = scratch<float, Scratch::operation>(shared + weights.floats);
    weights.pack(exec, w, v + shared);
    convolution.u = v + shared;
    convolution.run(exec, v);
}

// Tiles are worked off in batches, cut by the problem alone. With few channels a batch fits L2 and
// one thread takes it through all phases (`alone`); with many, all threads share a batch that fits
// L3 and is no smaller than a third of dU, which is read and written once a batch.
struct Batches {
    Batches(int64_t total_tiles, int64_t C, int64_t K)
        : total(total_tiles), alone(C + K <= kFewChannels) {
        const int64_t shared = std::max(kSharedFloats, kFrequencies * C * K / 3);
        const int64_t floats = alone ? kAloneFloats : shared;
        const int64_t most = std::max<int64_t>(1, floats / (kFrequencies * (C + K)));
        size = divide_up(total, divide_up(total, most));
    }
    int64_t count() const { return divide_up(total, size); }
    int64_t begin(int64_t batch) const { return batch * size; }
    int64_t tiles(int64_t batch) const { return std::min(size, total - batch * size); }
    int64_t total, size;
    bool alone;
};

using Transform = void (*)(const WinogradMap<const float>&, const WinogradWindow*, int64_t, float*,
                           int64_t);

// V or Z of the tiles [begin, begin + count), windows of `size` pixels from `pad` before them on.
void transform_tiles(const Exec& exec, Transform transform, const WinogradCut& cut, int64_t size,
                     int64_t pad, const float* x, int64_t C, int64_t begin, int64_t count, float* v,
                     int64_t stride) {
    const int64_t panel = gemm_tile().panel, panels = divide_up(C, panel);
    parallel_for(exec, divide_up(count, WinogradCut::kRun) * panels, [&](int64_t task) {
        const int64_t first = task / panels * WinogradCut::kRun, c = task % panels * panel;
        const int64_t run = std::min(WinogradCut::kRun, count - first);
        WinogradWindow windows[WinogradCut::kRun];
        cut.windows(begin + first, run, size, pad, C, 0, cut.H, windows);
        transform({x + c, cut.W * C, C, C - c}, windows, run, v + c * count + first * panel,
                  stride);
    });
}

// dU[f] [C/panel][K][panel] = (dU +) the sum over tiles of Z V.
void multiply_tiles(const float* v, const float* z, float* du, int64_t tiles, int64_t C, int64_t K,
                    bool add) {
    const GemmTile& tile = gemm_tile();
    const int64_t parts = divide_up(tile.panel, tile.max_rows);  // of a panel, about equal
    for (int64_t c = 0; c < C; c += tile.panel)
        for (int64_t k = 0; k < K; k += tile.panel)
            for (int64_t part = 0; part < parts; ++part) {
                const int64_t begin = tile.panel * part / parts;
                const int64_t end = std::min(K - k, tile.panel * (part + 1) / parts);
                if (begin >= end) break;
                tile.multiply_turned(z + k * tiles + begin, v + c * tiles,
                                     du + c * K + (k + begin) * tile.panel, tile.panel, end - begin,
                                     tiles, add);
            }
}

// dw = beta dw + G^T dU G, dU the sum of `groups` partial ones.
void transform_weight_grad(const Exec& exec, const Conv2dProblem& p, float* du, int64_t stride,
                           int64_t groups, float* dw, float beta) {
    const GemmTile& tile = gemm_tile();
    parallel_for(exec, p.K, [&](int64_t k) {
        for (int64_t c = 0; c < p.C; c += tile.lanes) {
            float* from = du + (c / tile.panel * p.K + k) * tile.panel + c % tile.panel;
            for (int64_t group = 1; group < groups; ++group)
                for (int64_t f = 0; f < kFrequencies; ++f)
                    for (int64_t lane = 0; lane < tile.lanes; ++lane)
                        from[f * stride + lane] += from[(group * kFrequencies + f) * stride + lane];
            transforms().weights_grad(from, stride, p.C - c, dw + k * 9 * p.C + c, p.C, beta != 0);
        }
    });
}

}  // namespace

const char* winograd_reject(const Conv2dProblem& p) {
    if (p.dtype != DType::f32) return "needs f32";
    if (p.spec.kernel != 3) return "needs a 3x3 kernel";
    if (p.spec.stride != 1) return "needs stride 1";
    return nullptr;
}

const char* winograd_avoid(const Conv2dProblem& p) {
    // Measured: the products of a tile cost what gemm needs for 4 pixels, its transforms another,
    // the transform of the weights about 160.
    constexpr int64_t kChannels = 8, kTilePixels = 5, kWeightPixels = 160;
    if (p.C < kChannels || p.K < kChannels) return "too few channels to pay for the transforms";
    const int64_t tiles = cut(p.N, p.P, p.Q).count();
    if (p.N * p.P * p.Q < kTilePixels * tiles + kWeightPixels)
        return "too few pixels to pay for the transforms";
    return nullptr;
}

void forward_winograd(const Exec& exec, const Conv2dProblem& p, const Tensor& x, const Tensor& w,
                      const Tensor& b, const Tensor& y) {
    convolve(exec, cut(p.N, p.H, p.W), {transforms(), p.C, p.K}, w.data<float>(), x.data<float>(),
             b.defined() ? b.data<float>() : nullptr, y.data<float>(), 0);
}

void grad_input_winograd(const Exec& exec, const Conv2dProblem& p, const Tensor& dy,
                         const Tensor& w, const GradIn& dx) {
    convolve(exec, cut(p.N, p.H, p.W), {transforms(), p.K, p.C, true}, w.data<float>(),
             dy.data<float>(), nullptr, dx.grad.data<float>(), dx.beta);
}

void grad_weight_winograd(const Exec& exec, const Conv2dProblem& p, const Tensor& x,
                          const Tensor& dy, const GradIn& dw) {
    const WinogradCut tiles = cut(p.N, p.H, p.W);
    const Batches batches(tiles.count(), padded(p.C), padded(p.K));
    const int64_t u_stride = odd_lines(padded(p.C) * p.K);
    const int64_t v_stride = odd_lines(padded(p.C) * batches.size);
    const int64_t z_stride = odd_lines(padded(p.K) * batches.size);
    const auto run = [&](const Exec& inner, int64_t batch, float* du, bool add) {
        float* v = scratch<float>(kFrequencies * (v_stride + z_stride));
        float* z = v + kFrequencies * v_stride;
        const int64_t begin = batches.begin(batch), count = batches.tiles(batch);
        transform_tiles(inner, transforms().input, tiles, kIn, 1, x.data<float>(), p.C, begin,
                        count, v, v_stride);
        transform_tiles(inner, transforms().output_grad, tiles, kOut, 0, dy.data<float>(), p.K,
                        begin, count, z, z_stride);
        parallel_for(inner, kFrequencies, [&](int64_t f) {
            multiply_tiles(v + f * v_stride, z + f * z_stride, du + f * u_stride, count, p.C, p.K,
                           add);
        });
    };
    const int64_t per_group =
        batches.alone ? divide_up(batches.count(), kWeightGroups) : batches.count();
    const int64_t groups = divide_up(batches.count(), per_group);
    float* partial = scratch<float, Scratch::operation>(groups * kFrequencies * u_stride);
    const auto sum_group = [&](const Exec& inner, int64_t group) {
        const int64_t first = group * per_group, end = std::min(batches.count(), first + per_group);
        for (int64_t batch = first; batch < end; ++batch)
            run(inner, batch, partial + group * kFrequencies * u_stride, batch > first);
    };
    if (batches.alone)
        parallel_for(exec, groups, [&](int64_t group) { sum_group(Exec{}, group); });
    else
        sum_group(exec, 0);
    transform_weight_grad(exec, p, partial, u_stride, groups, dw.grad.data<float>(), dw.beta);
}

}  // namespace lumachrome
