// Convolution on the CPU: `gemm` gathers the pixels that a tile of outputs reads into rows (im2col)
// and multiplies matrices; `naive` is the definition's loops and the last resort; the others have
// files of their own.
#include <algorithm>
#include <cstring>

#include "layers/conv2d_narrow.hpp"
#include "layers/conv2d_stride2.hpp"
#include "layers/conv2d_winograd.hpp"
#include "tensor/gemm.hpp"

namespace lumachrome {
namespace {

constexpr int64_t kTilePixels = 256;  // rows of one product: large enough to amortise packing of w
constexpr int64_t kWeightGroups = 4;  // partial sums of dw; fixed, so bits do not depend on threads

int64_t tiles(int64_t pixels) {
    return (pixels + kTilePixels - 1) / kTilePixels;
}

// Row r of the window of output pixel `index`: S*C values, contiguous in NHWC except at the border.
template <class T>
void gather_row(const Conv2dProblem& p, const T* x, int64_t index, int64_t r, T* out) {
    const int64_t q = index % p.Q, rest = index / p.Q;
    const int64_t h = (rest % p.P) * p.spec.stride + r - p.spec.pad();
    const int64_t run = p.spec.kernel * p.C;
    if (h < 0 || h >= p.H) {
        std::fill_n(out, run, T{0});
        return;
    }
    const int64_t w0 = q * p.spec.stride - p.spec.pad();
    const int64_t skip = std::max<int64_t>(0, -w0);
    const int64_t take = std::min(p.spec.kernel, p.W - w0);
    const T* row = x + ((rest / p.P) * p.H + h) * p.W * p.C;
    std::fill_n(out, skip * p.C, T{0});
    std::copy_n(row + (w0 + skip) * p.C, (take - skip) * p.C, out + skip * p.C);
    std::fill_n(out + take * p.C, run - take * p.C, T{0});
}

// y = beta y + im2col(x) w^T (+ b)
template <class T>
void forward_tiles(const Exec& exec, const Conv2dProblem& p, const T* x, const T* w, const T* b,
                   T* y, float beta) {
    const int64_t pixels = p.N * p.P * p.Q, taps = p.taps(), run = p.spec.kernel * p.C;
    parallel_for(exec, tiles(pixels), [&](int64_t tile) {
        const int64_t begin = tile * kTilePixels;
        const int64_t count = std::min(kTilePixels, pixels - begin);
        const T* rows = x + begin * p.C;  // 1x1, stride 1: pixels are rows already
        if (p.spec.kernel != 1 || p.spec.stride != 1) {
            T* columns = scratch<T>(kTilePixels * taps);
            for (int64_t i = 0; i < count; ++i)
                for (int64_t r = 0; r < p.spec.kernel; ++r)
                    gather_row(p, x, begin + i, r, columns + i * taps + r * run);
            rows = columns;
        }
        T* out = y + begin * p.K;
        float product_beta = beta;
        if (b) {
            for (int64_t i = 0; i < count; ++i) std::copy_n(b, p.K, out + i * p.K);
            product_beta = 1;
        }
        gemm<T>({rows, count, taps, taps}, {w, p.K, taps, taps, true}, out, p.K, product_beta);
    });
}

void forward_gemm(const Exec& exec, const Conv2dProblem& p, const Tensor& x, const Tensor& w,
                  const Tensor& b, const Tensor& y) {
    dispatch_float(y.dtype(), [&](auto t) {
        using T = decltype(t);
        forward_tiles<T>(exec, p, x.data<T>(), w.data<T>(), b.defined() ? b.data<T>() : nullptr,
                         y.data<T>(), 0);
    });
}

// Stride 1: dx is the convolution of dy with the kernel turned by 180 degrees, channels swapped.
template <class T>
void grad_input_flipped(const Exec& exec, const Conv2dProblem& p, const T* dy, const T* w, T* dx,
                        float beta) {
    const int64_t R = p.spec.kernel;
    T* f = scratch<T, Scratch::operation>(p.C * R * R * p.K);
    parallel_for(exec, p.C, [&](int64_t c) {
        for (int64_t rs = 0; rs < R * R; ++rs)
            for (int64_t k = 0; k < p.K; ++k)
                f[(c * R * R + rs) * p.K + k] = w[(k * R * R + (R * R - 1 - rs)) * p.C + c];
    });
    const Conv2dProblem turned{p.spec, p.N, p.P, p.Q, p.K, p.C, p.H, p.W};
    forward_tiles<T>(exec, turned, dy, f, nullptr, dx, beta);
}

// Any stride: rows of dy w are the gradients of the gathered windows; each adds them back where it
// read them. One task owns one image and one group of channels.
template <class T>
void grad_input_scatter(const Exec& exec, const Conv2dProblem& p, const T* dy, const T* w, T* dx,
                        float beta) {
    const int64_t R = p.spec.kernel, taps = p.taps(), outputs = p.P * p.Q;
    const int64_t groups = p.N < 8 && p.C % 32 == 0 ? std::min<int64_t>(8, p.C / 32) : 1;
    const int64_t G = p.C / groups;
    parallel_for(exec, p.N * groups, [&](int64_t task) {
        const int64_t n = task / groups, c0 = task % groups * G;
        T* image = dx + n * p.H * p.W * p.C;
        if (beta == 0)
            for (int64_t i = 0; i < p.H * p.W; ++i) std::fill_n(image + i * p.C + c0, G, T{0});
        T* columns = scratch<T>(kTilePixels * R * R * G);
        for (int64_t begin = 0; begin < outputs; begin += kTilePixels) {
            const int64_t count = std::min(kTilePixels, outputs - begin);
            const Matrix<T> rows{dy + (n * outputs + begin) * p.K, count, p.K, p.K};
            for (int64_t rs = 0; rs < R * R; ++rs)
                gemm<T>(rows, {w + rs * p.C + c0, p.K, G, taps}, columns + rs * G, R * R * G, 0);
            for (int64_t i = 0; i < count; ++i) {
                const int64_t h0 = (begin + i) / p.Q * p.spec.stride - p.spec.pad();
                const int64_t w0 = (begin + i) % p.Q * p.spec.stride - p.spec.pad();
                for (int64_t r = 0; r < R; ++r)
                    for (int64_t s = 0; s < R; ++s) {
                        if (h0 + r < 0 || h0 + r >= p.H || w0 + s < 0 || w0 + s >= p.W) continue;
                        T* to = image + ((h0 + r) * p.W + w0 + s) * p.C + c0;
                        const T* from = columns + (i * R * R + r * R + s) * G;
                        for (int64_t c = 0; c < G; ++c) to[c] += from[c];
                    }
            }
        }
    });
}

void grad_input_gemm(const Exec& exec, const Conv2dProblem& p, const Tensor& dy, const Tensor& w,
                     const GradIn& dx) {
    dispatch_float(dy.dtype(), [&](auto t) {
        using T = decltype(t);
        const auto run = p.spec.stride == 1 ? grad_input_flipped<T> : grad_input_scatter<T>;
        run(exec, p, dy.data<T>(), w.data<T>(), dx.grad.data<T>(), dx.beta);
    });
}

// dw = dy^T im2col(x): a task owns kernel row r and one of four fixed groups of pixels; the groups'
// partial sums are added in order.
template <class T>
void grad_weight_groups(const Exec& exec, const Conv2dProblem& p, const T* x, const T* dy, T* dw,
                        float beta) {
    const int64_t R = p.spec.kernel, taps = p.taps(), run = R * p.C, pixels = p.N * p.P * p.Q;
    const int64_t per_group = (tiles(pixels) + kWeightGroups - 1) / kWeightGroups * kTilePixels;
    const int64_t groups = (pixels + per_group - 1) / per_group;
    T* sums = scratch<T, Scratch::operation>(groups * p.K * taps);
    parallel_for(exec, groups * R, [&](int64_t task) {
        const int64_t g = task / R, r = task % R;
        const int64_t end = std::min(pixels, (g + 1) * per_group);
        T* columns = scratch<T>(kTilePixels * run);
        for (int64_t begin = g * per_group; begin < end; begin += kTilePixels) {
            const int64_t count = std::min(kTilePixels, end - begin);
            for (int64_t i = 0; i < count; ++i) gather_row(p, x, begin + i, r, columns + i * run);
            gemm<T>({dy + begin * p.K, count, p.K, p.K, true}, {columns, count, run, run},
                    sums + g * p.K * taps + r * run, taps, begin == g * per_group ? 0.0f : 1.0f);
        }
    });
    parallel_chunks(exec, p.K * taps, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            T sum = sums[i];
            for (int64_t g = 1; g < groups; ++g) sum += sums[g * p.K * taps + i];
            dw[i] = beta == 0 ? sum : dw[i] + sum;
        }
    });
}

void grad_weight_gemm(const Exec& exec, const Conv2dProblem& p, const Tensor& x, const Tensor& dy,
                      const GradIn& dw) {
    dispatch_float(dy.dtype(), [&](auto t) {
        using T = decltype(t);
        grad_weight_groups<T>(exec, p, x.data<T>(), dy.data<T>(), dw.grad.data<T>(), dw.beta);
    });
}

// Calls f(p, q, r, s, h, w) for every tap that lies inside the image.
template <class F>
void for_each_tap(const Conv2dProblem& problem, F f) {
    const auto& [spec, N, H, W, C, K, P, Q, dtype] = problem;
    for (int64_t p = 0; p < P; ++p)
        for (int64_t q = 0; q < Q; ++q)
            for (int64_t r = 0; r < spec.kernel; ++r)
                for (int64_t s = 0; s < spec.kernel; ++s) {
                    const int64_t h = p * spec.stride + r - spec.pad();
                    const int64_t w = q * spec.stride + s - spec.pad();
                    if (h >= 0 && h < H && w >= 0 && w < W) f(p, q, r, s, h, w);
                }
}

void forward_naive(const Exec& exec, const Conv2dProblem& p, const Tensor& x, const Tensor& w,
                   const Tensor& b, const Tensor& y) {
    dispatch_float(y.dtype(), [&](auto t) {
        using T = decltype(t);
        const Tensor bias = b.defined() ? b : Tensor::zeros({p.K}, y.dtype());
        parallel_for(exec, p.N, [&](int64_t n) {
            conv2d_reference<T>(p.spec, x.batch(n).view<const T>(), w.view<const T>(),
                                bias.view<const T>(), y.batch(n).view<T>());
        });
    });
}

void grad_input_naive(const Exec& exec, const Conv2dProblem& problem, const Tensor& dy,
                      const Tensor& w, const GradIn& dx) {
    if (dx.beta == 0) dx.grad.fill(0);
    dispatch_float(dy.dtype(), [&](auto t) {
        using T = decltype(t);
        const auto vdy = dy.view<const T>(), vw = w.view<const T>();
        const auto vdx = dx.grad.view<T>();
        parallel_for(exec, problem.N, [&](int64_t n) {
            for_each_tap(problem, [&](auto p, auto q, auto r, auto s, auto h, auto v) {
                for (int64_t c = 0; c < problem.C; ++c)
                    for (int64_t k = 0; k < problem.K; ++k)
                        vdx(n, h, v, c) += vw(k, r, s, c) * vdy(n, p, q, k);
            });
        });
    });
}

void grad_weight_naive(const Exec& exec, const Conv2dProblem& problem, const Tensor& x,
                       const Tensor& dy, const GradIn& dw) {
    if (dw.beta == 0) dw.grad.fill(0);
    dispatch_float(dy.dtype(), [&](auto t) {
        using T = decltype(t);
        const auto vx = x.view<const T>(), vdy = dy.view<const T>();
        const auto vdw = dw.grad.view<T>();
        parallel_for(exec, problem.K, [&](int64_t k) {
            for (int64_t n = 0; n < problem.N; ++n)
                for_each_tap(problem, [&](auto p, auto q, auto r, auto s, auto h, auto v) {
                    for (int64_t c = 0; c < problem.C; ++c)
                        vdw(k, r, s, c) += vdy(n, p, q, k) * vx(n, h, v, c);
                });
        });
    });
}

constexpr Conv2dImpl kImplementations[] = {
    {"winograd",
     winograd_reject,
     {forward_winograd, grad_input_winograd, grad_weight_winograd},
     {.avoid = winograd_avoid, .exact = false}},
    {"stride2",
     stride2_reject,
     {forward_stride2, grad_input_stride2, grad_weight_stride2},
     {.avoid = stride2_avoid}},
    {"narrow", narrow_reject, {forward_narrow, grad_input_narrow, grad_weight_narrow}},
    {"gemm", accepts_all, {forward_gemm, grad_input_gemm, grad_weight_gemm}},
    {"naive", accepts_all, {forward_naive, grad_input_naive, grad_weight_naive}},
};

void column_sums(const Exec& exec, const Tensor& dy, const GradIn& db) {
    constexpr int64_t kRows = 1024;  // summed in one go, then combined in order
    const int64_t rows = dy.shape().rows(), K = dy.shape().back();
    const int64_t chunks = (rows + kRows - 1) / kRows;
    dispatch_float(dy.dtype(), [&](auto t) {
        using T = decltype(t);
        const Tensor partial = Tensor::empty({chunks, K}, dy.dtype());
        const T* up = dy.data<T>();
        T* sums = partial.data<T>();
        parallel_for(exec, chunks, [&](int64_t chunk) {
            // Not in `partial` itself: with few channels, threads would fight for its cache lines.
            T* sum = scratch<T>(K);
            std::fill_n(sum, K, T{0});
            const int64_t end = std::min(rows, (chunk + 1) * kRows);
            for (int64_t i = chunk * kRows; i < end; ++i)
                for (int64_t k = 0; k < K; ++k) sum[k] += up[i * K + k];
            std::copy_n(sum, K, sums + chunk * K);
        });
        T* out = db.grad.data<T>();
        for (int64_t k = 0; k < K; ++k) {
            double sum = db.beta == 0 ? 0 : double(out[k]);
            for (int64_t chunk = 0; chunk < chunks; ++chunk) sum += sums[chunk * K + k];
            out[k] = static_cast<T>(sum);
        }
    });
}

constexpr GradBiasImpl kGradBias[] = {{"chunks", accepts_all, {column_sums}}};

}  // namespace

std::span<const Conv2dImpl> conv2d_cpu() {
    return kImplementations;
}

std::span<const GradBiasImpl> grad_bias_cpu() {
    return kGradBias;
}

}  // namespace lumachrome
