#include "train/evaluate.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "image/color.hpp"
#include "tensor/error.hpp"
#include "train/augment.hpp"

namespace lumachrome {
namespace {

Image eight_bit_rgb(const Image& image) {
    Image out = Image::make(image.width, image.height, 3, 8);
    for (int64_t y = 0; y < image.height; ++y)
        for (int64_t x = 0; x < image.width; ++x)
            for (int c = 0; c < 3; ++c) {
                const int64_t i = x * image.channels + (image.gray() ? 0 : c);
                out.row<uint8_t>(y)[x * 3 + c] =
                    image.bits == 8 ? image.row<uint8_t>(y)[i]
                                    : static_cast<uint8_t>((image.row<uint16_t>(y)[i] + 128) / 257);
            }
    return out;
}

void add(ColorQuality& sum, const ColorQuality& one) {
    sum.psnr_rgb += one.psnr_rgb;
    sum.rmse_ab += one.rmse_ab;
    sum.delta_e2000_mean += one.delta_e2000_mean;
    sum.colorfulness += one.colorfulness;
    sum.near_gray_fraction += one.near_gray_fraction;
}

void divide(ColorQuality& sum, double count) {
    sum.psnr_rgb /= count;
    sum.rmse_ab /= count;
    sum.delta_e2000_mean /= count;
    sum.colorfulness /= count;
    sum.near_gray_fraction /= count;
}

}  // namespace

ColorQuality compare(const Image& result, const Image& truth) {
    if (result.width != truth.width || result.height != truth.height)
        throw ShapeError("compare: photos of different sizes");
    const Image ours = eight_bit_rgb(result), theirs = eight_bit_rgb(truth);
    double rgb_error = 0, ab_error = 0, delta = 0;
    double sum_a = 0, sum_b = 0, square_a = 0, square_b = 0;
    const double pixels = double(truth.width * truth.height);
    for (int64_t i = 0; i < truth.width * truth.height; ++i) {
        const uint8_t *p = &ours.bytes[size_t(i) * 3], *t = &theirs.bytes[size_t(i) * 3];
        for (int c = 0; c < 3; ++c) rgb_error += (p[c] - t[c]) * (p[c] - t[c]);
        const Lab ours_lab = srgb_to_lab({p[0] / 255.0, p[1] / 255.0, p[2] / 255.0});
        const Lab true_lab = srgb_to_lab({t[0] / 255.0, t[1] / 255.0, t[2] / 255.0});
        const double da = ours_lab.a - true_lab.a, db = ours_lab.b - true_lab.b;
        ab_error += da * da + db * db;
        delta += delta_e2000(ours_lab, true_lab);
        sum_a += ours_lab.a, square_a += ours_lab.a * ours_lab.a;
        sum_b += ours_lab.b, square_b += ours_lab.b * ours_lab.b;
    }
    const auto deviation = [&](double sum, double square) {
        return std::sqrt(std::max(0.0, square / pixels - sum / pixels * sum / pixels));
    };
    ColorQuality quality;
    // An exact result has no finite PSNR; 100 dB stands for it.
    quality.psnr_rgb =
        std::min(100.0, 10 * std::log10(255.0 * 255 * 3 * pixels / std::max(rgb_error, 1e-9)));
    quality.rmse_ab = std::sqrt(ab_error / (2 * pixels));
    quality.delta_e2000_mean = delta / pixels;
    quality.colorfulness = colorfulness(ours);
    quality.near_gray_fraction =
        deviation(sum_a, square_a) + deviation(sum_b, square_b) < kNearGray;
    return quality;
}

Evaluation evaluate(Colorizer& colorizer, const Dataset& data, int64_t limit,
                    const ColorizeSettings& settings,
                    const std::function<void(int64_t, int64_t)>& progress) {
    Evaluation total;
    total.images = limit > 0 ? std::min(limit, data.size()) : data.size();
    if (total.images == 0) throw InputError("evaluate: the data hold no photo");
    int64_t labelled = 0, first = 0, among_five = 0;
    for (int64_t i = 0; i < total.images; ++i) {
        const Photo photo = data.read(i);
        if (photo.image.gray())
            throw InputError(photo.name + ": is gray, its colours are not known");
        const Colorized result = colorizer.colorize(photo.image, settings);
        add(total, compare(result.image, photo.image));
        const Tensor gray = luma(photo.image);
        const Tensor no_chroma = Tensor::zeros({photo.image.height, photo.image.width, 2});
        add(total.gray_baseline,
            compare(merge_luma_chroma(photo.image, gray, no_chroma), photo.image));
        total.colorfulness_truth += colorfulness(eight_bit_rgb(photo.image));
        if (photo.label >= 0 && !result.scene.empty()) {
            const std::string& truth = data.classes()[static_cast<size_t>(photo.label)];
            const auto end = result.scene.begin() + std::min<int64_t>(5, std::ssize(result.scene));
            const auto found = std::find_if(result.scene.begin(), end,
                                            [&](const SceneScore& s) { return s.label == truth; });
            ++labelled;
            first += found == result.scene.begin();
            among_five += found != end;
        }
        if (progress) progress(i + 1, total.images);
    }
    const double count = double(total.images);
    divide(total, count);
    divide(total.gray_baseline, count);
    total.colorfulness_truth /= count;
    const double unknown = std::numeric_limits<double>::quiet_NaN();
    total.top1 = labelled > 0 ? double(first) / double(labelled) : unknown;
    total.top5 = labelled > 0 ? double(among_five) / double(labelled) : unknown;
    return total;
}

}  // namespace lumachrome
