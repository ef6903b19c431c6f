// The fixed protocol on held-out colour photos: each whole photo is reduced to its luma, colorized
// at
// --size auto, brought back to full size as 8-bit sRGB, and compared with the truth. Figures are
// computed per photo and averaged over photos.
//
//   psnr_rgb          10 log10(255^2 / mean squared error of R, G, B), dB
//   rmse_ab           root of the mean squared error of a and b (CIE Lab units, D65)
//   delta_e2000_mean  mean CIEDE2000 over pixels
//   colorfulness      Hasler and Suesstrunk 2003
//   near_gray         share of photos whose std(a) + std(b) is under 6 Lab units
//   top1, top5        share of labelled photos whose scene is first, among the first five
#pragma once
#include <functional>

#include "model/colorizer.hpp"
#include "train/dataset.hpp"

namespace lumachrome {

struct ColorQuality {
    double psnr_rgb = 0, rmse_ab = 0, delta_e2000_mean = 0, colorfulness = 0,
           near_gray_fraction = 0;
};

struct Evaluation : ColorQuality {
    int64_t images = 0;
    double colorfulness_truth = 0;
    double top1 = 0, top5 = 0;   // NaN where nothing is labelled or the model has no class head
    ColorQuality gray_baseline;  // of the uncoloured photos
};

// Of one result against its truth, same size; near_gray_fraction is 0 or 1.
ColorQuality compare(const Image& result, const Image& truth);

// The first `limit` photos (0: all). Throws InputError when a photo is corrupt or gray.
Evaluation evaluate(Colorizer& colorizer, const Dataset& data, int64_t limit,
                    const ColorizeSettings& settings,
                    const std::function<void(int64_t done, int64_t total)>& progress = {});

}  // namespace lumachrome
