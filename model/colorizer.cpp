#include "model/colorizer.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "image/color.hpp"
#include "image/resize.hpp"
#include "tensor/choose.hpp"
#include "tensor/error.hpp"

namespace lumachrome {
namespace {

// Shorter side of the network's input. The default model learned from photos of 128 pixels: on 26
// colour photos of 1280 pixels its rmse_ab is 21.38, 21.36, 21.39, 21.42 at 112, 144, 176, 224, and
// its colourfulness falls from 25.5 to 24.1; 176 keeps most of it and bleeds less over edges.
constexpr int64_t kAutoSize = 176;
constexpr int64_t kAutoLongest = 2048;  // for strips: the longer side gives way first
constexpr int64_t kLargest = 8192;

int64_t round_to_stride(double side) {
    return std::max<int64_t>(kStride, std::llround(side / double(kStride)) * kStride);
}

}  // namespace

NetworkSize network_size(int64_t height, int64_t width, const ColorizeSettings& settings) {
    if (settings.size != 0 && (settings.size < kStride || settings.size > kLargest))
        throw UsageError("--size " + std::to_string(settings.size) + " must be in 8..8192");
    if (settings.full) {
        const auto up = [](int64_t side) { return (side + kStride - 1) / kStride * kStride; };
        return {up(height), up(width)};
    }
    const double shorter = double(std::min(height, width)),
                 longer = double(std::max(height, width));
    const double target =
        settings.size ? double(settings.size) : std::min(shorter, double(kAutoSize));
    const int64_t small = round_to_stride(target);
    const int64_t limit = settings.size ? kLargest : kAutoLongest;
    const int64_t large =
        std::clamp(round_to_stride(longer * target / shorter), small, std::max(small, limit));
    return height <= width ? NetworkSize{small, large} : NetworkSize{large, small};
}

Colorizer::Colorizer(const std::string& weights_path, const Exec& exec) : exec_(exec) {
    LoadedModel model = load_model(weights_path);
    net_ = std::move(model.net);
    metadata_ = std::move(model.metadata);
}

Colorizer::Colorizer(std::unique_ptr<ColorNet> net, Metadata metadata, const Exec& exec)
    : net_(std::move(net)), metadata_(std::move(metadata)), exec_(exec) {}

Tensor Colorizer::network_input(const Tensor& luma, int64_t height, int64_t width) const {
    // resize may hand back its input when nothing changes
    const Tensor x = resize(luma, height, width).clone();
    for (int64_t i = 0; i < x.numel(); ++i)
        x.data<float>()[i] -= static_cast<float>(net_->spec.luma_mean);
    return x.reshape({1, height, width, 1});
}

std::vector<SceneScore> Colorizer::scores(const Tensor& logits) const {
    if (!all_finite(logits))
        throw ModelError("the network's output is not finite: the weights are damaged");
    const float* z = logits.data<float>();
    const int64_t classes = logits.numel();
    const double largest = *std::max_element(z, z + classes);
    double sum = 0;
    for (int64_t c = 0; c < classes; ++c) sum += std::exp(double(z[c]) - largest);
    std::vector<SceneScore> result;
    for (int64_t c = 0; c < classes; ++c) {
        const auto& names = net_->spec.class_names;
        result.push_back({names.empty() ? std::to_string(c) : names[static_cast<size_t>(c)],
                          std::exp(double(z[c]) - largest) / sum});
    }
    std::stable_sort(result.begin(), result.end(), [](const SceneScore& a, const SceneScore& b) {
        return a.probability > b.probability;
    });
    return result;
}

Colorizer::NetworkOutput Colorizer::run_network(const Tensor& gray, const NetworkSize& size,
                                                bool naive) {
    const int64_t side = net_->spec.global_size;
    const bool same = size.height == side && size.width == side;
    std::vector<Tensor> in{network_input(gray, size.height, size.width)};
    if (net_->spec.use_global && !same) in.push_back(network_input(gray, side, side));
    if (naive) {
        const ForcedImplementations path(kNaivePath);
        Tape tape(Phase::eval, exec_);
        const Var x = tape.input(in[0]);
        const ColorNet::Output output = (*net_)(x, in.size() > 1 ? tape.input(in[1]) : x);
        return {output.color.value, output.logits ? output.logits->value : Tensor{}};
    }
    if (!inference_) inference_ = std::make_unique<Inference>(*net_, exec_);
    const std::vector<Tensor> out = inference_->at(size.height, size.width).run(in);
    return {out[0], out.size() > 1 ? out[1] : Tensor{}};
}

Colorized Colorizer::colorize(const Image& photo, const ColorizeSettings& settings) {
    const Tensor gray = luma(photo);
    const NetworkSize size = network_size(photo.height, photo.width, settings);
    const auto start = std::chrono::steady_clock::now();
    const NetworkOutput output = run_network(gray, size, settings.naive);

    Colorized result;
    result.network_milliseconds =
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    result.network_height = size.height;
    result.network_width = size.width;
    if (output.logits.defined()) result.scene = scores(output.logits);

    const Tensor ab = output.color.reshape({size.height / 2, size.width / 2, kOutputChannels});
    if (!all_finite(ab))
        throw ModelError("the network's output is not finite: the weights are damaged");
    const float scale = static_cast<float>(net_->spec.ab_scale);
    for (int64_t i = 0; i < ab.numel(); ++i) {
        float& value = ab.data<float>()[i];
        value = scale * (2 * value - 1);
    }
    result.image = merge_luma_chroma(photo, gray, resize(ab, photo.height, photo.width),
                                     static_cast<float>(settings.saturation));
    return result;
}

std::vector<SceneScore> Colorizer::classify(const Image& photo) {
    if (!net_->spec.use_global) throw ModelError("this model has no class head");
    Tape tape(Phase::eval, exec_);
    const int64_t side = net_->spec.global_size;
    const Var copy = tape.input(network_input(luma(photo), side, side));
    return scores(net_->classify(net_->global_features(net_->low_level(copy))).value);
}

}  // namespace lumachrome
