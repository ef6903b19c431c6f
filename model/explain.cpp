#include "model/explain.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace lumachrome {
namespace {

Explanation::Stage stage_of(const std::string& name, const Tensor& maps, int64_t count) {
    const Shape& s = maps.shape();
    const int64_t pixels = s[1] * s[2], C = s[3];
    const float* const y = maps.data<float>();
    Explanation::Stage stage{name, s, 0, {}, {}};
    stage.zero_share =
        double(std::count(y, y + maps.numel(), 0.0f)) / double(std::max<int64_t>(1, maps.numel()));
    std::vector<double> sum(size_t(C), 0), squares(size_t(C), 0);
    for (int64_t i = 0; i < pixels; ++i)
        for (int64_t c = 0; c < C; ++c) {
            const double v = y[i * C + c];
            sum[size_t(c)] += v, squares[size_t(c)] += v * v;
        }
    const auto variance = [&](int64_t c) {
        return squares[size_t(c)] - sum[size_t(c)] * sum[size_t(c)] / double(pixels);
    };
    stage.channels.resize(size_t(C));
    std::iota(stage.channels.begin(), stage.channels.end(), int64_t{0});
    std::stable_sort(stage.channels.begin(), stage.channels.end(),
                     [&](int64_t a, int64_t b) { return variance(a) > variance(b); });
    stage.channels.resize(size_t(std::min(count, C)));
    for (const int64_t c : stage.channels) {
        const Tensor& map = stage.strongest.emplace_back(Tensor::empty({s[1], s[2], 1}));
        for (int64_t i = 0; i < pixels; ++i) map.data<float>()[i] = y[i * C + c];
    }
    return stage;
}

// Gradient of what was computed with respect to one value that a single op reads.
struct GradientOf : Watch {
    int node = -1;
    Tensor gradient;
    void backward(const Tape&, const Tape::Node& user, std::span<const GradIn> din) override {
        for (size_t i = 0; i < din.size(); ++i)
            if (user.inputs[i] == node) gradient = din[i].grad.clone();
    }
};

// ReLU(sum_c mean(dA_c) A_c), 1 at its largest.
Tensor grad_cam(const Tensor& maps, const Tensor& gradient) {
    const int64_t H = maps.shape()[1], W = maps.shape()[2], C = maps.shape()[3];
    std::vector<double> weight(size_t(C), 0);
    for (int64_t i = 0; i < H * W; ++i)
        for (int64_t c = 0; c < C; ++c)
            weight[size_t(c)] += gradient.data<float>()[i * C + c] / double(H * W);
    const Tensor map = Tensor::empty({H, W, 1});
    float* const y = map.data<float>();
    for (int64_t i = 0; i < H * W; ++i) {
        double value = 0;
        for (int64_t c = 0; c < C; ++c) value += weight[size_t(c)] * maps.data<float>()[i * C + c];
        y[i] = static_cast<float>(std::max(value, 0.0));
    }
    if (const float largest = *std::max_element(y, y + H * W); largest > 0)
        for (int64_t i = 0; i < H * W; ++i) y[i] /= largest;
    return map;
}

// Of a network whose parameters are frozen, so that batch norm keeps its running statistics.
Explanation::Attention attention_of(ColorNet& net, const Exec& exec, const Tensor& copy,
                                    int64_t label) {
    GradientOf watch;
    Tape tape(Phase::train, exec, &watch);
    Tensor maps;
    const std::string last = "global." + std::to_string(net.global_conv.size());
    net.observe = [&](const std::string& stage, const Var& value) {
        if (stage != last) return;
        watch.node = value.node;
        maps = value.value.clone();
    };
    const Var logits = net.classify(net.global_features(net.low_level(tape.input(copy, true))));
    net.observe = {};
    const Tensor wanted = Tensor::zeros(logits.shape());
    wanted.data<float>()[label] = 1;
    tape.backward_from({{logits, wanted}});
    return {label, grad_cam(maps, watch.gradient)};
}

Tensor share_of_global(FusionBlock& fusion, Tape& tape, const Var& middle, const Var& vector) {
    const auto run = [&](const Var& m, const Var& g) { return fusion.layer(m, g).value; };
    const Var no_middle = tape.input(Tensor::zeros(middle.shape())),
              no_vector = tape.input(Tensor::zeros(vector.shape()));
    const Tensor local = run(middle, no_vector), global = run(no_middle, vector),
                 bias = run(no_middle, no_vector);
    const int64_t K = bias.shape()[3], pixels = bias.numel() / K;
    std::vector<double> scale(size_t(K), 1);
    if (fusion.norm)
        for (int64_t k = 0; k < K; ++k)
            scale[size_t(k)] =
                fusion.norm->weight.value.item(k) /
                std::sqrt(fusion.norm->running_var.value.item(k) + kBatchNormEpsilon);
    const Tensor share = Tensor::empty({bias.shape()[1], bias.shape()[2], 1});
    for (int64_t i = 0; i < pixels; ++i) {
        double l = 0, g = 0;
        for (int64_t k = 0; k < K; ++k) {
            const int64_t at = i * K + k;
            const double b = bias.data<float>()[at];
            l += std::pow(scale[size_t(k)] * (local.data<float>()[at] - b), 2);
            g += std::pow(scale[size_t(k)] * (global.data<float>()[at] - b), 2);
        }
        l = std::sqrt(l), g = std::sqrt(g);
        share.data<float>()[i] = static_cast<float>(l + g > 0 ? g / (l + g) : 0);
    }
    return share;
}

}  // namespace

Explanation explain(ColorNet net, const Exec& exec, const Tensor& x, const Tensor& copy,
                    int64_t channels, const std::vector<int64_t>& labels) {
    net.visit([](const std::string&, Parameter& p) { p.trainable = false; });
    net.spec.dropout = 0;
    Explanation result;
    {
        Tape tape(Phase::eval, exec);
        Var middle, vector;
        const auto keep = [&](const std::string& name, const Var& value) {
            if (value.shape().rank() == 4)
                result.stages.push_back(stage_of(name, value.value, channels));
            if (name.starts_with("mid.")) middle = value;  // the last one stays
            if (name == "global.fc3") vector = value;
        };
        net.observe = keep;
        const Var low = net.low_level(tape.input(x));
        std::optional<ColorNet::GlobalFeatures> global;
        if (net.spec.use_global) {
            net.observe = {};  // the low-level maps of the copy show nothing new
            const Var low_of_copy = net.low_level(tape.input(copy));
            net.observe = keep;
            global = net.global_features(low_of_copy);
        }
        net.colorize(low, global ? &*global : nullptr);
        net.observe = {};
        if (global) result.global_share = share_of_global(net.fusion, tape, middle, vector);
    }
    for (const int64_t label : labels)
        result.attention.push_back(attention_of(net, exec, copy, label));
    return result;
}

}  // namespace lumachrome
