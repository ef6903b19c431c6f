#include "model/colorizer.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>

#include "image/two_scale.hpp"
#include "tensor/choose.hpp"
#include "tensor/error.hpp"
#include "tensor/file.hpp"
#include "tensor/sha256.hpp"

namespace lumachrome {
namespace {

// Shorter side of the network's input. The default model learned from photos of 128 pixels: on 26
// colour photos of 1280 pixels its rmse_ab is 20.44, 20.39, 20.32, 20.26 at 112, 144, 176, 224, and
// its colourfulness 40.8, 40.5, 40.5, 39.9. That hardly chooses; by eye, of an earlier model, people
// take on the colour of the ground at 112 and 144, and skies turn gray from 224 on.
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

using Clock = std::chrono::steady_clock;
double milliseconds(Clock::duration time) {
    return std::chrono::duration<double, std::milli>(time).count();
}

// Colours in 0..1 in Lab units.
void to_ab(const float* color, size_t count, double ab_scale, float* ab) {
    const auto scale = static_cast<float>(ab_scale);
    bool finite = true;
    for (size_t i = 0; i < count; ++i) {
        ab[i] = scale * (2 * color[i] - 1);
        finite &= std::isfinite(ab[i]);
    }
    if (!finite) throw damaged_weights();
}

// Takes the network's colours [.,W/2,2] in 0..1, row by row, and gives rows of the result.
class Painter {
  public:
    Painter(const Image& photo, const NetworkSize& size, double ab_scale,
            const ColorizeSettings& settings, const ColorRows::Sink& sink)
        : height_(size.height / 2),
          width_(size.width / 2),
          ab_scale_(ab_scale),
          colors_(photo, height_, width_, static_cast<float>(settings.saturation),
                  settings.upsampling),
          sink_(sink) {}

    // From here on with the tint of another pass.
    void tint(const Exec& exec, const Tensor& small_ab) {
        tinted_.emplace(small_ab, height_, width_, exec);
    }
    void push(const Exec& exec, const float* color, int64_t rows) {
        const auto start = Clock::now();
        ab_.resize(size_t(rows * width_ * kOutputChannels));
        to_ab(color, ab_.size(), ab_scale_, ab_.data());
        RowSpan ready{ab_.data(), rows};
        if (tinted_) ready = tinted_->push(exec, ab_.data(), rows);
        colors_.push(exec, ready.data, ready.count, sink_);
        spent_ += Clock::now() - start;
    }
    Clock::duration spent() const { return spent_; }

  private:
    int64_t height_, width_;  // of the colours
    double ab_scale_;
    ColorRows colors_;
    std::optional<TwoScaleRows> tinted_;
    const ColorRows::Sink& sink_;
    std::vector<float> ab_;
    Clock::duration spent_{};
};

// What `paint` gives to its sink, as a whole image.
template <class Paint>
Colorized as_image(const Image& photo, const Paint& paint) {
    Image image;
    static_cast<ImageHeader&>(image) = merged(photo);
    image.bytes.reserve(size_t(image.height * image.row_bytes()));
    Colorized result{paint([&](const uint8_t* rows, int64_t count) {
                         image.bytes.insert(image.bytes.end(), rows,
                                            rows + count * image.row_bytes());
                     }),
                     {}};
    result.image = std::move(image);
    return result;
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

std::unique_ptr<Colorizer> Colorizer::twin(int threads) {
    inference();
    Exec exec = exec_;
    exec.threads = threads;
    return std::unique_ptr<Colorizer>(new Colorizer(*this, exec));
}

Colorizer::Colorizer(const Colorizer& other, const Exec& exec)
    : path_(other.path_),
      net_(other.net_ ? std::make_unique<ColorNet>(*other.net_) : nullptr),
      spec_(other.spec_),
      metadata_(other.metadata_),
      exec_(exec),
      weights_sha256_(other.weights_sha256_),
      inference_(std::make_unique<Inference>(*other.inference_, exec)) {}

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

Tensor Colorizer::copy_of(const Image& photo) const {
    return network_input(photo, spec_.global_size, spec_.global_size);
}

std::vector<SceneScore> Colorizer::scores(const Tensor& logits) const {
    if (!all_finite(logits)) throw damaged_weights();
    const float* z = logits.data<float>();
    const int64_t classes = logits.numel();
    const double largest = *std::max_element(z, z + classes);
    double sum = 0;
    for (int64_t c = 0; c < classes; ++c) sum += std::exp(double(z[c]) - largest);
    std::vector<SceneScore> result;
    for (int64_t c = 0; c < classes; ++c)
        result.push_back({class_name(c), std::exp(double(z[c]) - largest) / sum, c});
    std::stable_sort(result.begin(), result.end(), [](const SceneScore& a, const SceneScore& b) {
        return a.probability > b.probability;
    });
    return result;
}

Inference& Colorizer::inference() {
    if (inference_) return *inference_;
    // A file can be read again should the network itself be asked for.
    ColorNet network = path_.empty() ? net() : std::move(net());
    if (!path_.empty()) net_.reset();
    inference_ = std::make_unique<Inference>(std::move(network), exec_);
    return *inference_;
}

const std::string& Colorizer::weights_sha256() {
    if (weights_sha256_.empty())
        weights_sha256_ = sha256(path_.empty() ? serialize(model_file(net())) : read_file(path_));
    return weights_sha256_;
}

Tensor Colorizer::run_network(const Image& photo, const NetworkSize& size, bool naive,
                              const Tensor& style, const ColorSink& color) {
    if (naive) return run_naive(photo, size, style, color);
    if (on_gpu()) return run_on_gpu(photo, size, style, color);
    const Part part = style.defined() ? Part::styled : Part::whole;
    Runner& runner = inference().at(size.height, size.width, part);
    LumaRows rows(photo, size.height, size.width);
    Tensor logits;
    runner.run(
        [&](size_t input, Rows wanted, float* to) {
            const int64_t count = wanted.end - wanted.begin;
            if (input == 0) {
                rows.next(exec_, count, to);
                subtract(to, count * size.width, spec_.luma_mean);
            } else {
                const Tensor second = style.defined() ? style : copy_of(photo);
                std::copy_n(second.data<float>(), second.numel(), to);
            }
        },
        [&](size_t output, Rows done, const float* from) {
            if (output == 0) return color(from, done.end - done.begin);
            logits = Tensor::empty({1, spec_.classes});
            std::copy_n(from, logits.numel(), logits.data<float>());
        });
    return logits;
}

Tensor Colorizer::run_on_gpu(const Image& photo, const NetworkSize& size, const Tensor& style,
                             const ColorSink& color) {
    std::vector<Tensor> in{network_input(photo, size.height, size.width)};
    if (style.defined())
        in.push_back(style);
    else if (inference().takes_copy(size.height, size.width))
        in.push_back(copy_of(photo));
    const std::vector<Tensor> out =
        inference().run(style.defined() ? Part::styled : Part::whole, size.height, size.width, in);
    color(out[0].data<float>(), size.height / 2);
    return out.size() > 1 ? out[1] : Tensor{};
}

Tensor Colorizer::run_naive(const Image& photo, const NetworkSize& size, const Tensor& style,
                            const ColorSink& color) {
    // A GPU's fully connected layers are convolutions there.
    const ForcedImplementations path(on_gpu() ? "conv2d:naive" : kNaivePath);
    if (on_gpu() && !on_device_) {
        on_device_ = std::make_unique<ColorNet>(net());
        on_device_->to(exec_.device);
    }
    ColorNet& network = on_gpu() ? *on_device_ : net();
    Exec exec = exec_;
    exec.maps = DType::f32;
    Tape tape(Phase::eval, exec);
    const auto input = [&](const Tensor& x) { return tape.input(x.to(exec.device)); };
    const auto give = [&](const Var& y) {
        color(y.value.to(Device{}).data<float>(), size.height / 2);
    };
    const Var x = input(network_input(photo, size.height, size.width));
    if (style.defined()) {
        const ColorNet::GlobalFeatures features{input(style), {}};
        give(network.colorize(network.low_level(x), &features));
        return {};
    }
    const bool same = size.height == spec_.global_size && size.width == spec_.global_size;
    const Var copy = same || !spec_.use_global ? x : input(copy_of(photo));
    const ColorNet::Output output = network(x, copy);
    give(output.color);
    return output.logits ? output.logits->value.to(Device{}) : Tensor{};
}

Tensor Colorizer::whole_ab(const Image& photo, const NetworkSize& size, bool naive,
                           const Tensor& style) {
    const Tensor ab = Tensor::empty({size.height / 2, size.width / 2, kOutputChannels});
    float* next = ab.data<float>();
    run_network(photo, size, naive, style, [&](const float* color, int64_t rows) {
        const int64_t count = rows * size.width / 2 * kOutputChannels;
        to_ab(color, size_t(count), spec_.ab_scale, next);
        next += count;
    });
    return ab;
}

std::string Colorizer::class_name(int64_t index) const {
    return spec_.class_names.empty() ? std::to_string(index)
                                     : spec_.class_names[static_cast<size_t>(index)];
}

int64_t Colorizer::class_index(const std::string& label) const {
    if (!spec_.has_class_head()) throw ModelError("this model has no class head");
    std::string known;
    for (int64_t c = 0; c < spec_.classes; ++c) {
        if (class_name(c) == label) return c;
        known += (c == 0 ? "" : ", ") + class_name(c);
    }
    throw UsageError("no scene class is named " + label + "; there are: " + known);
}

Tensor Colorizer::style_of(const GlobalView& own, const ColorizeSettings& settings) {
    std::vector<Style> styles = settings.styles;
    if (!settings.scene_class.empty()) {
        const int64_t label = class_index(settings.scene_class);
        const Exec cpu{{}, exec_.threads};
        const Tensor semantics = toward_class(net(), cpu, own.semantics, label);
        styles.push_back({style_of_semantics(net(), cpu, semantics), settings.scene_class_weight});
    }
    return mix(own.style, styles);
}

void Colorizer::require_styles() const {
    if (!has_styles()) throw ModelError("this model has no global branch, so it knows no styles");
}

GlobalView Colorizer::global_view(const Image& photo) {
    require_styles();
    const int64_t side = spec_.global_size;
    const Tensor copy = copy_of(photo);
    const std::vector<Tensor> out = inference().run(Part::global, side, side, {&copy, 1});
    return {out[0], out[1], out.size() > 2 ? scores(out[2]) : std::vector<SceneScore>{}};
}

Colorization Colorizer::colorize(const Image& photo, const ColorizeSettings& settings,
                                 const ColorRows::Sink& rows) {
    const NetworkSize size = network_size(photo.height, photo.width, settings);
    Painter painter(photo, size, spec_.ab_scale, settings, rows);
    if (settings.naive && settings.max_memory > 0)
        throw UsageError("the simple path keeps whole maps, so it takes no memory limit");
    if (!settings.naive) inference().limit_memory(settings.max_memory);
    const auto start = Clock::now();
    Colorization result{size.width, size.height, {}, 0};
    Tensor style;
    if (!settings.styles.empty() || !settings.scene_class.empty()) {
        GlobalView own = global_view(photo);
        style = style_of(own, settings);
        result.scene = std::move(own.scene);
    }
    const NetworkSize small = network_size(photo.height, photo.width, {});
    if (settings.two_scale && small.height < size.height && small.width < size.width)
        painter.tint(exec_, whole_ab(photo, small, settings.naive, style));
    const Tensor logits =
        run_network(photo, size, settings.naive, style,
                    [&](const float* color, int64_t count) { painter.push(exec_, color, count); });
    if (logits.defined()) result.scene = scores(logits);
    result.network_milliseconds = milliseconds(Clock::now() - start - painter.spent());
    return result;
}

PhotoFeatures Colorizer::features(const Image& photo, const ColorizeSettings& settings) {
    const NetworkSize size = network_size(photo.height, photo.width, settings);
    inference().limit_memory(settings.max_memory);
    const auto start = Clock::now();
    PhotoFeatures result{size.width, size.height, {}, {}, 0};
    const Tensor x = network_input(photo, size.height, size.width);
    result.middle = inference().run(Part::middle, size.height, size.width, {&x, 1})[0];
    if (has_styles()) result.global = global_view(photo);
    result.network_milliseconds = milliseconds(Clock::now() - start);
    return result;
}

Colorization Colorizer::colorize(const Image& photo, const PhotoFeatures& features,
                                 const ColorizeSettings& settings, const ColorRows::Sink& rows) {
    if (!settings.styles.empty() || !settings.scene_class.empty()) require_styles();
    const int64_t height = features.network_height, width = features.network_width;
    Painter painter(photo, {height, width}, spec_.ab_scale, settings, rows);
    const auto start = Clock::now();
    std::vector<Tensor> in{features.middle};
    if (has_styles()) in.push_back(style_of(features.global, settings));
    const Tensor color = inference().run(Part::tail, height, width, in)[0];
    const double network = milliseconds(Clock::now() - start);
    painter.push(exec_, color.data<float>(), height / 2);
    return {width, height, features.global.scene, network};
}

Colorized Colorizer::colorize(const Image& photo, const ColorizeSettings& settings) {
    return as_image(photo, [&](const auto& rows) { return colorize(photo, settings, rows); });
}

Colorized Colorizer::colorize(const Image& photo, const PhotoFeatures& features,
                              const ColorizeSettings& settings) {
    return as_image(photo,
                    [&](const auto& rows) { return colorize(photo, features, settings, rows); });
}

Explanation Colorizer::explain(const Image& photo, const ColorizeSettings& settings,
                               int64_t channels, int64_t classes) {
    const NetworkSize size = network_size(photo.height, photo.width, settings);
    std::vector<int64_t> labels;
    if (spec_.has_class_head())
        for (const SceneScore& score : classify(photo))
            if (static_cast<int64_t>(labels.size()) < classes) labels.push_back(score.index);
    return lumachrome::explain(net(), {{}, exec_.threads},
                               network_input(photo, size.height, size.width), copy_of(photo),
                               channels, labels);
}

std::vector<SceneScore> Colorizer::classify(const Image& photo) {
    if (!spec_.has_class_head()) throw ModelError("this model has no class head");
    return global_view(photo).scene;
}

}  // namespace lumachrome
