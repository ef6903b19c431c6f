#include "image/tone.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "tensor/random.hpp"

using namespace lumachrome;

namespace {

// A scene of blobs; `color(luma, place)` gives a pixel's three channels in 0..1.
template <class T, class Color>
Image scene(int64_t width, int64_t height, const Color& color) {
    Image image = Image::make(width, height, 3, 8 * sizeof(T));
    Random noise(3, Random::Purpose::test);
    for (int64_t y = 0; y < height; ++y)
        for (int64_t x = 0; x < width; ++x) {
            const double place = std::sin(double(x) / 9) + std::cos(double(y) / 13);
            const double luma = 0.5 + 0.2 * place + noise.uniform(-0.03, 0.03);
            const auto rgb = color(luma, std::sin(double(x) / 31 + double(y) / 17));
            for (int c = 0; c < 3; ++c)
                image.row<T>(y)[3 * x + c] =
                    static_cast<T>(std::clamp(rgb[static_cast<size_t>(c)], 0.0, 1.0) *
                                   (sizeof(T) == 1 ? 255 : 65535));
        }
    return image;
}

using Rgb3 = std::array<double, 3>;
Rgb3 gray(double y, double) {
    return {y, y, y};
}
Rgb3 sepia(double y, double) {
    return {1.07 * y + 0.05, 0.92 * y + 0.03, 0.75 * y};
}
Rgb3 dull(double y, double place) {  // 8 % about gray
    return {y + 0.08 * place, y, y - 0.08 * place};
}

}  // namespace

TEST_CASE("image: a toned print is told from a photo in colour") {
    CHECK(tone_of(Image::make(5, 4, 1, 8)) == Tone::gray);
    CHECK(tone_of(Image::make(5, 4, 4, 16)) == Tone::gray);
    CHECK(tone_of(scene<uint8_t>(200, 150, gray)) == Tone::gray);
    CHECK(tone_of(scene<uint8_t>(200, 150, sepia)) == Tone::tinted);
    CHECK(tone_of(scene<uint16_t>(200, 150, sepia)) == Tone::tinted);
    CHECK(tone_of(scene<uint8_t>(200, 150, dull)) == Tone::color);
    CHECK(tone_of(scene<uint16_t>(90, 400, dull)) == Tone::color);
    CHECK(tone_of(scene<uint8_t>(1, 1, sepia)) == Tone::tinted);
}
