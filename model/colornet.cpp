#include "model/colornet.hpp"

#include <cmath>
#include <numbers>

#include "layers/cast.hpp"
#include "layers/flatten.hpp"
#include "layers/init.hpp"
#include "layers/upsample.hpp"

namespace lumachrome {
namespace {

int64_t scaled(const Spec& spec, int64_t channels) {
    return channels == 1 ? 1 : spec.channels(channels);
}

template <size_t kRows>
std::vector<ConvBlock> stack(const Spec& spec, const ConvRow (&rows)[kRows]) {
    std::vector<ConvBlock> blocks;
    for (const ConvRow& row : rows)
        blocks.emplace_back(Conv2d(scaled(spec, row.in), scaled(spec, row.out), {3, row.stride}),
                            spec.batch_norm, spec.activation);
    return blocks;
}

LinearBlock linear_block(const Spec& spec, int64_t in, int64_t out) {
    return {Linear(in, out), spec.batch_norm, spec.activation};
}

// Losses, and whoever looks at results, want more than activations are kept in.
Var widened(const Var& x) {
    return x.value.dtype() == DType::bf16 ? cast(x, DType::f32) : x;
}

std::string numbered(const char* stage, size_t i) {
    return stage + std::to_string(i + 1);
}

const Spec& checked(const Spec& spec) {
    spec.check();
    return spec;
}

}  // namespace

ColorNet::ColorNet(const Spec& s, std::optional<uint64_t> seed, Init init)
    : spec(checked(s)),
      low(stack(s, kLowLevel)),
      mid(stack(s, kMidLevel)),
      fusion(Fusion(s.channels(kMidLevel[1].out), s.use_global ? s.channels(kGlobalFeatures[2]) : 0,
                    s.channels(kFusion), s.fusion_kernel),
             s.batch_norm, s.activation),
      color(stack(s, kColor)),
      output(s.channels(kOutputIn), kOutputChannels, {}) {
    if (s.use_global) {
        global_conv = stack(s, kGlobal);
        int64_t features = s.channels(kGlobal[3].out) * s.global_map() * s.global_map();
        for (int64_t out : kGlobalFeatures) {
            global_fc.push_back(linear_block(s, features, s.channels(out)));
            features = s.channels(out);
        }
    }
    if (s.has_class_head()) {
        classifier_hidden =
            linear_block(s, s.channels(kGlobalFeatures[1]), s.channels(kClassifierHidden));
        classifier_out.emplace(s.channels(kClassifierHidden), s.classes);
    }
    if (!seed) return;
    uint32_t index = 0;
    const double hidden_gain = s.activation == Activation::relu ? std::numbers::sqrt2 : 1;
    visit([&](const std::string& name, Parameter& p) {
        const bool last = name.starts_with("output") || name.starts_with("classifier.2");
        const double gain = init == Init::torch ? std::sqrt(1.0 / 3) : last ? 1 : hidden_gain;
        if (name.ends_with("conv.weight") || name.ends_with("linear.weight"))
            init_weight(p, gain, *seed, index);
        ++index;
    });
}

Var ColorNet::low_level(const Var& x) {
    Var y = x;
    for (size_t i = 0; i < low.size(); ++i) y = seen(numbered("low.", i), low[i](y));
    return y;
}

ColorNet::GlobalFeatures ColorNet::global_features(const Var& low_of_copy) {
    Var y = low_of_copy;
    for (size_t i = 0; i < global_conv.size(); ++i)
        y = seen(numbered("global.", i), global_conv[i](y));
    y = flatten(y);
    const auto mask = [&](uint32_t layer) {
        return DropoutMask{spec.dropout, dropout_seed,         dropout_step,
                           layer,        dropout_first_sample, dropout_device_step};
    };
    y = dropout(seen("global.fc1", global_fc[0](y)), mask(1));
    const Var semantics = dropout(seen("global.fc2", global_fc[1](y)), mask(2));
    return {seen("global.fc3", global_fc[2](semantics)), semantics};
}

Var ColorNet::colorize(const Var& low_of_x, const GlobalFeatures* global) {
    Var y = low_of_x;
    for (size_t i = 0; i < mid.size(); ++i) y = seen(numbered("mid.", i), mid[i](y));
    y = seen("fusion", global ? fusion(y, global->vector) : fusion(y));
    for (size_t i = 0; i < color.size(); ++i) {
        y = seen(numbered("color.", i), color[i](y));
        if (kUpsampleAfter[i]) y = upsample(y);
    }
    return seen("output", activate(widened(output(y)), Activation::sigmoid));
}

Var ColorNet::classify(const GlobalFeatures& global) {
    return seen("classifier.2", widened((*classifier_out)((*classifier_hidden)(global.semantics))));
}

ColorNet::Output ColorNet::operator()(const Var& x, const Var& copy) {
    const Var low_of_x = low_level(x);
    if (!spec.use_global) return {colorize(low_of_x, nullptr), {}};
    const bool shared = x.node == copy.node;
    const GlobalFeatures global = global_features(shared ? low_of_x : low_level(copy));
    const Var color_out = colorize(low_of_x, &global);
    if (!spec.has_class_head()) return {color_out, {}};
    return {color_out, classify(global)};
}

void ColorNet::visit(const std::function<void(const std::string&, Parameter&)>& f) {
    const auto block = [&](const std::string& prefix, auto& layer) {
        layer.visit([&](const std::string& name, Parameter& p) { f(prefix + "." + name, p); });
    };
    const auto blocks = [&](const char* stage, auto& layers) {
        for (size_t i = 0; i < layers.size(); ++i) block(numbered(stage, i), layers[i]);
    };
    blocks("low.", low);
    blocks("mid.", mid);
    blocks("global.", global_conv);
    blocks("global.fc", global_fc);
    block("fusion", fusion);
    blocks("color.", color);
    block("output.conv", output);
    if (classifier_hidden) block("classifier.1", *classifier_hidden);
    if (classifier_out) block("classifier.2.linear", *classifier_out);
}

void ColorNet::cast(DType dtype) {
    visit([&](const std::string&, Parameter& p) {
        p.value = p.value.to(dtype);
        p.grad = {};
        ++p.version;
    });
}

void ColorNet::to(Device device) {
    visit([&](const std::string&, Parameter& p) {
        p.value = p.value.to(device);
        p.grad = {};
        ++p.version;
    });
}

}  // namespace lumachrome
