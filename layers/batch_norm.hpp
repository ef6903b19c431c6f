// Batch normalisation over everything but the last axis (Ioffe and Szegedy 2015; paper,
// section 3.4: "throughout" in training; folded into the weights afterwards).
//
//   train:  y = gamma (x - m) / sqrt(v + eps) + beta,  m and v: mean and variance of this batch
//   eval:   the same with the running statistics, an affine map
//
//   x, y [N,H,W,C] or [N,C];  gamma, beta, m, v [C];  M = rows per channel
//   running = (1 - momentum) running + momentum * batch, with the unbiased variance M/(M-1) v
//   (PyTorch)
//
// Backward in training, with xh = (x - m) / sqrt(v + eps):
//   dbeta = sum dy    dgamma = sum dy xh    dx = gamma / sqrt(v + eps) (dy - dbeta/M - xh dgamma/M)
// The last two terms are the paths through m and v: leaving them out is the classic mistake.
//
// The activation behind it may be part of the op: y = f(gamma xh + beta). Then dy above is dy f',
// and two passes over memory are saved forward, four backward.
//
// Processes that share a batch (exec.peers) share m, v, M and, in dx, the two sums; dgamma and
// dbeta stay those of the own share, because all gradients of parameters are averaged afterwards.
#pragma once
#include "layers/activation.hpp"

namespace lumachrome {

constexpr double kBatchNormEpsilon = 1e-5;  // PyTorch's and Torch7's default
constexpr double kBatchNormMomentum = 0.1;

template <class T>
void batch_norm_train_reference(View<const T> x, View<const T> gamma, View<const T> beta,
                                View<T> y) {
    using std::sqrt;
    const int64_t C = x.shape.back(), M = x.shape.rows();
    for (int64_t c = 0; c < C; ++c) {
        T mean = 0, variance = 0;
        for (int64_t i = 0; i < M; ++i) mean += x.data[i * C + c];
        mean = mean / T(double(M));
        for (int64_t i = 0; i < M; ++i) {
            const T centred = x.data[i * C + c] - mean;
            variance += centred * centred;
        }
        const T scale = gamma(c) / sqrt(variance / T(double(M)) + T(kBatchNormEpsilon));
        for (int64_t i = 0; i < M; ++i)
            y.data[i * C + c] = (x.data[i * C + c] - mean) * scale + beta(c);
    }
}

template <class T>
void batch_norm_eval_reference(View<const T> x, View<const T> gamma, View<const T> beta,
                               View<const double> mean, View<const double> variance, View<T> y) {
    const int64_t C = x.shape.back();
    for (int64_t i = 0; i < x.numel(); ++i) {
        const int64_t c = i % C;
        const double scale = 1 / std::sqrt(variance(c) + kBatchNormEpsilon);
        y.data[i] = (x.data[i] - T(mean(c))) * T(scale) * gamma(c) + beta(c);
    }
}

struct BatchNormProblem {
    int64_t M, C;  // rows and channels
};
// What normalises, and what follows. [C] each.
struct BatchNormMap {
    Tensor mean, inverse_std, gamma, beta;
    std::optional<Activation> activation;
};
// [C] each, of their own type.
struct RunningStatistics {
    Tensor mean, variance;
};
// What is summed over rows comes out in f64, so that it can be summed over processes in between.
// All tensors lie on the device of Exec, and nothing waits for it.
struct BatchNormKernel {
    // moments [2,C] f64: mean of the rows of x, sum of their squared deviations from it.
    void (*statistics)(const Exec&, const BatchNormProblem&, const Tensor& x,
                       const Tensor& moments);
    // map.mean and map.inverse_std from the moments of `rows` rows; `running` moves towards them
    // unless null.
    void (*finish_statistics)(const Exec&, const BatchNormProblem&, const Tensor& moments,
                              double rows, const RunningStatistics* running,
                              const BatchNormMap& map);
    // The same two from the running statistics.
    void (*use_running)(const Exec&, const BatchNormProblem&, const RunningStatistics& running,
                        const BatchNormMap& map);
    void (*forward)(const Exec&, const BatchNormProblem&, const BatchNormMap&, const Tensor& x,
                    const Tensor& y);
    // sums [2,C] f64: sum dy f', sum dy f' xh. y is defined where a slope may follow from it.
    void (*backward_sums)(const Exec&, const BatchNormProblem&, const BatchNormMap&,
                          const Tensor& x, const Tensor& y, const Tensor& dy, const Tensor& sums);
    // Both [C], either may be unwanted.
    void (*parameter_gradients)(const Exec&, const BatchNormProblem&, const Tensor& sums,
                                const GradIn& dgamma, const GradIn& dbeta);
    // `sums` over the `rows` that m and v came from; undefined when they came from elsewhere, and
    // their paths do not count.
    void (*backward_input)(const Exec&, const BatchNormProblem&, const BatchNormMap&,
                           const Tensor& x, const Tensor& y, const Tensor& dy, const Tensor& sums,
                           double rows, const GradIn& dx);
};
using BatchNormImpl = Implementation<BatchNormProblem, BatchNormKernel>;
std::span<const BatchNormImpl> batch_norm_cpu();
std::span<const BatchNormImpl> batch_norm_cuda();

// Inputs x, gamma, beta. In training the running statistics are updated in place, once per recorded
// forward run.
struct BatchNormOp : Op {
    BatchNormOp(Tensor mean, Tensor variance, bool training, int shares_of_batch = 1,
                std::optional<Activation> followed_by = {})
        : running_mean(std::move(mean)),
          running_variance(std::move(variance)),
          batch(training),
          shares(shares_of_batch),
          activation(followed_by) {}
    Tensor running_mean, running_variance;
    bool batch;
    int shares;  // processes that hold a share of the batch
    std::optional<Activation> activation;

    std::string name() const override {
        return std::string(batch ? "batch_norm" : "batch_norm_eval") +
               (activation ? std::string("_") + lumachrome::name(*activation) : "");
    }
    Shape infer(std::span<const Shape> in) const override;
    void forward(const Exec&, std::span<const Tensor> in, Tensor& y, Saved*) const override;
    void backward(const Exec&, const Tensor& dy, const Saved&,
                  std::span<const GradIn> din) const override;
    void define(std::span<const View<const Dual>> in, View<Dual> y) const override;
    std::optional<Rows> input_rows(Rows out) const override { return out; }
};

struct BatchNorm {
    explicit BatchNorm(int64_t channels);
    Parameter weight, bias;  // gamma, beta; named as in PyTorch
    Parameter running_mean, running_var;

    // A frozen layer (weight not trainable) keeps its running statistics, and normalises with them
    // in training too: that is what it was trained to be.
    Var operator()(const Var& x, std::optional<Activation> activation = {}) {
        Tape& tape = *x.tape;
        const bool batch = tape.phase() == Phase::train && weight.trainable;
        const Peers* peers = tape.exec().peers;
        return tape.apply(
            std::make_shared<BatchNormOp>(running_mean.value, running_var.value, batch,
                                          peers ? peers->count() : 1, activation),
            {x, tape.parameter(weight), tape.parameter(bias)});
    }
    template <class F>
    void visit(F&& f) {
        f("weight", weight);
        f("bias", bias);
        f("running_mean", running_mean);
        f("running_var", running_var);
    }
};

}  // namespace lumachrome
