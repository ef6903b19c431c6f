#include "model/colorizer.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>

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

void subtract(float* x, int64_t count, double mean) {
    for (int64_t i = 0; i < count; ++i) x[i] -= static_cast<float>(mean);
}

ModelError damaged_weights() {
    return ModelError("the network's output is not finite: the weights are damaged");
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

Colorizer::Colorizer(const std::string& weights_path, const Exec& exec)
    : path_(weights_path), exec_(exec) {
    LoadedModel model = load_model(weights_path);
    net_ = std::move(model.net);
    spec_ = net_->spec;
    metadata_ = std::move(model.metadata);
}

Colorizer::Colorizer(std::unique_ptr<ColorNet> net, Metadata metadata, const Exec& exec)
    : net_(std::move(net)), spec_(net_->spec), metadata_(std::move(metadata)), exec_(exec) {}

ColorNet& Colorizer::net() {
    if (!net_) net_ = load_model(path_).net;
    return *net_;
}

Tensor Colorizer::network_input(const Image& photo, int64_t height, int64_t width) const {
    const Tensor x = Tensor::empty({1, height, width, 1});
    LumaRows rows(photo, height, width);
    rows.next(exec_, height, x.data<float>());
    subtract(x.data<float>(), x.numel(), spec_.luma_mean);
    return x;
}

std::vector<SceneScore> Colorizer::scores(const Tensor& logits) const {
    if (!all_finite(logits)) throw damaged_weights();
    const float* z = logits.data<float>();
    const int64_t classes = logits.numel();
    const double largest = *std::max_element(z, z + classes);
    double sum = 0;
    for (int64_t c = 0; c < classes; ++c) sum += std::exp(double(z[c]) - largest);
    std::vector<SceneScore> result;
    for (int64_t c = 0; c < classes; ++c) {
        const auto& names = spec_.class_names;
        result.push_back({names.empty() ? std::to_string(c) : names[static_cast<size_t>(c)],
                          std::exp(double(z[c]) - largest) / sum});
    }
    std::stable_sort(result.begin(), result.end(), [](const SceneScore& a, const SceneScore& b) {
        return a.probability > b.probability;
    });
    return result;
}

std::unique_ptr<Inference> Colorizer::make_inference(const InferenceOptions& options) {
    // A file can be read again should the network itself be asked for.
    ColorNet network = path_.empty() ? net() : std::move(net());
    if (!path_.empty()) net_.reset();
    return std::make_unique<Inference>(std::move(network), exec_, options);
}

Tensor Colorizer::run_network(const Image& photo, const NetworkSize& size,
                              const ColorizeSettings& settings, const ColorSink& color) {
    if (settings.naive) return run_naive(photo, size, color);
    if (!inference_) inference_ = make_inference({});
    if (on_gpu()) return run_on_gpu(photo, size, color);
    inference_->limit_memory(settings.max_memory);
    Runner& runner = inference_->at(size.height, size.width);
    LumaRows rows(photo, size.height, size.width);
    Tensor logits;
    runner.run(
        [&](size_t input, Rows wanted, float* to) {
            const int64_t count = wanted.end - wanted.begin;
            if (input == 0) {
                rows.next(exec_, count, to);
                subtract(to, count * size.width, spec_.luma_mean);
            } else {
                const int64_t side = spec_.global_size;
                const Tensor copy = network_input(photo, side, side);
                std::copy_n(copy.data<float>(), copy.numel(), to);
            }
        },
        [&](size_t output, Rows done, const float* from) {
            if (output == 0) return color(from, done.end - done.begin);
            logits = Tensor::empty({1, spec_.classes});
            std::copy_n(from, logits.numel(), logits.data<float>());
        });
    return logits;
}

Tensor Colorizer::run_on_gpu(const Image& photo, const NetworkSize& size, const ColorSink& color) {
    std::vector<Tensor> in{network_input(photo, size.height, size.width)};
    const int64_t side = spec_.global_size;
    if (inference_->takes_copy(size.height, size.width))
        in.push_back(network_input(photo, side, side));
    const std::vector<Tensor> out = inference_->on_gpu(size.height, size.width).run(in);
    color(out[0].data<float>(), size.height / 2);
    return out.size() > 1 ? out[1] : Tensor{};
}

Tensor Colorizer::run_naive(const Image& photo, const NetworkSize& size, const ColorSink& color) {
    // A GPU's fully connected layers are convolutions there.
    const ForcedImplementations path(on_gpu() ? "conv2d:naive" : kNaivePath);
    if (on_gpu() && !on_device_) {
        on_device_ = std::make_unique<ColorNet>(net());
        on_device_->to(exec_.device);
    }
    ColorNet& network = on_gpu() ? *on_device_ : net();
    Exec exec = exec_;
    exec.maps = DType::f32;
    const auto input = [&](int64_t height, int64_t width) {
        return network_input(photo, height, width).to(exec.device);
    };
    const int64_t side = spec_.global_size;
    const bool same = size.height == side && size.width == side;
    Tape tape(Phase::eval, exec);
    const Var x = tape.input(input(size.height, size.width));
    const Var copy = same || !spec_.use_global ? x : tape.input(input(side, side));
    const ColorNet::Output output = network(x, copy);
    color(output.color.value.to(Device{}).data<float>(), size.height / 2);
    return output.logits ? output.logits->value.to(Device{}) : Tensor{};
}

Colorization Colorizer::colorize(const Image& photo, const ColorizeSettings& settings,
                                 const ColorRows::Sink& rows) {
    using Clock = std::chrono::steady_clock;
    const NetworkSize size = network_size(photo.height, photo.width, settings);
    ColorRows colors(photo, size.height / 2, size.width / 2,
                     static_cast<float>(settings.saturation));
    const auto scale = static_cast<float>(spec_.ab_scale);
    std::vector<float> ab;
    Clock::duration outside{};  // spent on what is not the network
    const auto start = Clock::now();
    const Tensor logits =
        run_network(photo, size, settings, [&](const float* color, int64_t count) {
            const auto paused = Clock::now();
            ab.resize(size_t(count * size.width / 2 * kOutputChannels));
            bool finite = true;
            for (size_t i = 0; i < ab.size(); ++i) {
                ab[i] = scale * (2 * color[i] - 1);
                finite &= std::isfinite(ab[i]);
            }
            if (!finite) throw damaged_weights();
            colors.push(exec_, ab.data(), count, rows);
            outside += Clock::now() - paused;
        });
    Colorization result;
    result.network_milliseconds =
        std::chrono::duration<double, std::milli>(Clock::now() - start - outside).count();
    result.network_height = size.height;
    result.network_width = size.width;
    if (logits.defined()) result.scene = scores(logits);
    return result;
}

Colorized Colorizer::colorize(const Image& photo, const ColorizeSettings& settings) {
    Image image;
    static_cast<ImageHeader&>(image) = merged(photo);
    image.bytes.reserve(size_t(image.height * image.row_bytes()));
    Colorized result{colorize(photo, settings,
                              [&](const uint8_t* rows, int64_t count) {
                                  image.bytes.insert(image.bytes.end(), rows,
                                                     rows + count * image.row_bytes());
                              }),
                     {}};
    result.image = std::move(image);
    return result;
}

std::vector<SceneScore> Colorizer::classify(const Image& photo) {
    if (!spec_.has_class_head()) throw ModelError("this model has no class head");
    if (on_gpu()) {
        if (!classifier_) classifier_ = make_inference({.colorize = false});
        const int64_t side = spec_.global_size;
        const Tensor copy = network_input(photo, side, side);
        return scores(classifier_->on_gpu(side, side).run({&copy, 1})[0]);
    }
    Tape tape(Phase::eval, exec_);
    const int64_t side = spec_.global_size;
    const Var copy = tape.input(network_input(photo, side, side));
    return scores(net().classify(net().global_features(net().low_level(copy))).value);
}

}  // namespace lumachrome
