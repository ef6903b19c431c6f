// The fixed protocol on held-out colour photos: each whole photo is reduced to its luma, colorized
// at --size auto, brought back to full size as 8-bit sRGB, and compared with the truth. Figures are
// computed per photo and averaged over photos.
//
//   psnr_rgb            10 log10(255^2 / mean squared error of R, G, B), dB
//   rmse_ab             root of the mean squared error of a and b (CIE Lab units, D65)
//   delta_e2000_mean    mean CIEDE2000 over pixels
//   colorfulness        Hasler and Suesstrunk 2003; colorfulness_truth: that of the photos
//   near_gray_fraction  share of photos whose std(a) + std(b) is under 6 Lab units
//   top1, top5          share of labelled photos whose scene is first, among the first five
//   rmse_ab_share       rmse_ab over that of the gray photos: 1 is no better than gray
//   colorfulness_share  colorfulness over colorfulness_truth: below 1 is too cautious
//
// Each comes with an interval over the choice of photos (bootstrap.hpp). The shares are quotients
// of means, not means of quotients: a photo that is nearly gray has no weight in them.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "model/colorizer.hpp"
#include "train/bootstrap.hpp"
#include "train/dataset.hpp"

namespace lumachrome {

struct ColorQuality {
    double psnr_rgb = 0, rmse_ab = 0, delta_e2000_mean = 0, colorfulness = 0,
           near_gray_fraction = 0;
};

struct PhotoQuality {
    std::string name;
    int64_t index = 0;          // in the dataset
    int64_t label = -1;         // into the dataset's classes, -1 unlabeled
    ColorQuality result, gray;  // gray: the uncoloured photo
    double colorfulness_truth = 0;
    int64_t rank = -1;  // of the true scene among the model's, 0 first; -1 where it is not judged
};

struct Estimate {
    std::string figure;  // its name above
    double value;
    Interval interval;
};

struct GroupQuality : ColorQuality {  // of a set of photos
    int64_t images = 0;
    double colorfulness_truth = 0;
    double top1 = 0, top5 = 0;  // NaN where no photo's scene is judged
    double rmse_ab_share = 0, colorfulness_share = 0;
    ColorQuality gray_baseline;  // of the uncoloured photos
    // The same numbers by name, with their intervals.
    std::vector<Estimate> figures, gray_figures;
};

struct ClassQuality : GroupQuality {
    std::string label;
};

struct Evaluation : GroupQuality {
    std::vector<ClassQuality> classes;  // in the dataset's order, those that have photos
    std::vector<PhotoQuality> photos;
    std::vector<std::string> skipped;  // photos that are corrupt or gray: each by name, and why
};

// Of one result against its truth, same size; near_gray_fraction is 0 or 1. Throws ShapeError.
ColorQuality compare(const Image& result, const Image& truth, const Exec& exec = {});

// Whether the model has a class for every scene of the data; top1 and top5 are left out otherwise.
bool judges_scenes(const Spec& spec, const Dataset& data);

// The first `limit` photos (0: all), without those that are corrupt or gray. Throws InputError when
// none is left.
Evaluation evaluate(Colorizer& colorizer, const Dataset& data, int64_t limit,
                    const ColorizeSettings& settings,
                    const std::function<void(int64_t done, int64_t total)>& progress = {});

enum class Better { neither, a, b };

struct Difference {
    std::string figure;
    double mean;  // b - a
    Interval interval;
    // neither, unless the interval leaves 0 out. More colorfulness is better only towards that of
    // the truth, so there the interval of the distances from it decides.
    Better better;
};

// Of two models on the same photos, photo by photo. Throws UsageError when the photos differ.
std::vector<Difference> paired_differences(const Evaluation& a, const Evaluation& b,
                                           const Exec& exec = {});

}  // namespace lumachrome
