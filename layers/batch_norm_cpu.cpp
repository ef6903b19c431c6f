#include <algorithm>
#include <tuple>
#include <vector>

#include "layers/batch_norm.hpp"
#include "tensor/dispatch.hpp"

namespace lumachrome {
namespace {

constexpr int64_t kRows = 512;  // rows per task; partial results are combined in order

int64_t chunks(const BatchNormProblem& p) {
    return (p.M + kRows - 1) / kRows;
}

// Mean and sum of squared deviations of each chunk, then Chan's pairwise combination in double: as
// accurate as two passes over x, with one read from memory.
template <class T>
void chunk_statistics(const Exec& exec, const BatchNormProblem& p, const T* x, double* mean,
                      double* deviations) {
    const Tensor partial = Tensor::empty({chunks(p), 2, p.C}, dtype_of<T>());
    parallel_for(exec, chunks(p), [&](int64_t chunk) {
        T* sum = partial.data<T>() + chunk * 2 * p.C;
        T* square = sum + p.C;
        std::fill_n(sum, 2 * p.C, T{0});
        const int64_t begin = chunk * kRows, end = std::min(p.M, begin + kRows);
        for (int64_t i = begin; i < end; ++i)
            for (int64_t c = 0; c < p.C; ++c) sum[c] += x[i * p.C + c];
        for (int64_t c = 0; c < p.C; ++c) sum[c] /= static_cast<T>(end - begin);
        for (int64_t i = begin; i < end; ++i)
            for (int64_t c = 0; c < p.C; ++c) {
                const T centred = x[i * p.C + c] - sum[c];
                square[c] += centred * centred;
            }
    });
    std::fill_n(mean, p.C, 0.0);
    std::fill_n(deviations, p.C, 0.0);
    double count = 0;
    for (int64_t chunk = 0; chunk < chunks(p); ++chunk) {
        const double added = double(std::min(kRows, p.M - chunk * kRows)), total = count + added;
        const T* sum = partial.data<T>() + chunk * 2 * p.C;
        for (int64_t c = 0; c < p.C; ++c) {
            const double delta = sum[c] - mean[c];
            mean[c] += delta * added / total;
            deviations[c] += sum[p.C + c] + delta * delta * count * added / total;
        }
        count = total;
    }
}

void statistics(const Exec& exec, const BatchNormProblem& p, const Tensor& x,
                const Tensor& moments) {
    dispatch_float(x.dtype(), [&](auto t) {
        using T = decltype(t);
        double* mean = moments.data<double>();
        chunk_statistics<T>(exec, p, x.data<T>(), mean, mean + p.C);
    });
}

void forward(const Exec& exec, const BatchNormProblem& p, const Tensor& x, const Tensor& mean,
             const Tensor& inverse_std, const Tensor& gamma, const Tensor& beta, const Tensor& y) {
    dispatch_float(x.dtype(), [&](auto t) {
        using T = decltype(t);
        const T *m = mean.data<T>(), *s = inverse_std.data<T>(), *b = beta.data<T>();
        std::vector<T> scale(static_cast<size_t>(p.C));
        for (int64_t c = 0; c < p.C; ++c) scale[size_t(c)] = s[c] * gamma.data<T>()[c];
        parallel_for(exec, chunks(p), [&](int64_t chunk) {
            const int64_t end = std::min(p.M, (chunk + 1) * kRows);
            for (int64_t i = chunk * kRows; i < end; ++i) {
                const T* in = x.data<T>() + i * p.C;
                T* out = y.data<T>() + i * p.C;
                for (int64_t c = 0; c < p.C; ++c) out[c] = (in[c] - m[c]) * scale[size_t(c)] + b[c];
            }
        });
    });
}

void backward_sums(const Exec& exec, const BatchNormProblem& p, const Tensor& x, const Tensor& mean,
                   const Tensor& inverse_std, const Tensor& dy, const Tensor& sums) {
    dispatch_float(x.dtype(), [&](auto t) {
        using T = decltype(t);
        const T *m = mean.data<T>(), *s = inverse_std.data<T>();
        const T *in = x.data<T>(), *up = dy.data<T>();
        const Tensor partial = Tensor::zeros({chunks(p), 2, p.C}, x.dtype());
        parallel_for(exec, chunks(p), [&](int64_t chunk) {
            T* sum = partial.data<T>() + chunk * 2 * p.C;
            T* dot = sum + p.C;
            const int64_t end = std::min(p.M, (chunk + 1) * kRows);
            for (int64_t i = chunk * kRows; i < end; ++i)
                for (int64_t c = 0; c < p.C; ++c) {
                    sum[c] += up[i * p.C + c];
                    dot[c] += up[i * p.C + c] * (in[i * p.C + c] - m[c]);
                }
        });
        sums.fill(0);
        double *sum = sums.data<double>(), *dot = sum + p.C;
        for (int64_t chunk = 0; chunk < chunks(p); ++chunk)
            for (int64_t c = 0; c < p.C; ++c) {
                sum[c] += partial.data<T>()[chunk * 2 * p.C + c];
                dot[c] += double(partial.data<T>()[(chunk * 2 + 1) * p.C + c]) * s[c];
            }
    });
}

void backward_input(const Exec& exec, const BatchNormProblem& p, const Tensor& x,
                    const Tensor& mean, const Tensor& inverse_std, const Tensor& gamma,
                    const Tensor& dy, const Tensor& sums, double rows, const GradIn& into) {
    dispatch_float(x.dtype(), [&](auto t) {
        using T = decltype(t);
        const T *m = mean.data<T>(), *s = inverse_std.data<T>(), *g = gamma.data<T>();
        const T *in = x.data<T>(), *up = dy.data<T>();
        // dx = a dy + b (x - m) + d, per channel.
        std::vector<T> a(size_t(p.C), 0), b(a), d(a);
        for (int64_t c = 0; c < p.C; ++c) {
            a[size_t(c)] = g[c] * s[c];
            if (!sums.defined()) continue;
            const double sum = sums.data<double>()[c], dot = sums.data<double>()[p.C + c];
            b[size_t(c)] = static_cast<T>(-a[size_t(c)] * s[c] * dot / rows);
            d[size_t(c)] = static_cast<T>(-a[size_t(c)] * sum / rows);
        }
        T* dx = into.grad.data<T>();
        parallel_for(exec, chunks(p), [&](int64_t chunk) {
            const int64_t end = std::min(p.M, (chunk + 1) * kRows);
            for (int64_t i = chunk * kRows; i < end; ++i) {
                const T *row = in + i * p.C, *urow = up + i * p.C;
                T* out = dx + i * p.C;
                if (into.beta == 0)
                    for (int64_t c = 0; c < p.C; ++c)
                        out[c] =
                            a[size_t(c)] * urow[c] + b[size_t(c)] * (row[c] - m[c]) + d[size_t(c)];
                else
                    for (int64_t c = 0; c < p.C; ++c)
                        out[c] +=
                            a[size_t(c)] * urow[c] + b[size_t(c)] * (row[c] - m[c]) + d[size_t(c)];
            }
        });
    });
}

constexpr BatchNormImpl kImplementations[] = {
    {"chunks", accepts_all, {statistics, forward, backward_sums, backward_input}},
};

BatchNormProblem problem_of(const Shape& x) {
    return {x.rows(), x.back()};
}

const BatchNormKernel& kernel(const Exec& exec, const BatchNormProblem& problem) {
    return choose("batch_norm", implementations(exec.device, batch_norm_cpu), problem);
}

// Moments of the own rows -> moments of everybody's; returns the number of these rows. The mean
// first, then the deviations from it: sums of squares would cancel.
double combine(const Peers& peers, double rows, int64_t C, const Tensor& moments) {
    double *mean = moments.data<double>(), *deviations = mean + C;
    std::vector<double> sums{rows};
    for (int64_t c = 0; c < C; ++c) sums.push_back(rows * mean[c]);
    peers.sum(sums);
    for (int64_t c = 0; c < C; ++c) {
        const double everybody = sums[size_t(c) + 1] / sums[0], delta = mean[c] - everybody;
        mean[c] = everybody;
        deviations[c] += rows * delta * delta;
    }
    peers.sum({deviations, size_t(C)});
    return sums[0];
}

}  // namespace

std::span<const BatchNormImpl> batch_norm_cpu() {
    return kImplementations;
}

Shape BatchNormOp::infer(std::span<const Shape> in) const {
    const Shape channels{in[0].back()};
    if (in[0].rank() < 2 || in[1] != channels || in[2] != channels ||
        running_mean.shape() != channels)
        throw_shape_error(name(), "needs x [...,C], gamma [C], beta [C] and statistics [C]", in);
    if (batch && in[0].rows() * shares < 2)
        throw_shape_error(name(), "needs at least 2 values per channel in training", in);
    return in[0];
}

void BatchNormOp::forward(const Exec& exec, std::span<const Tensor> in, Tensor& y,
                          Saved* saved) const {
    const Tensor& x = in[0];
    const BatchNormProblem p = problem_of(x.shape());
    Tensor mean = Tensor::empty({p.C}, x.dtype()), inverse_std = Tensor::empty({p.C}, x.dtype());
    double rows = double(p.M);
    if (batch) {
        const Tensor moments = Tensor::empty({2, p.C}, DType::f64);
        kernel(exec, p).statistics(exec, p, x, moments);
        if (shares > 1) rows = combine(*exec.peers, rows, p.C, moments);
        dispatch_float(x.dtype(), [&](auto t) {
            for (int64_t c = 0; c < p.C; ++c) {
                mean.data<decltype(t)>()[c] = static_cast<decltype(t)>(moments.item(c));
                inverse_std.data<decltype(t)>()[c] =
                    static_cast<decltype(t)>(moments.item(p.C + c) / rows);
            }
        });
    } else {
        mean.copy_from(running_mean), inverse_std.copy_from(running_variance);
    }
    dispatch_float(x.dtype(), [&](auto t) {
        using T = decltype(t);
        for (int64_t c = 0; c < p.C; ++c) {
            T& v = inverse_std.data<T>()[c];
            if (batch && saved) {
                const auto blend = [](const Tensor& running, int64_t i, double value) {
                    dispatch_float(running.dtype(), [&](auto r) {
                        auto& old = running.data<decltype(r)>()[i];
                        old = static_cast<decltype(r)>((1 - kBatchNormMomentum) * old +
                                                       kBatchNormMomentum * value);
                    });
                };
                blend(running_mean, c, mean.data<T>()[c]);
                blend(running_variance, c, double(v) * rows / (rows - 1));
            }
            v = static_cast<T>(1 / std::sqrt(double(v) + kBatchNormEpsilon));
        }
    });
    kernel(exec, p).forward(exec, p, x, mean, inverse_std, in[1], in[2], y);
    if (saved) saved->tensors = {x, mean, inverse_std, in[1]};
}

void BatchNormOp::backward(const Exec& exec, const Tensor& dy, const Saved& saved,
                           std::span<const GradIn> din) const {
    const auto& [x, mean, inverse_std, gamma] =
        std::tie(saved.tensors[0], saved.tensors[1], saved.tensors[2], saved.tensors[3]);
    const BatchNormProblem p = problem_of(x.shape());
    Tensor sums = Tensor::empty({2, p.C}, DType::f64);
    kernel(exec, p).backward_sums(exec, p, x, mean, inverse_std, dy, sums);
    const auto add = [&](const GradIn& into, int64_t offset) {
        if (!into) return;
        dispatch_float(into.grad.dtype(), [&](auto t) {
            auto* out = into.grad.data<decltype(t)>();
            for (int64_t c = 0; c < p.C; ++c)
                out[c] = static_cast<decltype(t)>((into.beta == 0 ? 0 : double(out[c])) +
                                                  sums.item(offset + c));
        });
    };
    add(din[1], p.C);
    add(din[2], 0);
    if (!din[0]) return;
    double rows = double(p.M);
    if (batch && shares > 1) {
        std::vector<double> shared(sums.data<double>(), sums.data<double>() + 2 * p.C);
        shared.push_back(rows);
        exec.peers->sum(shared);
        std::copy_n(shared.data(), 2 * p.C, sums.data<double>());
        rows = shared.back();
    }
    kernel(exec, p).backward_input(exec, p, x, mean, inverse_std, gamma, dy,
                                   batch ? sums : Tensor(), rows, din[0]);
}

void BatchNormOp::define(std::span<const View<const Dual>> in, View<Dual> y) const {
    if (batch) return batch_norm_train_reference<Dual>(in[0], in[1], in[2], y);
    const Tensor mean = running_mean.to(DType::f64), variance = running_variance.to(DType::f64);
    batch_norm_eval_reference<Dual>(in[0], in[1], in[2], mean.view<const double>(),
                                    variance.view<const double>(), y);
}

BatchNorm::BatchNorm(int64_t channels) {
    weight.value = Tensor::full({channels}, 1);
    bias.value = Tensor::zeros({channels});
    running_mean.value = Tensor::zeros({channels});
    running_var.value = Tensor::full({channels}, 1);
    running_mean.trainable = running_var.trainable = false;
}

}  // namespace lumachrome
