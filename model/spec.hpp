// The network as data: the paper's Table 1 and the choices that the paper, the published weights
// and the talk leave open. Walk 1, stop 2: photo -> PNG.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "layers/activation.hpp"

namespace lumachrome {

// One convolution of Table 1: 3x3, pad 1, with bias; channels at full width.
struct ConvRow {
    int64_t in, out, stride;
};

inline constexpr ConvRow kLowLevel[] = {{1, 64, 2},    {64, 128, 1},  {128, 128, 2},
                                        {128, 256, 1}, {256, 256, 2}, {256, 512, 1}};
inline constexpr ConvRow kMidLevel[] = {{512, 512, 1}, {512, 256, 1}};
inline constexpr ConvRow kGlobal[] = {{512, 512, 2}, {512, 512, 1}, {512, 512, 2}, {512, 512, 1}};
inline constexpr int64_t kGlobalFeatures[] = {1024, 512, 256};  // fully connected
inline constexpr int64_t kFusion = 256;                         // 256 local + 256 global -> 256
inline constexpr ConvRow kColor[] = {{256, 128, 1}, {128, 64, 1}, {64, 64, 1}, {64, 32, 1}};
inline constexpr bool kUpsampleAfter[] = {true, false, true, false};  // after color.1 and color.3
inline constexpr int64_t kOutputIn = 32, kOutputChannels = 2;
inline constexpr int64_t kClassifierHidden = 256;

inline constexpr int64_t kStride = 8;  // the map of local features is H/8 x W/8

struct Spec {
    std::string preset = "paper";
    int64_t width_divisor = 1;  // channels are the paper's divided by this
    int64_t global_size = 224;  // the global branch sees the photo at this size, squared
    int64_t fusion_kernel = 3;  // 3: published weights, 1: the paper's formula
    Activation activation = Activation::relu;
    bool use_global = true;  // false: the paper's baseline, without global branch and class head
    bool batch_norm = true;  // false: folded, as published
    int64_t classes = 205;   // 0: no class head, as published
    std::vector<std::string> class_names;    // empty, or one for each class
    double dropout = 0;                      // after the first two fully connected layers
    double luma_mean = 0.44505388568813414;  // subtracted from luma in 0..1 (Places model)
    double ab_scale = 100;                   // ab = ab_scale * (2 y - 1)

    bool has_class_head() const { return use_global && classes > 0; }
    int64_t channels(int64_t at_full_width) const { return at_full_width / width_divisor; }
    int64_t global_map() const;  // side of the last map of the global branch
    void check() const;          // throws UsageError naming the field
};

// paper: the published network to the letter. compact: half the width, with a 112-pixel global
// branch; the one we ship. tiny: an eighth of the width, for tests and lessons.
// Throws UsageError for another name.
Spec preset(const std::string& name);

// Checkpoint metadata, and back. from_metadata throws ModelError naming the key.
std::map<std::string, std::string> to_metadata(const Spec& spec);
Spec from_metadata(const std::map<std::string, std::string>& metadata);

}  // namespace lumachrome
