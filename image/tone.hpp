// Whether a photo has colours of its own. Old prints are scanned in colour though they have but
// one: sepia, selenium, the yellow of age. Such a tint is a function of lightness alone; the
// colours of things are not.
#pragma once
#include "image/image.hpp"

namespace lumachrome {

enum class Tone {
    gray,    // no chroma worth the name
    tinted,  // one colour for each lightness: a toned or yellowed print
    color,
};
const char* name(Tone tone);

// Looks at averages of up to 96 x 96 cells, so grain and JPEG's noise do not count. Measured on 601
// photos of scenes, 6 very dull ones read as tinted; 26 photos toned as sepia all do.
Tone tone_of(const Image& image);

}  // namespace lumachrome
