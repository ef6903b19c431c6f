#include <lcms2.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "image/color.hpp"
#include "image/profile.hpp"

namespace lumachrome {
namespace {

constexpr size_t kMaxProfile = 16 << 20;  // the largest tables of inks take 4 MiB
constexpr cmsUInt32Number kIntent = INTENT_RELATIVE_COLORIMETRIC;
constexpr cmsUInt32Number kFlags = cmsFLAGS_BLACKPOINTCOMPENSATION | cmsFLAGS_NOCACHE;
constexpr double kVisible = 1.0 / 255;  // a step of 8 bits

// Both kinds of handle are void pointers.
struct CloseProfile {
    void operator()(void* profile) const { cmsCloseProfile(profile); }
};
struct DeleteTransform {
    void operator()(void* transform) const { cmsDeleteTransform(transform); }
};
using Profile = std::unique_ptr<void, CloseProfile>;
using Transform = std::unique_ptr<void, DeleteTransform>;

cmsHPROFILE srgb() {
    static const Profile profile(cmsCreate_sRGBProfile());
    return profile.get();
}

std::vector<uint8_t> srgb_bytes() {
    static const std::vector<uint8_t> bytes = [] {
        cmsUInt32Number size = 0;
        cmsSaveProfileToMem(srgb(), nullptr, &size);
        std::vector<uint8_t> saved(size);
        if (!cmsSaveProfileToMem(srgb(), saved.data(), &size)) saved.clear();
        // Its date is that of the run; the same photo shall give the same file.
        constexpr uint8_t kDate[12] = {0x07, 0xD0, 0, 1, 0, 1};  // 1 January 2000
        constexpr size_t kDateAt = 24;
        if (saved.size() > kDateAt + sizeof kDate)
            std::copy(std::begin(kDate), std::end(kDate), saved.begin() + kDateAt);
        return saved;
    }();
    return bytes;
}

cmsColorSpaceSignature space_of(Samples samples) {
    return samples == Samples::gray  ? cmsSigGrayData
           : samples == Samples::rgb ? cmsSigRgbData
                                     : cmsSigCmykData;
}

// Describes samples of a device, and no link between devices, names of inks or effects.
bool describes_samples(cmsHPROFILE profile) {
    constexpr cmsProfileClassSignature kClasses[] = {cmsSigInputClass, cmsSigDisplayClass,
                                                     cmsSigOutputClass, cmsSigColorSpaceClass};
    const cmsColorSpaceSignature connection = cmsGetPCS(profile);
    return std::count(std::begin(kClasses), std::end(kClasses), cmsGetDeviceClass(profile)) > 0 &&
           (connection == cmsSigXYZData || connection == cmsSigLabData);
}

Transform make_transform(cmsHPROFILE from, cmsUInt32Number in, cmsUInt32Number out,
                         cmsUInt32Number flags) {
    return Transform(cmsCreateTransform(from, in, srgb(), out, kIntent, kFlags | flags));
}

using Colors = std::vector<std::array<float, 3>>;

// Without lcms2's shortcuts. Of a gray profile the first of the three numbers counts.
bool to_srgb(cmsHPROFILE from, const Colors& colors, Colors& out) {
    const bool gray = cmsGetColorSpace(from) == cmsSigGrayData;
    std::vector<float> in;
    for (const auto& color : colors)
        in.insert(in.end(), color.begin(), color.begin() + (gray ? 1 : 3));
    const Transform transform = make_transform(from, gray ? TYPE_GRAY_FLT : TYPE_RGB_FLT,
                                               TYPE_RGB_FLT, cmsFLAGS_NOOPTIMIZE);
    if (!transform) return false;
    out.resize(colors.size());
    cmsDoTransform(transform.get(), in.data(), out.data(),
                   static_cast<cmsUInt32Number>(out.size()));
    return true;
}

Colors gray_ramp(int steps) {
    Colors ramp;
    for (int i = 0; i < steps; ++i) {
        const float value = static_cast<float>(i) / static_cast<float>(steps - 1);
        ramp.push_back({value, value, value});
    }
    return ramp;
}

// Whether nobody could tell `profile`, of gray or RGB, from sRGB: compared as it maps colours,
// because there are dozens of files that mean sRGB.
bool equals_srgb(cmsHPROFILE profile) {
    Colors colors = gray_ramp(64), mapped;
    constexpr int kGrid = 5;
    for (int i = 0; i < kGrid * kGrid * kGrid && cmsGetColorSpace(profile) == cmsSigRgbData; ++i)
        colors.push_back({static_cast<float>(i % kGrid) / (kGrid - 1),
                          static_cast<float>(i / kGrid % kGrid) / (kGrid - 1),
                          static_cast<float>(i / kGrid / kGrid) / (kGrid - 1)});
    if (!to_srgb(profile, colors, mapped)) return false;
    for (size_t i = 0; i < colors.size(); ++i)
        for (size_t c = 0; c < 3; ++c)
            if (!(std::abs(mapped[i][c] - colors[i][c]) <= kVisible)) return false;
    return true;
}

// The photos of a collection mostly carry the same profile, and the question costs as much as
// decoding a small photo.
bool equals_srgb_remembered(cmsHPROFILE profile, std::span<const uint8_t> icc) {
    thread_local std::vector<uint8_t> known;
    if (std::equal(icc.begin(), icc.end(), known.begin(), known.end())) return true;
    if (!equals_srgb(profile)) return false;
    known.assign(icc.begin(), icc.end());
    return true;
}

template <class T>
class GrayTable : public RowTransform {
  public:
    GrayTable(const Colors& srgb, int channels) : channels_(channels) {
        constexpr double kMax = (1 << 8 * sizeof(T)) - 1;
        for (const auto& [r, g, b] : srgb) {
            const double y = luma(Rgb{r, g, b});
            table_.push_back(static_cast<T>(y > 0 ? std::lround(std::min(y, 1.0) * kMax) : 0));
        }
    }
    void apply(const uint8_t*, uint8_t* out, int64_t pixels) const override {
        T* const samples = reinterpret_cast<T*>(out);
        for (int64_t i = 0; i < pixels * channels_; i += channels_) samples[i] = table_[samples[i]];
    }

  private:
    int channels_;
    std::vector<T> table_;
};

class ColorTransform : public RowTransform {
  public:
    explicit ColorTransform(Transform transform) : transform_(std::move(transform)) {}
    void apply(const uint8_t* in, uint8_t* out, int64_t pixels) const override {
        cmsDoTransform(transform_.get(), in, out, static_cast<cmsUInt32Number>(pixels));
    }

  private:
    Transform transform_;
};

// A photo of gray samples may carry a profile of RGB: its grays are that profile's.
std::unique_ptr<const RowTransform> gray_transform(cmsHPROFILE profile,
                                                   const SampleLayout& layout) {
    Colors mapped;
    if (!to_srgb(profile, gray_ramp(1 << layout.bits), mapped)) return nullptr;
    const int channels = layout.alpha ? 2 : 1;
    if (layout.bits == 8) return std::make_unique<GrayTable<uint8_t>>(mapped, channels);
    return std::make_unique<GrayTable<uint16_t>>(mapped, channels);
}

std::unique_ptr<const RowTransform> color_transform(cmsHPROFILE profile,
                                                    const SampleLayout& layout) {
    const auto rgb =
        static_cast<cmsUInt32Number>(COLORSPACE_SH(PT_RGB) | CHANNELS_SH(3) |
                                     EXTRA_SH(layout.alpha) | BYTES_SH(layout.bits / 8));
    // lcms2's shortcuts for 16 bits are up to 8 % off in the shadows of Adobe RGB; those for 8 bits
    // are within a step and 20 times as fast.
    Transform made =
        layout.samples == Samples::cmyk
            ? make_transform(profile, TYPE_CMYK_8, TYPE_RGB_8, 0)
            : make_transform(profile, rgb, rgb, layout.bits == 16 ? cmsFLAGS_NOOPTIMIZE : 0);
    return made ? std::make_unique<ColorTransform>(std::move(made)) : nullptr;
}

ProfileReading not_followed(const std::string& reason) {
    return {nullptr, {}, "the colour profile " + reason + "; tones and colours are taken as sRGB"};
}

}  // namespace

ProfileReading read_profile(std::span<const uint8_t> icc, const SampleLayout& layout) {
    if (icc.size() > kMaxProfile) return not_followed("is larger than any real one");
    const Profile profile(
        cmsOpenProfileFromMem(icc.data(), static_cast<cmsUInt32Number>(icc.size())));
    if (!profile || !describes_samples(profile.get())) return not_followed("is damaged");
    const cmsColorSpaceSignature space = cmsGetColorSpace(profile.get());
    const bool gray_in_rgb = layout.samples == Samples::gray && space == cmsSigRgbData;
    if (space != space_of(layout.samples) && !gray_in_rgb)
        return not_followed("describes other samples than the photo has");
    if (layout.samples != Samples::cmyk && equals_srgb_remembered(profile.get(), icc))
        return {nullptr, {icc.begin(), icc.end()}, {}};
    auto transform = layout.samples == Samples::gray ? gray_transform(profile.get(), layout)
                                                     : color_transform(profile.get(), layout);
    if (!transform) return not_followed("is damaged");
    return {std::move(transform), srgb_bytes(), {}};
}

std::string color_management() {
    const int version = cmsGetEncodedCMMversion();  // 2140 for 2.14
    return "lcms2 " + std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

}  // namespace lumachrome
