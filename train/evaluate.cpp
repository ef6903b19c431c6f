#include "train/evaluate.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <span>

#include "image/color.hpp"
#include "tensor/error.hpp"
#include "train/augment.hpp"

namespace lumachrome {
namespace {

// Pixels at a time, and pixels for one thread: whatever the photo's size, buffers stay in the
// cache, and a photo of 128 x 128 still feeds eight threads.
constexpr int64_t kBand = 1 << 16, kChunk = 2048;

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

Lab lab_of(const uint8_t* rgb) {
    static const std::array<double, 256> linear = [] {
        std::array<double, 256> values{};
        for (size_t i = 0; i < values.size(); ++i) values[i] = srgb_to_linear(double(i) / 255.0);
        return values;
    }();
    return xyz_to_lab(linear_rgb_to_xyz({linear[rgb[0]], linear[rgb[1]], linear[rgb[2]]}));
}

// Of one result, over the pixels seen so far.
struct PixelSums {
    double rgb_error = 0, ab_error = 0, delta = 0;
    double a = 0, b = 0, square_a = 0, square_b = 0;

    void add(const uint8_t* p, const uint8_t* t, const Lab& ours, const Lab& truth,
             double delta_e) {
        for (int c = 0; c < 3; ++c) rgb_error += (p[c] - t[c]) * (p[c] - t[c]);
        const double da = ours.a - truth.a, db = ours.b - truth.b;
        ab_error += da * da + db * db;
        delta += delta_e;
        a += ours.a, square_a += ours.a * ours.a;
        b += ours.b, square_b += ours.b * ours.b;
    }
    ColorQuality quality(double pixels) const {
        const auto deviation = [&](double sum, double square) {
            return std::sqrt(std::max(0.0, square / pixels - sum / pixels * sum / pixels));
        };
        ColorQuality quality;
        // An exact result has no finite PSNR; 100 dB stands for it.
        quality.psnr_rgb =
            std::min(100.0, 10 * std::log10(255.0 * 255 * 3 * pixels / std::max(rgb_error, 1e-9)));
        quality.rmse_ab = std::sqrt(ab_error / (2 * pixels));
        quality.delta_e2000_mean = delta / pixels;
        quality.near_gray_fraction = deviation(a, square_a) + deviation(b, square_b) < kNearGray;
        return quality;
    }
};

// Several results against one truth, all 8-bit RGB: the truth's Lab is computed once. Threads
// share the pixels; the sums run over them in order, so they have the same bits for any number.
std::vector<ColorQuality> compare_each(const Exec& exec, std::span<const Image> results,
                                       const Image& truth) {
    for (const Image& result : results)
        if (result.width != truth.width || result.height != truth.height)
            throw ShapeError("compare: photos of different sizes");
    const int64_t pixels = truth.width * truth.height;
    struct Pixel {
        Lab lab;
        double delta_e;
    };
    const auto band = static_cast<size_t>(std::min(kBand, pixels));
    std::vector<Lab> true_lab(band);
    std::vector<std::vector<Pixel>> ours(results.size(), std::vector<Pixel>(band));
    std::vector<PixelSums> sums(results.size());
    for (int64_t start = 0; start < pixels; start += kBand) {
        const int64_t count = std::min(kBand, pixels - start);
        const uint8_t* t = &truth.bytes[size_t(start) * 3];
        parallel_chunks(
            exec, count,
            [&](int64_t begin, int64_t end) {
                for (int64_t i = begin; i < end; ++i) true_lab[size_t(i)] = lab_of(t + i * 3);
                for (size_t r = 0; r < results.size(); ++r)
                    for (int64_t i = begin; i < end; ++i) {
                        const Lab lab = lab_of(&results[r].bytes[size_t(start + i) * 3]);
                        ours[r][size_t(i)] = {lab, delta_e2000(lab, true_lab[size_t(i)])};
                    }
            },
            kChunk);
        for (size_t r = 0; r < results.size(); ++r)
            for (int64_t i = 0; i < count; ++i) {
                const auto& [lab, delta_e] = ours[r][size_t(i)];
                sums[r].add(&results[r].bytes[size_t(start + i) * 3], t + i * 3, lab,
                            true_lab[size_t(i)], delta_e);
            }
    }
    std::vector<ColorQuality> qualities;
    for (size_t r = 0; r < results.size(); ++r) {
        qualities.push_back(sums[r].quality(double(pixels)));
        qualities.back().colorfulness = colorfulness(results[r]);
    }
    return qualities;
}

// The figures as data: a sum over photos, one it is divided by, and what is better.
enum class Preferred { not_compared, higher, lower, nearer_truth };

using Term = double (*)(const PhotoQuality&);

template <class Group>
struct Rule {
    const char* figure;
    double Group::*field;
    Term above, below;
    Preferred preferred = Preferred::not_compared;
};

template <double ColorQuality::*kField>
double ours(const PhotoQuality& photo) {
    return photo.result.*kField;
}
template <double ColorQuality::*kField>
double gray(const PhotoQuality& photo) {
    return photo.gray.*kField;
}
double truth(const PhotoQuality& photo) {
    return photo.colorfulness_truth;
}
template <int kFirst>
double among(const PhotoQuality& photo) {
    return photo.rank >= 0 && photo.rank < kFirst;
}
double judged(const PhotoQuality& photo) {
    return photo.rank >= 0;
}
double one(const PhotoQuality&) {
    return 1;
}

using Q = ColorQuality;
using G = GroupQuality;

constexpr Rule<G> kColorfulnessShare = {"colorfulness_share", &G::colorfulness_share,
                                        ours<&Q::colorfulness>, truth, Preferred::nearer_truth};
constexpr Rule<G> kRules[] = {
    {"psnr_rgb", &G::psnr_rgb, ours<&Q::psnr_rgb>, one, Preferred::higher},
    {"rmse_ab", &G::rmse_ab, ours<&Q::rmse_ab>, one, Preferred::lower},
    {"delta_e2000_mean", &G::delta_e2000_mean, ours<&Q::delta_e2000_mean>, one, Preferred::lower},
    {"colorfulness", &G::colorfulness, ours<&Q::colorfulness>, one, Preferred::nearer_truth},
    {"near_gray_fraction", &G::near_gray_fraction, ours<&Q::near_gray_fraction>, one,
     Preferred::lower},
    {"colorfulness_truth", &G::colorfulness_truth, truth, one},
    {"top1", &G::top1, among<1>, judged, Preferred::higher},
    {"top5", &G::top5, among<5>, judged, Preferred::higher},
    {"rmse_ab_share", &G::rmse_ab_share, ours<&Q::rmse_ab>, gray<&Q::rmse_ab>, Preferred::lower},
    kColorfulnessShare,
};
constexpr Rule<Q> kGrayRules[] = {
    {"psnr_rgb", &Q::psnr_rgb, gray<&Q::psnr_rgb>, one},
    {"rmse_ab", &Q::rmse_ab, gray<&Q::rmse_ab>, one},
    {"delta_e2000_mean", &Q::delta_e2000_mean, gray<&Q::delta_e2000_mean>, one},
    {"colorfulness", &Q::colorfulness, gray<&Q::colorfulness>, one},
    {"near_gray_fraction", &Q::near_gray_fraction, gray<&Q::near_gray_fraction>, one},
};

template <class Group>
Ratio ratio(const Rule<Group>& rule, std::span<const PhotoQuality> photos) {
    Ratio result;
    for (const PhotoQuality& photo : photos) {
        result.above.push_back(rule.above(photo));
        result.below.push_back(rule.below(photo));
    }
    return result;
}

template <class Group>
std::vector<Estimate> estimate(const Exec& exec, std::span<const Rule<Group>> rules,
                               std::span<const PhotoQuality> photos, Group& group) {
    std::vector<Ratio> ratios;
    for (const auto& rule : rules) ratios.push_back(ratio(rule, photos));
    std::vector<std::vector<double>> values = resample(exec, ratios);
    std::vector<Estimate> estimates;
    for (size_t f = 0; f < rules.size(); ++f) {
        group.*rules[f].field = ratios[f].value();
        estimates.push_back({rules[f].figure, ratios[f].value(), middle(std::move(values[f]))});
    }
    return estimates;
}

GroupQuality summary(const Exec& exec, std::span<const PhotoQuality> photos) {
    GroupQuality group;
    group.images = std::ssize(photos);
    group.figures = estimate<GroupQuality>(exec, kRules, photos, group);
    group.gray_figures = estimate<ColorQuality>(exec, kGrayRules, photos, group.gray_baseline);
    return group;
}

// The interval of b - a, where a value is what `of` makes of a figure.
template <class Of>
Interval difference(const std::vector<double>& a, const std::vector<double>& b, const Of& of) {
    std::vector<double> differences;
    for (size_t r = 0; r < a.size(); ++r) differences.push_back(of(b[r]) - of(a[r]));
    return middle(std::move(differences));
}

// Throws InputError for a photo that is corrupt or gray.
Photo in_colour(const Dataset& data, int64_t index) {
    Photo photo = data.read(index);
    if (photo.image.gray()) throw InputError(photo.name + ": is gray, its colours are not known");
    return photo;
}

Better verdict(const Interval& interval, bool higher_is_better) {
    if (interval.low > 0) return higher_is_better ? Better::b : Better::a;
    if (interval.high < 0) return higher_is_better ? Better::a : Better::b;
    return Better::neither;
}

}  // namespace

ColorQuality compare(const Image& result, const Image& truth, const Exec& exec) {
    const Image ours[] = {eight_bit_rgb(result)};
    return compare_each(exec, ours, eight_bit_rgb(truth)).front();
}

bool judges_scenes(const Spec& spec, const Dataset& data) {
    return std::all_of(data.classes().begin(), data.classes().end(), [&](const std::string& name) {
        return std::find(spec.class_names.begin(), spec.class_names.end(), name) !=
               spec.class_names.end();
    });
}

Evaluation evaluate(Colorizer& colorizer, const Dataset& data, int64_t limit,
                    const ColorizeSettings& settings,
                    const std::function<void(int64_t, int64_t)>& progress) {
    const int64_t images = limit > 0 ? std::min(limit, data.size()) : data.size();
    if (images == 0) throw InputError("evaluate: the data hold no photo");
    const Exec& exec = colorizer.exec();
    const bool judges = judges_scenes(colorizer.spec(), data);
    std::vector<PhotoQuality> photos;
    std::vector<std::string> skipped;
    for (int64_t i = 0; i < images; ++i) {
        Photo photo;
        try {
            photo = in_colour(data, i);
        } catch (const InputError& error) {
            skipped.emplace_back(error.what());
            if (progress) progress(i + 1, images);
            continue;
        }
        const Colorized result = colorizer.colorize(photo.image, settings);
        const Tensor no_chroma = Tensor::zeros({photo.image.height, photo.image.width, 2});
        const Image uncoloured = merge_luma_chroma(photo.image, luma(photo.image), no_chroma);
        const Image results[] = {eight_bit_rgb(result.image), eight_bit_rgb(uncoloured)};
        const Image truth = eight_bit_rgb(photo.image);
        const std::vector<ColorQuality> qualities = compare_each(exec, results, truth);

        PhotoQuality& quality = photos.emplace_back();
        quality.name = std::move(photo.name);
        quality.index = i;
        quality.label = photo.label;
        quality.result = qualities[0];
        quality.gray = qualities[1];
        quality.colorfulness_truth = colorfulness(truth);
        if (judges && photo.label >= 0) {
            const std::string& scene = data.classes()[static_cast<size_t>(photo.label)];
            const auto found =
                std::find_if(result.scene.begin(), result.scene.end(),
                             [&](const SceneScore& score) { return score.label == scene; });
            if (found != result.scene.end()) quality.rank = found - result.scene.begin();
        }
        if (progress) progress(i + 1, images);
    }

    if (photos.empty())
        throw InputError("evaluate: no photo can be measured; the first: " + skipped.front());

    Evaluation evaluation;
    static_cast<GroupQuality&>(evaluation) = summary(exec, photos);
    std::map<int64_t, std::vector<PhotoQuality>> by_label;
    for (const PhotoQuality& photo : photos)
        if (photo.label >= 0) by_label[photo.label].push_back(photo);
    for (const auto& [label, members] : by_label)
        evaluation.classes.push_back(
            {summary(exec, members), data.classes()[static_cast<size_t>(label)]});
    evaluation.photos = std::move(photos);
    evaluation.skipped = std::move(skipped);
    return evaluation;
}

std::vector<Difference> paired_differences(const Evaluation& a, const Evaluation& b,
                                           const Exec& exec) {
    const auto same = [](const PhotoQuality& x, const PhotoQuality& y) { return x.name == y.name; };
    if (!std::equal(a.photos.begin(), a.photos.end(), b.photos.begin(), b.photos.end(), same))
        throw UsageError("a comparison needs two evaluations of the same photos");
    std::vector<Rule<GroupQuality>> rules;
    for (const auto& rule : kRules)
        if (rule.preferred != Preferred::not_compared) rules.push_back(rule);
    std::vector<Ratio> of_a, of_b;
    for (const auto& rule : rules) {
        of_a.push_back(ratio(rule, a.photos));
        of_b.push_back(ratio(rule, b.photos));
    }
    const auto values_a = resample(exec, of_a), values_b = resample(exec, of_b);
    // Which is nearer to the truth's colorfulness, resample by resample.
    const Ratio shares[] = {ratio(kColorfulnessShare, a.photos),
                            ratio(kColorfulnessShare, b.photos)};
    const auto values_share = resample(exec, shares);
    const Interval farther = difference(values_share[0], values_share[1],
                                        [](double value) { return std::abs(value - 1); });
    std::vector<Difference> differences;
    for (size_t f = 0; f < rules.size(); ++f) {
        const Interval interval =
            difference(values_a[f], values_b[f], [](double value) { return value; });
        const Preferred preferred = rules[f].preferred;
        const Better better = preferred == Preferred::nearer_truth
                                  ? verdict(farther, false)
                                  : verdict(interval, preferred == Preferred::higher);
        differences.push_back(
            {rules[f].figure, of_b[f].value() - of_a[f].value(), interval, better});
    }
    return differences;
}

}  // namespace lumachrome
