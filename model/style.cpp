#include "model/style.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "layers/cross_entropy.hpp"
#include "tensor/error.hpp"
#include "tensor/tensor_file.hpp"

namespace lumachrome {
namespace {

constexpr const char* kTensor = "style";
constexpr const char* kWeights = "weights_sha256";

// Ascent ends when the head is this sure, or after so many steps. A step is a share of the length
// that the features have, so that it suits any network.
constexpr double kSure = 0.9, kStep = 0.05;
constexpr int kMostSteps = 200;

double length(const Tensor& x) {
    const float* const v = x.data<float>();
    return std::sqrt(std::inner_product(v, v + x.numel(), v, 0.0));
}

TensorFile style_file(const Tensor& features, const std::string& weights_sha256) {
    TensorFile file;
    file.metadata[kWeights] = weights_sha256;
    file.tensors[kTensor] = features;
    return file;
}

Tensor checked_style(const TensorFile& file, const std::string& name, const Spec& spec,
                     const std::string& weights_sha256) {
    const auto found = file.tensors.find(kTensor);
    if (file.tensors.size() != 1 || found == file.tensors.end())
        throw ModelError(name + ": is no style; `lumachrome style PHOTO` makes one");
    const Tensor features = to_f32(found->second);
    const float* const v = features.data<float>();
    if (!std::all_of(v, v + features.numel(), [](float x) { return std::isfinite(x); }))
        throw ModelError(name + ": has features that are not finite");
    const auto weights = file.metadata.find(kWeights);
    if (weights == file.metadata.end() || weights->second != weights_sha256)
        throw ModelError(name + ": was made with other weights; make it anew from its photo");
    const Shape expected{1, spec.channels(kGlobalFeatures[2])};
    if (features.shape() != expected)
        throw ModelError(name + ": a style of this network is " + expected.str() + ", not " +
                         features.shape().str() + "; make it anew from its photo");
    return features;
}

}  // namespace

Tensor mix(const Tensor& own, std::span<const Style> styles) {
    double sum = 0;
    for (const Style& style : styles) {
        if (style.features.shape() != own.shape())
            throw ShapeError("a style of " + style.features.shape().str() +
                             " for a network that wants " + own.shape().str());
        sum += style.weight;
    }
    const double scale = 1 / std::max(1.0, sum);
    const Tensor mixed = Tensor::empty(own.shape());
    float* const y = mixed.data<float>();
    for (int64_t i = 0; i < own.numel(); ++i) {
        double value = (1 - scale * sum) * own.data<float>()[i];
        for (const Style& style : styles)
            value += scale * style.weight * style.features.data<float>()[i];
        y[i] = static_cast<float>(value);
    }
    return mixed;
}

Tensor toward_class(ColorNet net, const Exec& exec, const Tensor& semantics, int64_t label) {
    net.visit([](const std::string&, Parameter& p) { p.trainable = false; });
    const bool relu = net.spec.activation == Activation::relu;
    const double stride = kStep * std::max(length(semantics), 1e-3);
    const Tensor features = semantics.clone();
    for (int step = 0; step < kMostSteps; ++step) {
        Tape tape(Phase::train, exec);
        const Var x = tape.input(features.clone(), true);
        const Var loss = cross_entropy(net.classify({{}, x}), Labels{label});
        if (loss.value.item() < -std::log(kSure)) break;
        tape.backward({{loss, 1.0}});
        const Tensor& slope = tape.grad(x);
        const double steepness = length(slope);
        if (steepness == 0) break;
        float* const to = features.data<float>();
        for (int64_t i = 0; i < features.numel(); ++i) {
            to[i] -= static_cast<float>(stride / steepness * slope.data<float>()[i]);
            if (relu) to[i] = std::max(to[i], 0.0f);  // all that the layer before can give
        }
    }
    return features;
}

Tensor style_of_semantics(ColorNet& net, const Exec& exec, const Tensor& semantics) {
    Tape tape(Phase::eval, exec);
    return net.global_fc.back()(tape.input(semantics)).value;
}

std::vector<uint8_t> style_bytes(const Tensor& features, const std::string& weights_sha256) {
    return serialize(style_file(features, weights_sha256));
}

void write_style(const std::string& path, const Tensor& features, const std::string& weights_sha256,
                 bool overwrite) {
    write_tensor_file(path, style_file(features, weights_sha256), overwrite);
}

Tensor parse_style(std::vector<uint8_t> bytes, const std::string& name, const Spec& spec,
                   const std::string& weights_sha256) {
    return checked_style(parse_tensor_file(std::move(bytes), name), name, spec, weights_sha256);
}

}  // namespace lumachrome
