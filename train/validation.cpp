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

double rms(const Tensor& values) {
    double sum = 0;
    dispatch_float(values.dtype(), [&](auto t) {
        for (int64_t i = 0; i < values.numel(); ++i) {
            const auto v = double(values.data<decltype(t)>()[i]);
            sum += v * v;
        }
    });
    return std::sqrt(sum / double(values.numel()));
}

LayerStatistics statistics_of(const std::string& name, const Tensor& value) {
    LayerStatistics layer{.name = name};
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

}  // namespace

Validation::Validation(const Dataset& data, int64_t count, int64_t size)
    : class_names_(data.classes()) {
    count = std::min(count, data.size());
    std::vector<Sample> samples;
    std::string reason = "it is empty";
    for (int64_t i = 0; i < count; ++i) try {
            const Photo photo = data.read(i * data.size() / count);
            Sample sample = centre_crop(photo, size);
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
        labels_.push_back(samples[size_t(i)].label);
    }
}

ValidationResult Validation::run(ColorNet& net, const Exec& exec, int64_t batch) const {
    ValidationResult result;
    result.images = images();
    std::vector<ClassAccuracy> classes(class_names_.size());
    const auto n = static_cast<size_t>(images());
    std::vector<std::vector<Image>> tiles(std::min<size_t>(kSamples, n));
    std::vector<ColorQuality> ours(n), gray(n);
    std::vector<double> truth(n);
    int64_t labelled = 0, correct = 0;
    const int64_t size = luma_.shape()[1];
    for (int64_t begin = 0; begin < images(); begin += batch) {
        const int64_t end = std::min(images(), begin + batch);
        if (begin == 0)
            net.observe = [&](const std::string& name, const Var& value) {
                const auto known = [&](const LayerStatistics& l) { return l.name == name; };
                if (std::none_of(result.layers.begin(), result.layers.end(), known))
                    result.layers.push_back(statistics_of(name, value.value));
            };
        Tape tape(Phase::eval, exec);
        const NetInput in = net_input(tape, net, rows(luma_, begin, end));
        const ColorNet::Output output = net(in.x, in.copy);
        net.observe = {};
        const Labels labels(labels_.begin() + begin, labels_.begin() + end);
        const Tensor target = rows(ab_, begin, end);
        const JointLoss loss(output, target.to(output.color.value.dtype()), labels, 0);
        result.color_loss += loss.color.value.item() * double(end - begin) / double(images());
        const Tensor color = output.color.value.to(DType::f32);
        parallel_for(exec, end - begin, [&](int64_t i) {
            const auto at = size_t(begin + i);
            const Tensor y = luma_.batch(begin + i).reshape({size, size, 1});
            const auto half = [&](const Tensor& t) {
                return t.batch(i).reshape({size / 2, size / 2, 2});
            };
            const Image plain = eight_bit_gray(y);
            const Image result_image = coloured(plain, y, half(color), net.spec.ab_scale);
            const Image truth_image = coloured(plain, y, half(target), net.spec.ab_scale);
            const Image gray_image = merge_luma_chroma(plain, y, Tensor::zeros({size, size, 2}));
            ours[at] = compare(result_image, truth_image);
            gray[at] = compare(gray_image, truth_image);
            truth[at] = colorfulness(truth_image);
            if (at < tiles.size()) tiles[at] = {gray_image, result_image, truth_image};
        });
        if (!output.logits) continue;
        const Tensor logits = output.logits->value.to(DType::f32);
        const int64_t labelled_before = labelled;
        for (size_t i = 0; i < labels.size(); ++i) {
            if (labels[i] < 0) continue;
            const float* row = logits.data<float>() + int64_t(i) * logits.shape()[1];
            const bool hit = std::max_element(row, row + logits.shape()[1]) - row == labels[i];
            ClassAccuracy& known = classes[size_t(labels[i])];
            ++known.images, ++labelled;
            known.correct += hit, correct += hit;
        }
        result.class_loss += loss.classes->value.item() * double(labelled - labelled_before);
    }
    for (size_t i = 0; i < n; ++i) {
        result.psnr_rgb += ours[i].psnr_rgb / double(n);
        result.rmse_ab += ours[i].rmse_ab / double(n);
        result.delta_e2000_mean += ours[i].delta_e2000_mean / double(n);
        result.colorfulness += ours[i].colorfulness / double(n);
        result.near_gray_fraction += ours[i].near_gray_fraction / double(n);
        result.gray_rmse_ab += gray[i].rmse_ab / double(n);
        result.colorfulness_truth += truth[i] / double(n);
    }
    const double unknown = std::numeric_limits<double>::quiet_NaN();
    result.class_loss = labelled > 0 ? result.class_loss / double(labelled) : unknown;
    result.top1 = labelled > 0 ? double(correct) / double(labelled) : unknown;
    for (size_t c = 0; c < classes.size(); ++c)
        if (classes[c].images > 0) {
            classes[c].label = class_names_[c];
            result.classes.push_back(classes[c]);
        }
    add_weights(net, result.layers);
    result.samples = contact_sheet(tiles, kSampleColumns, size);
    return result;
}

}  // namespace lumachrome
