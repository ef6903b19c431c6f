#include "train/augment.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "image/color.hpp"
#include "image/resize.hpp"
#include "tensor/error.hpp"
#include "tensor/random.hpp"

namespace lumachrome {
namespace {

// Pixels as they are stored, so that colour is only computed for what is used.
Image cut(const Image& image, int64_t top, int64_t left, int64_t side, bool mirror) {
    Image square = Image::make(side, side, image.channels, image.bits);
    const int64_t pixel = image.pixel_bytes();
    for (int64_t y = 0; y < side; ++y) {
        const uint8_t* from = image.row<uint8_t>(top + y) + left * pixel;
        uint8_t* to = square.row<uint8_t>(y);
        if (!mirror) {
            std::copy_n(from, side * pixel, to);
            continue;
        }
        for (int64_t x = 0; x < side; ++x)
            for (int64_t i = 0; i < pixel; ++i)
                to[(side - 1 - x) * pixel + i] = from[x * pixel + i];
    }
    return square;
}

// Maps ab [S/2,S/2,2] from Lab units to the target's range, in place; tells whether it is near
// gray.
bool to_target(const Tensor& ab, double scale) {
    float* values = ab.data<float>();
    const int64_t pixels = ab.numel() / 2;
    double sum[2] = {}, squares[2] = {};
    for (int64_t i = 0; i < 2 * pixels; ++i) {
        const double lab = std::clamp(double(values[i]), -scale, scale);
        sum[i % 2] += lab, squares[i % 2] += lab * lab;
        values[i] = static_cast<float>(lab / (2 * scale) + 0.5);
    }
    const auto n = static_cast<double>(pixels);
    double spread = 0;
    for (int c = 0; c < 2; ++c)
        spread += std::sqrt(std::max(0.0, squares[c] / n - sum[c] / n * (sum[c] / n)));
    return spread < kNearGray;
}

Sample make_sample(const Image& square, int64_t size, int64_t label, double ab_scale) {
    Sample sample;
    const Tensor gray = resize(luma(square), size, size);
    const Tensor ab = resize(lab_ab(square), size / 2, size / 2);
    sample.near_gray = to_target(ab, ab_scale);
    sample.luma = gray.reshape({1, size, size, 1});
    sample.ab = ab.reshape({1, size / 2, size / 2, 2});
    sample.label = label;
    return sample;
}

Crop centre_of(const ImageHeader& photo) {
    const int64_t side = std::min(photo.width, photo.height);
    return {.top = (photo.height - side) / 2, .left = (photo.width - side) / 2, .side = side};
}

// Rows top..bottom-1 as [rows,W,3] f32, 0..255.
Tensor rgb_rows(const Image& image, int64_t top, int64_t bottom) {
    Tensor rows = Tensor::empty({bottom - top, image.width, 3});
    float* out = rows.data<float>();
    const int64_t step = image.channels, green = image.gray() ? 0 : 1, blue = 2 * green;
    const auto convert = [&](const auto* in, float scale) {
        for (int64_t x = 0; x < image.width; ++x, in += step, out += 3)
            out[0] = in[0] * scale, out[1] = in[green] * scale, out[2] = in[blue] * scale;
    };
    for (int64_t y = top; y < bottom; ++y)
        if (image.bits == 8)
            convert(image.row<uint8_t>(y), 1.0f);
        else
            convert(image.row<uint16_t>(y), 1 / 257.0f);  // 65535 / 255
    return rows;
}

}  // namespace

void check(const AugmentSpec& spec) {
    if (spec.size < 2 || spec.size % 2 != 0)
        throw UsageError("augment: the size must be even and positive, not " +
                         std::to_string(spec.size));
    if (!(spec.min_scale > 0 && spec.min_scale <= 1))
        throw UsageError("augment: min_scale must be in (0, 1], not " +
                         std::to_string(spec.min_scale));
    if (!(spec.luma_jitter >= 0 && spec.luma_jitter < 1))
        throw UsageError("augment: luma_jitter must be in [0, 1), not " +
                         std::to_string(spec.luma_jitter));
}

Image shrink(const Image& image, int64_t shorter) {
    if (shorter < 1)
        throw UsageError("shrink: the shorter side must be at least 1, not " +
                         std::to_string(shorter));
    const int64_t side = std::min(image.width, image.height);
    const double scale = side > shorter ? double(side) / double(shorter) : 1;
    const auto scaled = [&](int64_t length) {
        return std::max<int64_t>(1, std::llround(double(length) / scale));
    };
    Image result = Image::make(scaled(image.width), scaled(image.height), 3, 8);
    // In bands, so that a large photo is never held as floats.
    constexpr int64_t kBand = 8;
    const double step = double(image.height) / double(result.height);
    for (int64_t begin = 0; begin < result.height; begin += kBand) {
        const int64_t end = std::min(begin + kBand, result.height);
        const double low = double(begin) * step,
                     high = std::min(double(end) * step, double(image.height));
        const auto top = static_cast<int64_t>(low);
        const Tensor rows =
            rgb_rows(image, top, std::min(static_cast<int64_t>(std::ceil(high)), image.height));
        const Box box{low - double(top), 0, high - low, double(image.width)};
        const Tensor band = resize_crop(rows, box, end - begin, result.width);
        const float* from = band.data<float>();
        std::transform(from, from + band.numel(), result.row<uint8_t>(begin),
                       [](float v) { return static_cast<uint8_t>(v + 0.5f); });
    }
    return result;
}

int64_t working_side(const AugmentSpec& spec) {
    constexpr double kLeast = 160, kMost = 1e9;
    const double share = spec.centre ? 1 : spec.min_scale;
    return std::llround(std::clamp(2 * double(spec.size) / share, kLeast, kMost));
}

Photo working_copy(Photo photo, const AugmentSpec& spec) {
    const int64_t side = working_side(spec);
    if (std::min(photo.image.width, photo.image.height) > side)
        photo.image = shrink(photo.image, side);
    photo.image.metadata = {};
    photo.image.icc.clear();
    photo.image.icc.shrink_to_fit();
    return photo;
}

Crop draw_crop(const ImageHeader& photo, const AugmentSpec& spec, uint64_t seed, uint32_t epoch,
               uint32_t index) {
    check(spec);
    if (spec.centre) return centre_of(photo);
    Random random(seed, Random::Purpose::augment, epoch, index);
    const auto shorter = static_cast<double>(std::min(photo.width, photo.height));
    const double share = random.uniform(spec.min_scale, 1);
    Crop crop;
    crop.side = std::max<int64_t>(1, std::llround(share * shorter));
    crop.top = random.below(photo.height - crop.side + 1);
    crop.left = random.below(photo.width - crop.side + 1);
    crop.mirror = random.below(2) == 1 && spec.flip;
    crop.jitter = spec.luma_jitter > 0;
    if (crop.jitter) {
        crop.contrast = static_cast<float>(1 + random.uniform(-1, 1) * spec.luma_jitter);
        crop.brightness = static_cast<float>(0.5 + random.uniform(-0.5, 0.5) * spec.luma_jitter);
    }
    return crop;
}

Sample augment(const Photo& photo, const AugmentSpec& spec, const Crop& crop) {
    const Image square = cut(photo.image, crop.top, crop.left, crop.side, crop.mirror);
    Sample sample = make_sample(square, spec.size, photo.label, spec.ab_scale);
    if (crop.jitter) {
        float* gray = sample.luma.data<float>();
        for (int64_t i = 0; i < sample.luma.numel(); ++i)
            gray[i] = std::clamp((gray[i] - 0.5f) * crop.contrast + crop.brightness, 0.0f, 1.0f);
    }
    return sample;
}

Sample augment(const Photo& photo, const AugmentSpec& spec, uint64_t seed, uint32_t epoch,
               uint32_t index) {
    return augment(photo, spec, draw_crop(photo.image, spec, seed, epoch, index));
}

Sample centre_crop(const Photo& photo, int64_t size, double ab_scale) {
    const AugmentSpec spec{.size = size, .ab_scale = ab_scale, .centre = true};
    check(spec);
    return augment(photo, spec, centre_of(photo.image));
}

}  // namespace lumachrome
