#include "layers/fusion.hpp"

#include <algorithm>
#include <vector>

#include "layers/cast.hpp"
#include "layers/linear.hpp"
#include "tensor/dispatch.hpp"

namespace lumachrome {
namespace {

// Moves the parts of every row of w [.., M+G] to local [.., M] and global [.., G], or back.
template <bool kSplit>
void split_or_join(const Exec& exec, const Tensor& w, const Tensor& local, const Tensor& global,
                   float beta) {
    dispatch_float(w.dtype(), [&](auto tag) {
        using T = decltype(tag);
        const int64_t M = local.shape().back(), G = global.shape().back();
        const auto move = [&](T* joined, T* part, int64_t count) {
            for (int64_t c = 0; c < count; ++c) {
                if (kSplit)
                    part[c] = joined[c];
                else
                    joined[c] = beta == 0 ? part[c] : joined[c] + part[c];
            }
        };
        constexpr int64_t kRows = 64;  // of one task
        const auto move_rows = [&](int64_t begin, int64_t end) {
            for (int64_t row = begin; row < end; ++row) {
                T* joined = w.data<T>() + row * (M + G);
                move(joined, local.data<T>() + row * M, M);
                move(joined + M, global.data<T>() + row * G, G);
            }
        };
        parallel_chunks(exec, w.shape().rows(), move_rows, kRows);
    });
}
void split(const Exec& exec, const Tensor& w, const Tensor& local, const Tensor& global) {
    split_or_join<true>(exec, w, local, global, 0);
}
void join(const Exec& exec, const Tensor& local, const Tensor& global, const GradIn& dw) {
    split_or_join<false>(exec, dw.grad, local, global, dw.beta);
}

void sum_inside(const Exec& exec, const FusionProblem& p, const Tensor& t, const Tensor& b,
                const Tensor& bias) {
    dispatch_float(t.dtype(), [&](auto tag) {
        using T = decltype(tag);
        parallel_for(exec, p.N * 16, [&](int64_t task) {
            const int64_t n = task / 16, v = task / 4 % 4, h = task % 4;
            for (int64_t k = 0; k < p.K; ++k) {
                T sum = b.data<T>()[k];
                for (int64_t r = 0; r < p.R; ++r)
                    for (int64_t s = 0; s < p.R; ++s)
                        if (tap_inside(r, v, p.R) && tap_inside(s, h, p.R))
                            sum += t.data<T>()[((n * p.K + k) * p.R + r) * p.R + s];
                bias.data<T>()[task * p.K + k] = sum;
            }
        });
    });
}

void add_global(const Exec& exec, const FusionProblem& p, const Tensor& t, const Tensor& b,
                const Tensor& y) {
    const Tensor bias = Tensor::empty({p.N, 16, p.K}, t.dtype());
    sum_inside(exec, p, t, b, bias);
    dispatch_float(y.dtype(), [&](auto tag) {
        using T = decltype(tag);
        parallel_for(exec, p.N * p.H, [&](int64_t row) {
            const int64_t n = row / p.H, v = border_case(row % p.H, p.H);
            for (int64_t w = 0; w < p.W; ++w) {
                const T* add = bias.data<T>() + ((n * 4 + v) * 4 + border_case(w, p.W)) * p.K;
                T* out = y.data<T>() + (row * p.W + w) * p.K;
                for (int64_t k = 0; k < p.K; ++k) out[k] += add[k];
            }
        });
    });
}

void tap_sums(const Exec& exec, const FusionProblem& p, const Tensor& dy, const Tensor& e) {
    dispatch_float(dy.dtype(), [&](auto tag) {
        using T = decltype(tag);
        const int64_t RR = p.R * p.R;
        parallel_for(exec, p.N, [&](int64_t n) {
            std::vector<double> sums(static_cast<size_t>(16 * p.K));
            for (int64_t h = 0; h < p.H; ++h)
                for (int64_t w = 0; w < p.W; ++w) {
                    const T* up = dy.data<T>() + ((n * p.H + h) * p.W + w) * p.K;
                    double* to =
                        sums.data() + (border_case(h, p.H) * 4 + border_case(w, p.W)) * p.K;
                    for (int64_t k = 0; k < p.K; ++k) to[k] += up[k];
                }
            for (int64_t k = 0; k < p.K; ++k)
                for (int64_t r = 0; r < p.R; ++r)
                    for (int64_t s = 0; s < p.R; ++s) {
                        double sum = 0;
                        for (int c = 0; c < 16; ++c)
                            if (tap_inside(r, c / 4, p.R) && tap_inside(s, c % 4, p.R))
                                sum += sums[static_cast<size_t>(c * p.K + k)];
                        e.data<T>()[(n * p.K + k) * RR + r * p.R + s] = static_cast<T>(sum);
                    }
        });
    });
}

constexpr FusionImpl kImplementations[] = {
    {"border_cases", accepts_all, {split, join, sum_inside, add_global, tap_sums}}};

const FusionKernel& kernel(const Exec& exec, const FusionProblem& problem) {
    return choose("fusion", implementations(exec.device, fusion_cpu, fusion_cuda), problem);
}

struct Halves {
    Tensor local, global;
};

Halves empty_halves(const Tensor& w, int64_t M) {
    const Shape& s = w.shape();
    return {Tensor::empty({s[0], s[1], s[2], M}, w.dtype(), w.device()),
            Tensor::empty({s[0] * s[1] * s[2], s[3] - M}, w.dtype(), w.device())};
}

}  // namespace

Tensor border_biases(const Exec& exec, const Tensor& t, const Tensor& b) {
    const FusionProblem problem{t.shape()[0], 0, 0, t.shape()[1], t.shape()[2]};
    const Tensor bias = Tensor::empty({problem.N, 16, problem.K}, t.dtype(), exec.device);
    kernel(exec, problem).border_biases(exec, problem, t, b, bias);
    return bias;
}

std::span<const FusionImpl> fusion_cpu() {
    return kImplementations;
}

Shape FusionOp::infer(std::span<const Shape> in) const {
    const Shape &m = in[0], &g = in[1], &w = in[2];
    if (m.rank() != 4 || g.rank() != 2 || w.rank() != 4 || g[0] != m[0] || w[3] != m[3] + g[1] ||
        w[1] != spec.kernel || w[2] != spec.kernel || in[3] != Shape{w[0]} || spec.kernel > 3)
        throw_shape_error(
            "fusion", "needs m [N,H,W,M], g [N,G], w [K,R,S,M+G] with kernel 1 or 3, b [K]", in);
    return {m[0], m[1], m[2], w[0]};
}

void FusionOp::forward(const Exec& exec, std::span<const Tensor> in, Tensor& y,
                       Saved* saved) const {
    const Tensor &m = in[0], &w = in[2];
    const Tensor g = in[1].to(w.dtype());  // small: its half is computed as the weights are
    const Halves half = empty_halves(w, m.shape()[3]);
    const Conv2dProblem local = conv2d_problem(spec, m.shape(), half.local.shape(), m.dtype());
    const FusionProblem problem{local.N, local.P, local.Q, local.K, spec.kernel};
    const FusionKernel& fusion = kernel(exec, problem);
    fusion.split(exec, w, half.local, half.global);
    choose_conv2d(exec, local).forward(exec, local, m, half.local, {}, y);

    const LinearProblem global{g.shape()[0], g.shape()[1], half.global.shape()[0]};
    const Tensor t = Tensor::empty({global.N, global.O}, w.dtype(), exec.device);
    const Tensor no_bias = Tensor::zeros({global.O}, w.dtype(), exec.device);
    choose_linear(exec, global).forward(exec, global, g, half.global, no_bias, t);
    fusion.add_global(exec, problem, t, in[3], y);
    if (saved) saved->tensors = {m, g, half.local, half.global};
}

void FusionOp::backward(const Exec& exec, const Tensor& dy, const Saved& saved,
                        std::span<const GradIn> din) const {
    const Tensor &m = saved.tensors[0], &g = saved.tensors[1];
    const Halves half{saved.tensors[2], saved.tensors[3]};
    const Conv2dProblem local = conv2d_problem(spec, m.shape(), half.local.shape(), m.dtype());
    const LinearProblem global{g.shape()[0], g.shape()[1], half.global.shape()[0]};
    const FusionProblem problem{local.N, local.P, local.Q, local.K, spec.kernel};
    const FusionKernel& fusion = kernel(exec, problem);
    const Conv2dKernel& conv = choose_conv2d(exec, local);
    const LinearKernel& linear = choose_linear(exec, global);

    if (din[0]) conv.grad_input(exec, local, dy, half.local, din[0]);
    if (din[3]) grad_bias(exec, dy, din[3]);
    if (!din[1] && !din[2]) return;
    const Tensor e = Tensor::empty({global.N, global.O}, g.dtype(), exec.device);
    fusion.tap_sums(exec, problem, dy, e);
    if (din[1] && din[1].grad.dtype() == g.dtype()) {
        linear.grad_input(exec, global, e, half.global, din[1]);
    } else if (din[1]) {
        const Tensor dg = Tensor::empty(g.shape(), g.dtype(), exec.device);
        linear.grad_input(exec, global, e, half.global, {dg, 0});
        cast_into(exec, dg, din[1]);
    }
    if (din[2]) {
        const Halves grad = empty_halves(din[2].grad, m.shape()[3]);
        conv.grad_weight(exec, local, m, dy, {grad.local, 0});
        linear.grad_weight(exec, global, g, e, {grad.global, 0});
        fusion.join(exec, grad.local, grad.global, din[2]);
    }
}

// Of the layer as published, a convolution over the joined channels; the split needs about half.
int64_t FusionOp::macs(std::span<const Shape> in) const {
    return in[0].rows() * in[2].numel();
}

}  // namespace lumachrome
