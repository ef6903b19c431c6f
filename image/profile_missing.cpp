// In place of profile_lcms2.cpp in a build without Little CMS.
#include "image/profile.hpp"

namespace lumachrome {

ProfileReading read_profile(std::span<const uint8_t> icc, const SampleLayout& layout) {
    ProfileReading reading;
    if (layout.samples != Samples::cmyk) reading.icc.assign(icc.begin(), icc.end());
    reading.warning =
        "the colour profile is not followed: this program was built without lcms2; "
        "tones and colours are taken as sRGB";
    return reading;
}

std::string color_management() {
    return {};
}

}  // namespace lumachrome
