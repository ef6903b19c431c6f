#include <algorithm>
#include <type_traits>
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
        // Not in `partial` itself: with few channels, threads would fight for its cache lines.
        T* sum = scratch<T>(2 * p.C);
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
        std::copy_n(sum, 2 * p.C, partial.data<T>() + chunk * 2 * p.C);
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

// Per channel: y = f((x - mean) scale + shift).
template <class T>
struct Channels {
    explicit Channels(const BatchNormMap& map)
        : mean(map.mean.data<T>()), shift(map.beta.data<T>()), scale(size_t(map.mean.numel())) {
        for (size_t c = 0; c < scale.size(); ++c)
            scale[c] = map.inverse_std.data<T>()[c] * map.gamma.data<T>()[c];
    }
    const T *mean, *shift;
    std::vector<T> scale;
};

// The activation and its slope times dy; z is what it is applied to, y what comes out.
struct Plain {
    template <class T>
    static T value(T z) {
        return z;
    }
    template <class T>
    static T slope(T dy, T, const T*, int64_t) {
        return dy;
    }
};
struct Relu {
    template <class T>
    static T value(T z) {
        return z < 0 ? T{0} : z;  // NaN passes, so that the loss shows it
    }
    template <class T>
    static T slope(T dy, T z, const T*, int64_t) {
        return dy * T(z > 0);  // a product: NaN in dy passes where y is 0, too
    }
};
struct Sigmoid {
    template <class T>
    static T value(T z) {
        return activate_reference(Activation::sigmoid, z);
    }
    template <class T>
    static T slope(T dy, T, const T* y, int64_t i) {
        return dy * y[i] * (1 - y[i]);
    }
};

// f(type tag, activation)
template <class F>
void dispatch(const Tensor& x, const BatchNormMap& map, const F& f) {
    dispatch_float(x.dtype(), [&](auto t) {
        if (!map.activation) return f(t, Plain{});
        if (*map.activation == Activation::relu) return f(t, Relu{});
        f(t, Sigmoid{});
    });
}

void forward(const Exec& exec, const BatchNormProblem& p, const BatchNormMap& map, const Tensor& x,
             const Tensor& y) {
    dispatch(x, map, [&](auto t, auto f) {
        using T = decltype(t);
        const Channels<T> channels(map);
        const T *m = channels.mean, *s = channels.scale.data(), *b = channels.shift;
        parallel_for(exec, chunks(p), [&](int64_t chunk) {
            const int64_t end = std::min(p.M, (chunk + 1) * kRows);
            for (int64_t i = chunk * kRows; i < end; ++i) {
                const T* in = x.data<T>() + i * p.C;
                T* out = y.data<T>() + i * p.C;
#pragma omp simd
                for (int64_t c = 0; c < p.C; ++c) out[c] = f.value((in[c] - m[c]) * s[c] + b[c]);
            }
        });
    });
}

void backward_sums(const Exec& exec, const BatchNormProblem& p, const BatchNormMap& map,
                   const Tensor& x, const Tensor& y, const Tensor& dy, const Tensor& sums) {
    dispatch(x, map, [&](auto t, auto f) {
        using T = decltype(t);
        constexpr int64_t kUnroll = 4;  // rows whose terms are added before the sums are touched
        const Channels<T> channels(map);
        const T *m = channels.mean, *s = channels.scale.data(), *b = channels.shift;
        const T *in = x.data<T>(), *up = dy.data<T>();
        const T* out = y.defined() ? y.data<T>() : nullptr;
        const Tensor partial = Tensor::empty({chunks(p), 2, p.C}, x.dtype());
        parallel_for(exec, chunks(p), [&](int64_t chunk) {
            T* sum = scratch<T>(2 * p.C);  // as in chunk_statistics
            T* dot = sum + p.C;
            std::fill_n(sum, 2 * p.C, T{0});
            const int64_t end = std::min(p.M, (chunk + 1) * kRows);
            const auto add_rows = [&](int64_t i, auto rows) {
#pragma omp simd
                for (int64_t c = 0; c < p.C; ++c) {
                    T row_sum = 0, row_dot = 0;
                    for (int64_t r = 0; r < rows; ++r) {
                        const int64_t at = (i + r) * p.C + c;
                        const T centred = in[at] - m[c];
                        const T grad = f.slope(up[at], centred * s[c] + b[c], out, at);
                        row_sum += grad;
                        row_dot += grad * centred;
                    }
                    sum[c] += row_sum;
                    dot[c] += row_dot;
                }
            };
            int64_t i = chunk * kRows;
            for (; i + kUnroll <= end; i += kUnroll)
                add_rows(i, std::integral_constant<int64_t, kUnroll>{});
            for (; i < end; ++i) add_rows(i, std::integral_constant<int64_t, 1>{});
            std::copy_n(sum, 2 * p.C, partial.data<T>() + chunk * 2 * p.C);
        });
        sums.fill(0);
        double *sum = sums.data<double>(), *dot = sum + p.C;
        const T* inverse_std = map.inverse_std.data<T>();
        for (int64_t chunk = 0; chunk < chunks(p); ++chunk)
            for (int64_t c = 0; c < p.C; ++c) {
                sum[c] += partial.data<T>()[chunk * 2 * p.C + c];
                dot[c] += double(partial.data<T>()[(chunk * 2 + 1) * p.C + c]) * inverse_std[c];
            }
    });
}

void backward_input(const Exec& exec, const BatchNormProblem& p, const BatchNormMap& map,
                    const Tensor& x, const Tensor& y, const Tensor& dy, const Tensor& sums,
                    double rows, const GradIn& into) {
    dispatch(x, map, [&](auto t, auto f) {
        using T = decltype(t);
        const Channels<T> channels(map);
        const T *m = channels.mean, *s = channels.scale.data(), *shift = channels.shift;
        const T *in = x.data<T>(), *up = dy.data<T>();
        const T* out = y.defined() ? y.data<T>() : nullptr;
        // dx = scale dy f' + b (x - m) + d, per channel.
        std::vector<T> factors(size_t(2 * p.C), 0);
        T *b = factors.data(), *d = b + p.C;
        for (int64_t c = 0; c < p.C && sums.defined(); ++c) {
            const double sum = sums.data<double>()[c], dot = sums.data<double>()[p.C + c];
            b[c] = static_cast<T>(-s[c] * map.inverse_std.data<T>()[c] * dot / rows);
            d[c] = static_cast<T>(-s[c] * sum / rows);
        }
        T* dx = into.grad.data<T>();
        parallel_for(exec, chunks(p), [&](int64_t chunk) {
            const int64_t end = std::min(p.M, (chunk + 1) * kRows);
            const auto write_rows = [&](auto add) {
                for (int64_t i = chunk * kRows * p.C; i < end * p.C; i += p.C)
#pragma omp simd
                    for (int64_t c = 0; c < p.C; ++c) {
                        const T centred = in[i + c] - m[c];
                        const T grad = f.slope(up[i + c], centred * s[c] + shift[c], out, i + c);
                        const T value = s[c] * grad + b[c] * centred + d[c];
                        dx[i + c] = add ? dx[i + c] + value : value;
                    }
            };
            if (into.beta == 0)
                write_rows(std::false_type{});
            else
                write_rows(std::true_type{});
        });
    });
}

// map.inverse_std holds variances and receives what its name says.
template <class T>
void invert(T* variances, int64_t C) {
    for (int64_t c = 0; c < C; ++c)
        variances[c] = static_cast<T>(1 / std::sqrt(double(variances[c]) + kBatchNormEpsilon));
}

void finish_statistics(const Exec&, const BatchNormProblem& p, const Tensor& moments, double rows,
                       const RunningStatistics* running, const BatchNormMap& map) {
    dispatch_float(map.mean.dtype(), [&](auto t) {
        using T = decltype(t);
        const double *mean = moments.data<double>(), *deviations = mean + p.C;
        T *m = map.mean.data<T>(), *v = map.inverse_std.data<T>();
        for (int64_t c = 0; c < p.C; ++c) {
            m[c] = static_cast<T>(mean[c]);
            v[c] = static_cast<T>(deviations[c] / rows);
            if (!running) continue;
            const auto blend = [c](const Tensor& into, double value) {
                dispatch_float(into.dtype(), [&](auto r) {
                    auto& old = into.data<decltype(r)>()[c];
                    old = static_cast<decltype(r)>((1 - kBatchNormMomentum) * old +
                                                   kBatchNormMomentum * value);
                });
            };
            blend(running->mean, m[c]);
            blend(running->variance, double(v[c]) * rows / (rows - 1));
        }
        invert(v, p.C);
    });
}

void use_running(const Exec&, const BatchNormProblem& p, const RunningStatistics& running,
                 const BatchNormMap& map) {
    map.mean.copy_from(running.mean), map.inverse_std.copy_from(running.variance);
    dispatch_float(map.mean.dtype(),
                   [&](auto t) { invert(map.inverse_std.data<decltype(t)>(), p.C); });
}

void parameter_gradients(const Exec&, const BatchNormProblem& p, const Tensor& sums,
                         const GradIn& dgamma, const GradIn& dbeta) {
    const auto add = [&](const GradIn& into, const double* sum) {
        if (!into) return;
        dispatch_float(into.grad.dtype(), [&](auto t) {
            auto* out = into.grad.data<decltype(t)>();
            for (int64_t c = 0; c < p.C; ++c)
                out[c] = static_cast<decltype(t)>((into.beta == 0 ? 0 : double(out[c])) + sum[c]);
        });
    };
    add(dgamma, sums.data<double>() + p.C);
    add(dbeta, sums.data<double>());
}

constexpr BatchNormImpl kImplementations[] = {
    {"chunks",
     accepts_all,
     {statistics, finish_statistics, use_running, forward, backward_sums, parameter_gradients,
      backward_input}},
};

BatchNormProblem problem_of(const Shape& x) {
    return {x.rows(), x.back()};
}

const BatchNormKernel& kernel(const Exec& exec, const BatchNormProblem& problem) {
    return choose("batch_norm", implementations(exec.device, batch_norm_cpu, batch_norm_cuda),
                  problem);
}

// Where the CPU, and with it the peers, can read and write `t`; put_back ends that.
Tensor here(const Tensor& t) {
    return t.to(Device{});
}
void put_back(const Tensor& there, const Tensor& changed) {
    if (there.device() != changed.device()) there.copy_from(changed);
}

// Moments of the own rows -> moments of everybody's; returns the number of these rows. The mean
// first, then the deviations from it: sums of squares would cancel.
double combine(const Peers& peers, double rows, int64_t C, const Tensor& moments) {
    const Tensor own = here(moments);
    double *mean = own.data<double>(), *deviations = mean + C;
    std::vector<double> sums{rows};
    for (int64_t c = 0; c < C; ++c) sums.push_back(rows * mean[c]);
    peers.sum(sums);
    for (int64_t c = 0; c < C; ++c) {
        const double everybody = sums[size_t(c) + 1] / sums[0], delta = mean[c] - everybody;
        mean[c] = everybody;
        deviations[c] += rows * delta * delta;
    }
    peers.sum({deviations, size_t(C)});
    put_back(moments, own);
    return sums[0];
}

// The same for the sums of backward.
double combine_sums(const Peers& peers, double rows, int64_t C, const Tensor& sums) {
    const Tensor own = here(sums);
    std::vector<double> shared(own.data<double>(), own.data<double>() + 2 * C);
    shared.push_back(rows);
    peers.sum(shared);
    std::copy_n(shared.data(), 2 * C, own.data<double>());
    put_back(sums, own);
    return shared.back();
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
    const BatchNormKernel& run = kernel(exec, p);
    const DType wide = x.dtype() == DType::f64 ? DType::f64 : DType::f32;
    const BatchNormMap map{Tensor::empty({p.C}, wide, exec.device),
                           Tensor::empty({p.C}, wide, exec.device), in[1], in[2], activation};
    const RunningStatistics running{running_mean, running_variance};
    if (batch) {
        const Tensor moments = Tensor::empty({2, p.C}, DType::f64, exec.device);
        run.statistics(exec, p, x, moments);
        const double rows =
            shares > 1 ? combine(*exec.peers, double(p.M), p.C, moments) : double(p.M);
        run.finish_statistics(exec, p, moments, rows, saved ? &running : nullptr, map);
    } else {
        run.use_running(exec, p, running, map);
    }
    run.forward(exec, p, map, x, y);
    if (!saved) return;
    saved->tensors = {x, map.mean, map.inverse_std, in[1], in[2], {}};
    if (activation == Activation::sigmoid) saved->tensors.back() = y;  // ReLU's slope follows x
}

void BatchNormOp::backward(const Exec& exec, const Tensor& dy, const Saved& saved,
                           std::span<const GradIn> din) const {
    const auto& kept = saved.tensors;
    const Tensor &x = kept[0], &y = kept[5];
    const BatchNormMap map{kept[1], kept[2], kept[3], kept[4], activation};
    const BatchNormProblem p = problem_of(x.shape());
    const BatchNormKernel& run = kernel(exec, p);
    const Tensor sums = Tensor::empty({2, p.C}, DType::f64, exec.device);
    if (din[1] || din[2] || (batch && din[0])) run.backward_sums(exec, p, map, x, y, dy, sums);
    if (din[1] || din[2]) run.parameter_gradients(exec, p, sums, din[1], din[2]);
    if (!din[0]) return;
    const double rows =
        batch && shares > 1 ? combine_sums(*exec.peers, double(p.M), p.C, sums) : double(p.M);
    run.backward_input(exec, p, map, x, y, dy, batch ? sums : Tensor(), rows, din[0]);
}

void BatchNormOp::define(std::span<const View<const Dual>> in, View<Dual> y) const {
    if (batch) {
        batch_norm_train_reference<Dual>(in[0], in[1], in[2], y);
    } else {
        const Tensor mean = running_mean.to(Device{}).to(DType::f64);
        const Tensor variance = running_variance.to(Device{}).to(DType::f64);
        batch_norm_eval_reference<Dual>(in[0], in[1], in[2], mean.view<const double>(),
                                        variance.view<const double>(), y);
    }
    if (!activation) return;
    for (int64_t i = 0; i < y.numel(); ++i) y.data[i] = activate_reference(*activation, y.data[i]);
}

BatchNorm::BatchNorm(int64_t channels) {
    weight.value = Tensor::full({channels}, 1);
    bias.value = Tensor::zeros({channels});
    running_mean.value = Tensor::zeros({channels});
    running_var.value = Tensor::full({channels}, 1);
    running_mean.trainable = running_var.trainable = false;
}

}  // namespace lumachrome
