// From a photo to what the network learns from: a gray square and its colours at half resolution.
// Second stop of the data walk (dataset.hpp).
#pragma once
#include <cstdint>

#include "tensor/tensor.hpp"
#include "train/dataset.hpp"

namespace lumachrome {

// Below this sum of the standard deviations of a and b (Lab units) a photo teaches "gray", not
// colour: black-and-white, tinted and foggy ones. The paper too leaves out gray photos
// (section 3.4).
inline constexpr double kNearGray = 6;

struct Sample {
    Tensor luma;  // [1,S,S,1] f32, 0..1
    // [1,S/2,S/2,2] f32, (ab / ab_scale + 1) / 2 clamped to 0..1: the sigmoid's range. Averaged
    // over the area of the photo's own ab, not computed from shrunken RGB: averaging gamma-encoded
    // values dulls edges between colours. A few sRGB blues lie outside +-100 and are clamped.
    Tensor ab;
    int64_t label = -1;
    bool near_gray = false;  // of this crop's target
};

// Throws UsageError from all functions below: size must be even and positive, min_scale in (0, 1],
// luma_jitter in [0, 1).
struct AugmentSpec {
    int64_t size = 224;  // S
    // The crop's side is a uniform share, min_scale..1, of the photo's shorter side. 224 of 256, as
    // in the paper, is a fixed 0.875; 1 moves a full-height square along the longer side.
    double min_scale = 0.6;
    bool flip = true;  // mirror left and right, every second time
    // Contrast about mid-gray changes by a factor of 1 +- jitter and brightness by +- jitter / 2:
    // the tones of old prints. Colours are kept.
    double luma_jitter = 0;
    double ab_scale = 100;  // of the target: (ab / ab_scale + 1) / 2, as in Spec
    // No chance at all: the square in the middle as it is, the same in every epoch. For learning a
    // few photos by heart, the test that data, loss and network fit together.
    bool centre = false;
};

void check(const AugmentSpec& spec);

// A photo of any size as 8-bit RGB without alpha and profile, its shorter side `shorter` pixels by
// area average unless it is smaller already; nothing is ever enlarged. Memory beside the result: a
// few rows. Throws UsageError when `shorter` is below 1.
Image shrink(const Image& image, int64_t shorter);

// What training keeps of a photo, cached or not: one whose shorter side exceeds working_side is
// shrunk to it, any other stays untouched. The side is 2 size / min_scale, so that the smallest
// crop still has two pixels for one of luma and four for one of ab, and at least 160, so that
// photos prepared for training stay as they are. The gray values are averages anyway; of the
// averaged ab, the part finer than half a pixel is lost.
int64_t working_side(const AugmentSpec& spec);
Photo working_copy(Photo photo, const AugmentSpec& spec);

// Which square of a photo, and how.
struct Crop {
    int64_t top = 0, left = 0, side = 0;
    bool mirror = false;
    // Luma becomes (luma - 1/2) * contrast + brightness, clamped to 0..1.
    bool jitter = false;
    float contrast = 1, brightness = 0.5f;
};
// A random one. A pure function of its arguments; seed, epoch and index are those of Random.
Crop draw_crop(const ImageHeader& photo, const AugmentSpec& spec, uint64_t seed, uint32_t epoch,
               uint32_t index);
Sample augment(const Photo& photo, const AugmentSpec& spec, const Crop& crop);
// Both at once.
Sample augment(const Photo& photo, const AugmentSpec& spec, uint64_t seed, uint32_t epoch,
               uint32_t index);

// For validation: the shorter side scaled to `size`, the square in the middle.
Sample centre_crop(const Photo& photo, int64_t size, double ab_scale = 100);

}  // namespace lumachrome
