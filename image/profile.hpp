// Colour profiles (ICC.1:2010): what the samples of a file look like. decode() brings every photo
// into sRGB, so that all that follows knows one meaning of a sample: a scan in gray gamma 1.8 or in
// Adobe RGB keeps its tones as they are seen, not as they are numbered.
//
// Relative colorimetric with black point compensation: white becomes white, black black, and what
// sRGB can show stays what it is. Perceptual tables differ from maker to maker and would bend the
// tones of a photo whose tones we promise to keep.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace lumachrome {

enum class Samples { gray, rgb, cmyk };  // of cmyk, 0 is no ink

struct SampleLayout {
    Samples samples;
    bool alpha = false;
    int bits = 8;  // 8 or 16; cmyk: 8
};

class RowTransform {
  public:
    virtual ~RowTransform() = default;
    // `pixels` of them: gray and rgb where they lie (`in` is `out`), alpha untouched; cmyk from 4
    // bytes to the 3 of RGB elsewhere. Threads may share one.
    virtual void apply(const uint8_t* in, uint8_t* out, int64_t pixels) const = 0;
};

struct ProfileReading {
    std::unique_ptr<const RowTransform> to_srgb;  // null: the samples stay as they are
    std::vector<uint8_t> icc;                     // what describes the result; empty: nothing does
    std::string warning;                          // why the profile is not followed; else empty
};

// What `icc`, not empty, asks for. A profile that equals sRGB is kept, others give way to
// sRGB's own. What is damaged, too large or of other samples is dropped with a warning: a profile
// never costs a photo.
ProfileReading read_profile(std::span<const uint8_t> icc, const SampleLayout& layout);

std::string color_management();  // the library and its version; empty in a build without

}  // namespace lumachrome
