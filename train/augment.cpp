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

Sample augment(const Photo& photo, const AugmentSpec& spec, uint64_t seed, uint32_t epoch,
               uint32_t index) {
    check(spec);
    const Image& image = photo.image;
    Random random(seed, Random::Purpose::augment, epoch, index);
    const auto shorter = static_cast<double>(std::min(image.width, image.height));
    const double share = random.uniform(spec.min_scale, 1);
    const int64_t side = std::max<int64_t>(1, std::llround(share * shorter));
    const int64_t top = random.below(image.height - side + 1);
    const int64_t left = random.below(image.width - side + 1);
    const bool mirror = random.below(2) == 1 && spec.flip;
    Sample sample =
        make_sample(cut(image, top, left, side, mirror), spec.size, photo.label, spec.ab_scale);
    if (spec.luma_jitter > 0) {
        const auto contrast = static_cast<float>(1 + random.uniform(-1, 1) * spec.luma_jitter);
        const auto shift = static_cast<float>(0.5 + random.uniform(-0.5, 0.5) * spec.luma_jitter);
        float* gray = sample.luma.data<float>();
        for (int64_t i = 0; i < sample.luma.numel(); ++i)
            gray[i] = std::clamp((gray[i] - 0.5f) * contrast + shift, 0.0f, 1.0f);
    }
    return sample;
}

Sample centre_crop(const Photo& photo, int64_t size) {
    check({.size = size});
    const Image& image = photo.image;
    const int64_t side = std::min(image.width, image.height);
    const Image square =
        cut(image, (image.height - side) / 2, (image.width - side) / 2, side, false);
    return make_sample(square, size, photo.label, AugmentSpec{}.ab_scale);
}

}  // namespace lumachrome
