// Derivative bugs that people really write, each as what it does to the right gradients. The
// gradient checks must see every one.
#include "layers/activation.hpp"
#include "layers/batch_norm.hpp"
#include "layers/conv2d.hpp"
#include "layers/cross_entropy.hpp"
#include "layers/fusion.hpp"
#include "layers/linear.hpp"
#include "layers/mse_loss.hpp"
#include "layers/op_cases.hpp"

namespace lumachrome {
namespace {

using Spoil = void (*)(const OpCase&, const Tensor&, const Saved&, std::span<const GradIn>);

// f(element index, value) -> value on the gradient of input k.
template <class F>
void rewrite(const GradIn& grad, F f) {
    if (!grad) return;
    dispatch_float(grad.grad.dtype(), [&](auto t) {
        using T = decltype(t);
        T* g = grad.grad.data<T>();
        for (int64_t i = 0; i < grad.grad.numel(); ++i) g[i] = static_cast<T>(f(i, double(g[i])));
    });
}

template <size_t kInput>
void zero(const OpCase&, const Tensor&, const Saved&, std::span<const GradIn> din) {
    rewrite(din[kInput], [](int64_t, double) { return 0.0; });
}
template <size_t kInput>
void negate(const OpCase&, const Tensor&, const Saved&, std::span<const GradIn> din) {
    rewrite(din[kInput], [](int64_t, double g) { return -g; });
}
template <size_t kInput>
void twice(const OpCase&, const Tensor&, const Saved&, std::span<const GradIn> din) {
    rewrite(din[kInput], [](int64_t, double g) { return 2 * g; });
}
// beta = 1 treated as beta = 0: what was there already is lost.
template <size_t kInput>
void assign(const OpCase&, const Tensor&, const Saved&, std::span<const GradIn> din) {
    if (din[kInput].beta != 0) rewrite(din[kInput], [](int64_t, double g) { return g * 0.5; });
}

// w(k,r,s,c) <- w(k,R-1-r,S-1-s,c) on a gradient of filters, or the same over the pixels of an
// input.
template <size_t kInput, bool kTranspose>
void permute_taps(const OpCase&, const Tensor&, const Saved&, std::span<const GradIn> din) {
    if (!din[kInput]) return;
    const Tensor old = din[kInput].grad.to(DType::f64).clone();
    const Shape s = old.shape();
    const auto v = old.view<double>();
    rewrite(din[kInput], [&](int64_t i, double g) {
        const int64_t c = i % s[3], w = i / s[3] % s[2], h = i / s[3] / s[2] % s[1];
        const int64_t n = i / s[3] / s[2] / s[1];
        if (kTranspose) return s[1] == s[2] ? v(n, w, h, c) : g;
        return v(n, s[1] - 1 - h, s[2] - 1 - w, c);
    });
}

// The first element forgotten, as an off-by-one loop does.
template <size_t kInput>
void skip_first(const OpCase&, const Tensor&, const Saved&, std::span<const GradIn> din) {
    rewrite(din[kInput], [](int64_t i, double g) { return i == 0 ? 0.0 : g; });
}
template <size_t kInput>
void stale_last(const OpCase&, const Tensor&, const Saved&, std::span<const GradIn> din) {
    if (!din[kInput]) return;
    const int64_t last = din[kInput].grad.numel() - 1;
    rewrite(din[kInput], [last](int64_t i, double g) { return i == last ? g + 0.01 : g; });
}

void mean_bias(const OpCase&, const Tensor& dout, const Saved&, std::span<const GradIn> din) {
    const double rows = double(dout.shape().rows());
    rewrite(din[2], [&](int64_t, double g) { return g / rows; });
}

void shift_channels(const OpCase&, const Tensor&, const Saved&, std::span<const GradIn> din) {
    if (!din[1]) return;
    const Tensor old = din[1].grad.to(DType::f64).clone();
    const int64_t n = old.numel();
    rewrite(din[1], [&](int64_t i, double) { return old.data<double>()[(i + 1) % n]; });
}

// Batch norm: dx with one of the paths through the batch's own statistics left out.
void batch_norm_paths(const Tensor& dout, const Saved& saved, const GradIn& dx, bool mean_path,
                      bool variance_path) {
    if (!dx) return;
    const Tensor x = saved.tensors[0].to(DType::f64), m = saved.tensors[1].to(DType::f64),
                 s = saved.tensors[2].to(DType::f64), gamma = saved.tensors[3].to(DType::f64),
                 dy = dout.to(DType::f64);
    const int64_t C = x.shape().back(), M = x.shape().rows();
    rewrite(dx, [&](int64_t i, double old) {
        const int64_t c = i % C;
        double sum = 0, dot = 0;
        for (int64_t row = 0; row < M; ++row) {
            const double xh = (x.item(row * C + c) - m.item(c)) * s.item(c);
            sum += dy.item(row * C + c);
            dot += dy.item(row * C + c) * xh;
        }
        const double xh = (x.item(i) - m.item(c)) * s.item(c), scale = gamma.item(c) * s.item(c);
        // Take the missing path out of the right gradient.
        if (!mean_path) old += scale * sum / double(M);
        if (!variance_path) old += scale * xh * dot / double(M);
        return old;
    });
}
void no_mean_path(const OpCase& c, const Tensor& dout, const Saved& saved,
                  std::span<const GradIn> din) {
    if (c.op->name() == "batch_norm") batch_norm_paths(dout, saved, din[0], false, true);
}
void no_variance_path(const OpCase& c, const Tensor& dout, const Saved& saved,
                      std::span<const GradIn> din) {
    if (c.op->name() == "batch_norm") batch_norm_paths(dout, saved, din[0], true, false);
}
void no_gamma(const OpCase&, const Tensor&, const Saved& saved, std::span<const GradIn> din) {
    const Tensor& gamma = saved.tensors[3];
    rewrite(din[0], [&](int64_t i, double g) { return g / gamma.item(i % gamma.numel()); });
}
void variance_for_deviation(const OpCase&, const Tensor&, const Saved& saved,
                            std::span<const GradIn> din) {
    const Tensor& s = saved.tensors[2];
    rewrite(din[0], [&](int64_t i, double g) { return g * s.item(i % s.numel()); });
}

void batch_norm_forgets_activation(const OpCase& c, const Tensor& dout, const Saved&,
                                   std::span<const GradIn> din) {
    if (!dynamic_cast<const BatchNormOp&>(*c.op).activation) return;
    const int64_t C = dout.shape().back();
    rewrite(din[2], [&](int64_t k, double) {
        double sum = 0;
        for (int64_t i = k; i < dout.numel(); i += C) sum += dout.item(i);
        return sum;
    });
}

// Activations: saved holds y.
void relu_passes_all(const OpCase& c, const Tensor& dout, const Saved&,
                     std::span<const GradIn> din) {
    if (c.op->name() == "relu") rewrite(din[0], [&](int64_t i, double) { return dout.item(i); });
}
void relu_leaks(const OpCase& c, const Tensor& dout, const Saved& saved,
                std::span<const GradIn> din) {
    if (c.op->name() == "relu")
        rewrite(din[0], [&](int64_t i, double g) {
            return saved.tensors[0].item(i) > 0 ? g : 0.01 * dout.item(i);
        });
}
void sigmoid_forgets_factor(const OpCase& c, const Tensor& dout, const Saved& saved,
                            std::span<const GradIn> din) {
    if (c.op->name() == "sigmoid")
        rewrite(din[0], [&](int64_t i, double) { return dout.item(i) * saved.tensors[0].item(i); });
}
void sigmoid_of_output(const OpCase& c, const Tensor& dout, const Saved& saved,
                       std::span<const GradIn> din) {
    if (c.op->name() == "sigmoid")
        rewrite(din[0], [&](int64_t i, double) {
            const double s = 1 / (1 + std::exp(-saved.tensors[0].item(i)));
            return dout.item(i) * s * (1 - s);
        });
}

void upsample_mean(const OpCase&, const Tensor&, const Saved&, std::span<const GradIn> din) {
    rewrite(din[0], [](int64_t, double g) { return g / 4; });
}
void upsample_corner(const OpCase&, const Tensor& dout, const Saved&, std::span<const GradIn> din) {
    if (!din[0]) return;
    const Shape s = din[0].grad.shape();
    rewrite(din[0], [&](int64_t i, double) {
        const int64_t c = i % s[3], w = i / s[3] % s[2], row = i / s[3] / s[2];
        return dout.item(((row * 2) * 2 * s[2] + 2 * w) * s[3] + c);
    });
}

void flatten_nhwc(const OpCase&, const Tensor& dout, const Saved&, std::span<const GradIn> din) {
    rewrite(din[0], [&](int64_t i, double) { return dout.item(i); });
}

// Fusion: the global half as if the kernel never hung over the border.
void fusion_no_border(const OpCase& c, const Tensor& dout, const Saved& saved,
                      std::span<const GradIn> din) {
    if (!din[1]) return;
    const int64_t R = dynamic_cast<const FusionOp&>(*c.op).spec.kernel, K = dout.shape()[3];
    const Tensor& w_global = saved.tensors[3];
    const int64_t G = w_global.shape()[1], pixels = dout.shape()[1] * dout.shape()[2];
    rewrite(din[1], [&](int64_t i, double) {
        double sum = 0;
        for (int64_t k = 0; k < K; ++k) {
            double up = 0;
            for (int64_t p = 0; p < pixels; ++p) up += dout.item((i / G * pixels + p) * K + k);
            for (int64_t rs = 0; rs < R * R; ++rs)
                sum += up * w_global.item((k * R * R + rs) * G + i % G);
        }
        return sum;
    });
}
void fusion_halves_swapped(const OpCase&, const Tensor&, const Saved& saved,
                           std::span<const GradIn> din) {
    if (!din[2]) return;
    const Tensor old = din[2].grad.to(DType::f64).clone();
    const int64_t C = old.shape().back(), M = saved.tensors[0].shape()[3];
    rewrite(din[2], [&](int64_t i, double) { return old.item(i - i % C + (i % C + M) % C); });
}

void dropout_unscaled(const OpCase&, const Tensor& dout, const Saved&,
                      std::span<const GradIn> din) {
    rewrite(din[0], [&](int64_t i, double g) { return g == 0 ? 0 : dout.item(i); });
}
void dropout_ignores_mask(const OpCase&, const Tensor& dout, const Saved&,
                          std::span<const GradIn> din) {
    rewrite(din[0], [&](int64_t i, double) { return dout.item(i); });
}

void mse_sum(const OpCase&, const Tensor&, const Saved& saved, std::span<const GradIn> din) {
    const double n = double(saved.tensors[0].numel());
    rewrite(din[0], [n](int64_t, double g) { return g * n; });
}
void mse_half(const OpCase&, const Tensor&, const Saved&, std::span<const GradIn> din) {
    rewrite(din[0], [](int64_t, double g) { return g / 2; });
}
void mse_ignores_upstream(const OpCase&, const Tensor& dout, const Saved&,
                          std::span<const GradIn> din) {
    rewrite(din[0], [&](int64_t, double g) { return g / dout.item(); });
}
void mse_unweighted(const OpCase& c, const Tensor&, const Saved& saved,
                    std::span<const GradIn> din) {
    const double k = dynamic_cast<const MseLossOp&>(*c.op).chroma_weight;
    rewrite(din[0], [&](int64_t i, double g) {
        return g / (1 + k * std::abs(2 * saved.tensors[1].item(i) - 1));
    });
}

const Labels& labels_of(const OpCase& c) {
    return dynamic_cast<const CrossEntropyOp&>(*c.op).labels;
}

void cross_entropy_no_target(const OpCase& c, const Tensor& dout, const Saved& saved,
                             std::span<const GradIn> din) {
    double labelled = 0;
    for (int64_t label : labels_of(c)) labelled += label >= 0;
    const int64_t classes = saved.tensors[0].shape()[1];
    rewrite(din[0], [&](int64_t i, double g) {
        return labels_of(c)[size_t(i / classes)] == i % classes ? g + dout.item() / labelled : g;
    });
}
void cross_entropy_counts_unlabelled(const OpCase& c, const Tensor&, const Saved&,
                                     std::span<const GradIn> din) {
    double labelled = 0;
    for (int64_t label : labels_of(c)) labelled += label >= 0;
    rewrite(din[0], [&](int64_t, double g) { return g * labelled / double(labels_of(c).size()); });
}

constexpr DerivativeBug kBugs[] = {
    {"conv2d.no_bias_gradient", "conv2d", "the bias gets no gradient", zero<2>},
    {"conv2d.mean_bias_gradient", "conv2d",
     "the bias gradient is the mean over pixels, not the sum", mean_bias},
    {"conv2d.kernel_not_flipped", "conv2d",
     "dw comes out turned by 180 degrees: correlation taken for convolution",
     permute_taps<1, false>},
    {"conv2d.kernel_transposed", "conv2d", "rows and columns of the kernel are swapped in dw",
     permute_taps<1, true>},
    {"conv2d.image_turned", "conv2d", "dx is scattered from the wrong end", permute_taps<0, false>},
    {"conv2d.first_element_skipped", "conv2d",
     "an off-by-one loop leaves out the first element of dx", skip_first<0>},
    {"conv2d.dx_overwrites", "conv2d", "dx assigns where it should accumulate", assign<0>},
    {"conv2d.dw_stale_scratch", "conv2d", "the last filter tap keeps a stale value", stale_last<1>},
    {"linear.negative_dx", "linear", "sign error in dx", negate<0>},
    {"linear.dw_shifted", "linear", "dw written one column off", shift_channels},
    {"linear.no_dw", "linear", "the weights get no gradient", zero<1>},
    {"linear.db_overwrites", "linear", "db assigns where it should accumulate", assign<2>},
    {"batch_norm.no_mean_path", "batch_norm", "dx ignores that the mean depends on x",
     no_mean_path},
    {"batch_norm.no_variance_path", "batch_norm", "dx ignores that the variance depends on x",
     no_variance_path},
    {"batch_norm.no_gamma", "batch_norm", "dx forgets the factor gamma", no_gamma},
    {"batch_norm.variance_for_deviation", "batch_norm",
     "divides by the standard deviation once more", variance_for_deviation},
    {"batch_norm.no_beta_gradient", "batch_norm", "beta gets no gradient", zero<2>},
    {"batch_norm.forgets_activation", "batch_norm",
     "beta's gradient ignores the activation behind it", batch_norm_forgets_activation},
    {"activation.relu_passes_all", "activation", "ReLU lets every gradient through",
     relu_passes_all},
    {"activation.relu_leaks", "activation", "a leaky slope for negative inputs", relu_leaks},
    {"activation.sigmoid_forgets_factor", "activation",
     "the factor 1 - y of the sigmoid is missing", sigmoid_forgets_factor},
    {"activation.sigmoid_of_output", "activation", "the sigmoid's slope taken at y instead of x",
     sigmoid_of_output},
    {"upsample.mean", "upsample", "averages the 2x2 block instead of summing it", upsample_mean},
    {"upsample.corner", "upsample", "takes only the top left of the 2x2 block", upsample_corner},
    {"flatten.channels_last", "flatten", "gradients come back in the order H,W,C", flatten_nhwc},
    {"fusion.no_border_cases", "fusion", "dg as if the kernel never hung over the border",
     fusion_no_border},
    {"fusion.halves_swapped", "fusion", "dw with the global channels first", fusion_halves_swapped},
    {"fusion.local_twice", "fusion", "dm is counted twice", twice<0>},
    {"fusion.no_global_gradient", "fusion", "the global vector gets no gradient", zero<1>},
    {"dropout.unscaled", "dropout", "the factor 1/(1-rate) is missing in backward",
     dropout_unscaled},
    {"dropout.ignores_mask", "dropout", "dropped elements receive gradients", dropout_ignores_mask},
    {"mse_loss.sum", "mse_loss", "the gradient of the sum for the mean", mse_sum},
    {"mse_loss.half", "mse_loss", "the factor 2 is missing", mse_half},
    {"mse_loss.ignores_upstream", "mse_loss", "the incoming gradient is taken as 1",
     mse_ignores_upstream},
    {"mse_loss.unweighted", "mse_loss", "strong colours count like others", mse_unweighted},
    {"cross_entropy.no_target", "cross_entropy", "softmax without subtracting the target",
     cross_entropy_no_target},
    {"cross_entropy.counts_unlabelled", "cross_entropy",
     "divides by all samples instead of the labelled ones", cross_entropy_counts_unlabelled},
};

}  // namespace

std::span<const DerivativeBug> derivative_bugs() {
    return kBugs;
}

}  // namespace lumachrome
