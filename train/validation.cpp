#include "train/validation.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "image/color.hpp"
#include "image/resize.hpp"
#include "tensor/error.hpp"
#include "train/sample_sheet.hpp"

namespace lumachrome {
namespace {

constexpr int64_t kSamples = 24, kSampleColumns = 4;
constexpr int64_t kSampleSide =
    128;  // at most: a sheet is to be looked at, and goes into the report

Image eight_bit_gray(const Tensor& luma) {  // [S,S,1]
    Image image = Image::make(luma.shape()[1], luma.shape()[0], 1, 8);
    for (int64_t y = 0; y < image.height; ++y)
        for (int64_t x = 0; x < image.width; ++x)
            image.row<uint8_t>(y)[x] = static_cast<uint8_t>(
                std::lround(255 * std::clamp(luma.data<float>()[y * image.width + x], 0.f, 1.f)));
    return image;
}

// The colours of a network output or target [S/2,S/2,2] in 0..1 on the photo's own luma.
Image coloured(const Image& gray, const Tensor& luma, const Tensor& ab_0_1, double ab_scale) {
    const Tensor ab = ab_0_1.clone();
    for (int64_t i = 0; i < ab.numel(); ++i)
        ab.data<float>()[i] = static_cast<float>(ab_scale) * (2 * ab.data<float>()[i] - 1);
    return merge_luma_chroma(gray, luma, resize(ab, gray.height, gray.width));
}

// As numbers of the CPU, which does not compute in bf16.
Tensor on_cpu(const Tensor& map) {
    return (map.dtype() == DType::bf16 ? map.to(DType::f32) : map).to(Device{});
}

double rms(const Tensor& anywhere) {
    const Tensor values = anywhere.to(Device{});
    double sum = 0;
    dispatch_float(values.dtype(), [&](auto t) {
        for (int64_t i = 0; i < values.numel(); ++i) {
            const auto v = double(values.data<decltype(t)>()[i]);
            sum += v * v;
        }
    });
    return std::sqrt(sum / double(values.numel()));
}

LayerStatistics statistics_of(const std::string& name, const Tensor& map) {
    LayerStatistics layer{.name = name};
    const Tensor value = on_cpu(map);
    const auto count = double(value.numel());
    double square = 0, zeros = 0;
    dispatch_float(value.dtype(), [&](auto t) {
        for (int64_t i = 0; i < value.numel(); ++i) {
            const auto v = double(value.data<decltype(t)>()[i]);
            layer.activation_mean += v / count;
            square += v * v;
            zeros += v == 0;
        }
    });
    layer.activation_std =
        std::sqrt(std::max(0.0, square / count - layer.activation_mean * layer.activation_mean));
    layer.activation_zero = zeros / count;
    return layer;
}

void add_weights(ColorNet& net, std::vector<LayerStatistics>& layers) {
    net.visit([&](const std::string& name, Parameter& p) {
        if (p.value.shape().rank() < 2 || !name.ends_with("weight")) return;
        for (LayerStatistics& layer : layers) {
            if (!name.starts_with(layer.name + ".")) continue;
            layer.weight_rms = rms(p.value);
            layer.gradient_rms =
                p.grad.defined() ? rms(p.grad) : std::numeric_limits<double>::quiet_NaN();
        }
    });
}

Tensor rows(const Tensor& all, int64_t begin, int64_t end) {
    Shape shape = all.shape();
    shape = {end - begin, shape[1], shape[2], shape[3]};
    const Tensor part = Tensor::empty(shape);
    for (int64_t n = begin; n < end; ++n) part.batch(n - begin).copy_from(all.batch(n));
    return part;
}

// The first value of every stage: the low-level stack runs on the photo before it does on the copy.
void observe_layers(ColorNet& net, std::vector<LayerStatistics>& layers) {
    net.observe = [&](const std::string& name, const Var& value) {
        const auto known = [&](const LayerStatistics& layer) { return layer.name == name; };
        if (std::none_of(layers.begin(), layers.end(), known))
            layers.push_back(statistics_of(name, value.value));
    };
}

struct Pictures {
    Image gray, result, truth;
};

// luma [1,S,S,1]; output and target [1,S/2,S/2,2] in 0..1.
Pictures pictures_of(const Tensor& luma, const Tensor& output, const Tensor& target,
                     double ab_scale) {
    const int64_t size = luma.shape()[1];
    const Tensor y = luma.reshape({size, size, 1});
    const Shape half{size / 2, size / 2, 2};
    const Image plain = eight_bit_gray(y);
    return {merge_luma_chroma(plain, y, Tensor::zeros({size, size, 2})),
            coloured(plain, y, output.reshape(half), ab_scale),
            coloured(plain, y, target.reshape(half), ab_scale)};
}

struct PhotoScore {
    ColorQuality quality;
    double gray_rmse_ab = 0, colorfulness_truth = 0;
};

void add_share(ValidationResult& sum, const PhotoScore& score, double share) {
    sum.psnr_rgb += share * score.quality.psnr_rgb;
    sum.rmse_ab += share * score.quality.rmse_ab;
    sum.delta_e2000_mean += share * score.quality.delta_e2000_mean;
    sum.colorfulness += share * score.quality.colorfulness;
    sum.near_gray_fraction += share * score.quality.near_gray_fraction;
    sum.gray_rmse_ab += share * score.gray_rmse_ab;
    sum.colorfulness_truth += share * score.colorfulness_truth;
}

// Which scenes were told right, over all batches.
class SceneTally {
  public:
    explicit SceneTally(const std::vector<std::string>& names) : classes_(names.size()) {
        for (size_t c = 0; c < names.size(); ++c) classes_[c].label = names[c];
    }
    // `loss`: mean cross-entropy over the labelled ones.
    void add(const Tensor& logits, const Labels& labels, double loss) {
        int64_t labelled = 0;
        for (size_t i = 0; i < labels.size(); ++i) {
            if (labels[i] < 0) continue;
            const int64_t count = logits.shape()[1];
            const float* row = logits.data<float>() + static_cast<int64_t>(i) * count;
            const bool right = std::max_element(row, row + count) - row == labels[i];
            ClassAccuracy& known = classes_[static_cast<size_t>(labels[i])];
            ++known.images, ++labelled;
            known.correct += right, correct_ += right;
        }
        labelled_ += labelled;
        loss_ += loss * double(labelled);
    }
    void finish(ValidationResult& result) const {
        const double unknown = std::numeric_limits<double>::quiet_NaN();
        result.class_loss = labelled_ > 0 ? loss_ / double(labelled_) : unknown;
        result.top1 = labelled_ > 0 ? double(correct_) / double(labelled_) : unknown;
        for (const ClassAccuracy& known : classes_)
            if (known.images > 0) result.classes.push_back(known);
    }

  private:
    std::vector<ClassAccuracy> classes_;
    int64_t labelled_ = 0, correct_ = 0;
    double loss_ = 0;
};

}  // namespace

Validation::Validation(const Dataset& data, int64_t count, int64_t size, const Spec& spec)
    : class_names_(data.classes()) {
    count = std::min(count, data.size());
    std::vector<Sample> samples;
    std::string reason = "it is empty";
    for (int64_t i = 0; i < count; ++i) try {
            const Photo photo = data.read(i * data.size() / count);
            Sample sample = centre_crop(photo, size, spec.ab_scale);
            if (sample.near_gray)
                reason = photo.name + ": near gray";
            else
                samples.push_back(std::move(sample));
        } catch (const InputError& error) {
            reason = error.what();
        }
    if (samples.empty()) throw InputError("validation: no usable photo: " + reason);
    const auto n = static_cast<int64_t>(samples.size());
    luma_ = Tensor::empty({n, size, size, 1});
    ab_ = Tensor::empty({n, size / 2, size / 2, 2});
    for (int64_t i = 0; i < n; ++i) {
        luma_.batch(i).copy_from(samples[size_t(i)].luma);
        ab_.batch(i).copy_from(samples[size_t(i)].ab);
        labels_.push_back(spec.class_names.empty() ? -1 : samples[size_t(i)].label);
    }
}

ValidationResult Validation::run(ColorNet& net, const Exec& exec, int64_t batch) const {
    ValidationResult result;
    result.images = images();
    std::vector<PhotoScore> scores(static_cast<size_t>(images()));
    std::vector<std::vector<Image>> tiles(std::min(static_cast<size_t>(kSamples), scores.size()));
    SceneTally scenes(class_names_);
    for (int64_t begin = 0; begin < images(); begin += batch) {
        const int64_t end = std::min(images(), begin + batch);
        if (begin == 0) observe_layers(net, result.layers);
        Tape tape(Phase::eval, exec);
        const NetInput in = net_input(tape, net, rows(luma_, begin, end));
        const ColorNet::Output output = net(in.x, in.copy);
        net.observe = {};
        const Labels labels(labels_.begin() + begin, labels_.begin() + end);
        const Tensor target = rows(ab_, begin, end);
        const JointLoss loss(output, target.to(output.color.value.dtype()).to(exec.device), labels,
                             {.alpha = 0});
        result.color_loss += loss.color.value.item() * double(end - begin) / double(images());
        if (output.logits)
            scenes.add(output.logits->value.to(DType::f32).to(Device{}), labels,
                       loss.classes->value.item());
        const Tensor color = output.color.value.to(DType::f32).to(Device{});
        parallel_for(exec, end - begin, [&](int64_t i) {
            const auto at = static_cast<size_t>(begin + i);
            const Pictures pictures = pictures_of(luma_.batch(begin + i), color.batch(i),
                                                  target.batch(i), net.spec.ab_scale);
            scores[at] = {compare(pictures.result, pictures.truth),
                          compare(pictures.gray, pictures.truth).rmse_ab,
                          colorfulness(pictures.truth)};
            if (at < tiles.size()) tiles[at] = {pictures.gray, pictures.result, pictures.truth};
        });
    }
    for (const PhotoScore& score : scores) add_share(result, score, 1.0 / double(images()));
    scenes.finish(result);
    add_weights(net, result.layers);
    result.samples = contact_sheet(tiles, kSampleColumns, std::min(kSampleSide, luma_.shape()[1]));
    return result;
}

}  // namespace lumachrome
