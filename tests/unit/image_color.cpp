#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "image/color.hpp"
#include "tensor/error.hpp"

using namespace lumachrome;

namespace {

Image random_image(int64_t width, int64_t height, int channels, int bits, unsigned seed) {
    Image image = Image::make(width, height, channels, bits);
    std::mt19937 random(seed);
    for (uint8_t& byte : image.bytes) byte = static_cast<uint8_t>(random());
    return image;
}

Tensor random_chroma(int64_t height, int64_t width, float range, unsigned seed) {
    Tensor ab = Tensor::empty({height, width, 2}, DType::f32);
    std::mt19937 random(seed);
    std::uniform_real_distribution<float> uniform(-range, range);
    std::generate_n(ab.data<float>(), ab.numel(), [&] { return uniform(random); });
    return ab;
}

double sample(const Image& image, int64_t pixel, int channel) {
    const int64_t i = pixel * image.channels + channel;
    return image.bits == 8 ? image.row<uint8_t>(0)[i] : image.row<uint16_t>(0)[i];
}

Rgb rgb_of(const Image& image, int64_t pixel) {  // in steps, not in 0..1
    if (image.gray())
        return {sample(image, pixel, 0), sample(image, pixel, 0), sample(image, pixel, 0)};
    return {sample(image, pixel, 0), sample(image, pixel, 1), sample(image, pixel, 2)};
}

Rgb scaled(const Rgb& c, double s) {
    return {c.r * s, c.g * s, c.b * s};
}

}  // namespace

TEST_CASE("image: sRGB primaries have their known Lab values") {
    struct Known {
        Rgb rgb;
        Lab lab;
    };
    // Computed with D65 and the four-digit sRGB matrix; 0.02 covers the digits they are published
    // with.
    const Known known[] = {{{1, 0, 0}, {53.24, 80.09, 67.20}},
                           {{0, 1, 0}, {87.73, -86.18, 83.18}},
                           {{0, 0, 1}, {32.30, 79.19, -107.86}},
                           {{1, 1, 1}, {100, 0, 0}},
                           {{0, 0, 0}, {0, 0, 0}},
                           {{1, 1, 0}, {97.14, -21.55, 94.48}}};
    for (const auto& [rgb, want] : known) {
        const Lab lab = srgb_to_lab(rgb);
        CHECK(std::abs(lab.l - want.l) < 0.02);
        CHECK(std::abs(lab.a - want.a) < 0.02);
        CHECK(std::abs(lab.b - want.b) < 0.02);
    }
}

TEST_CASE("image: Lab and back is the same colour") {
    for (double r = 0; r <= 1; r += 0.125)
        for (double g = 0; g <= 1; g += 0.125)
            for (double b = 0; b <= 1; b += 0.125) {
                const Rgb back = lab_to_srgb(srgb_to_lab({r, g, b}));
                REQUIRE(std::abs(back.r - r) + std::abs(back.g - g) + std::abs(back.b - b) < 1e-7);
            }
}

TEST_CASE("image: CIEDE2000 matches the pairs of Sharma et al.") {
    struct Pair {
        Lab first, second;
        double difference;
    };
    const Pair pairs[] = {{{50, 2.6772, -79.7751}, {50, 0, -82.7485}, 2.0425},
                          {{50, 3.1571, -77.2803}, {50, 0, -82.7485}, 2.8615},
                          {{50, -1.3802, -84.2814}, {50, 0, -82.7485}, 1.0000},
                          {{50, 0, 0}, {50, -1, 2}, 2.3669},
                          {{50, 2.49, -0.001}, {50, -2.49, 0.0009}, 7.1792},
                          {{50, 2.49, -0.001}, {50, -2.49, 0.0011}, 7.2195},
                          {{50, -0.001, 2.49}, {50, 0.0009, -2.49}, 4.8045},
                          {{50, -0.001, 2.49}, {50, 0.0011, -2.49}, 4.7461},
                          {{50, 2.5, 0}, {73, 25, -18}, 27.1492},
                          {{50, 2.5, 0}, {56, -27, -3}, 31.9030},
                          {{60.2574, -34.0099, 36.2677}, {60.4626, -34.1751, 39.4387}, 1.2644},
                          {{22.7233, 20.0904, -46.6940}, {23.0331, 14.9730, -42.5619}, 2.0373},
                          {{2.0776, 0.0795, -1.1350}, {0.9033, -0.0636, -0.5514}, 0.9082}};
    for (const Pair& pair : pairs) {
        CHECK(std::abs(delta_e2000(pair.first, pair.second) - pair.difference) < 5e-5);
        CHECK(std::abs(delta_e2000(pair.second, pair.first) - pair.difference) < 5e-5);
    }
}

TEST_CASE("image: colourfulness") {
    CHECK(colorfulness(random_image(8, 8, 1, 8, 1)) == 0);
    // Half red, half cyan: rg = +-255, yb = +-127.5, means 0, so the deviation alone counts.
    for (const int bits : {8, 16}) {
        Image image = Image::make(2, 1, 3, bits);
        const int on[] = {0, 4, 5};
        for (const int i : on) {
            if (bits == 8) image.row<uint8_t>(0)[i] = 255;
            if (bits == 16) image.row<uint16_t>(0)[i] = 65535;
        }
        CHECK(colorfulness(image) == doctest::Approx(std::hypot(255, 127.5)));
    }
    Image orange =
        Image::make(4, 4, 3, 8);  // one colour: no deviation, 0.3 of the distance from gray
    for (size_t i = 0; i < orange.bytes.size(); i += 3)
        orange.bytes[i] = 255, orange.bytes[i + 1] = 128;
    CHECK(colorfulness(orange) == doctest::Approx(0.3 * std::hypot(127, 191.5)));
}

TEST_CASE("image: luma is exact, and the same bits for gray and for gray saved as RGB") {
    for (const int bits : {8, 16}) {
        const int max = (1 << bits) - 1;
        Image gray = Image::make(max + 1, 1, 2, bits), rgb = Image::make(max + 1, 1, 3, bits);
        for (int v = 0; v <= max; ++v) {
            if (bits == 8)
                gray.row<uint8_t>(0)[2 * v] = static_cast<uint8_t>(v),
                                         std::fill_n(rgb.row<uint8_t>(0) + 3 * v, 3,
                                                     static_cast<uint8_t>(v));
            else
                gray.row<uint16_t>(0)[2 * v] = static_cast<uint16_t>(v),
                                          std::fill_n(rgb.row<uint16_t>(0) + 3 * v, 3,
                                                      static_cast<uint16_t>(v));
        }
        const Tensor a = luma(gray), b = luma(rgb);
        CHECK(a.shape() == Shape{1, max + 1, 1});
        CHECK(bit_equal(a, b));
        for (int v = 0; v <= max; ++v)
            REQUIRE(a.data<float>()[v] == static_cast<float>(1.0 * v / max));
    }
    for (const int bits : {8, 16}) {
        const Image image = random_image(97, 5, 4, bits, 3);
        const Tensor got = luma(image);
        const double max = (1 << bits) - 1;
        for (int64_t i = 0; i < got.numel(); ++i)
            REQUIRE(std::abs(got.data<float>()[i] - luma(rgb_of(image, i)) / max) < 1e-7);
    }
}

TEST_CASE("image: bulk chroma agrees with the definition") {
    for (const int channels : {3, 4})
        for (const int bits : {8, 16}) {
            const Image image =
                random_image(300, 7, channels, bits, 5);  // not a multiple of the block
            const Tensor ab = lab_ab(image);
            REQUIRE(ab.shape() == Shape{7, 300, 2});
            for (int64_t i = 0; i < image.width * image.height; ++i) {
                const Lab want = srgb_to_lab(scaled(rgb_of(image, i), 1.0 / ((1 << bits) - 1)));
                REQUIRE(std::abs(ab.data<float>()[2 * i] - want.a) < 1e-3);
                REQUIRE(std::abs(ab.data<float>()[2 * i + 1] - want.b) < 1e-3);
            }
        }
    const Tensor none = lab_ab(random_image(5, 5, 2, 16, 1));
    CHECK(std::all_of(none.data<float>(), none.data<float>() + none.numel(),
                      [](float v) { return v == 0; }));
}

TEST_CASE("image: merging keeps the photo's luma within half a step, its alpha and its size") {
    constexpr int64_t kWidth = 1024, kHeight = 512;
    for (const int bits : {8, 16})
        for (const int channels : {1, 2, 3, 4})
            for (const float range : {20.0f, 110.0f}) {
                const Image photo = random_image(kWidth, kHeight, channels, bits, 7);
                const Tensor gray = luma(photo);
                const Image out =
                    merge_luma_chroma(photo, gray, random_chroma(kHeight, kWidth, range, 11), 1.2f);
                REQUIRE(out.width == kWidth);
                REQUIRE(out.height == kHeight);
                REQUIRE(out.bits == bits);
                REQUIRE(out.channels == (photo.has_alpha() ? 4 : 3));
                double worst = 0, worst_gray = 0;
                bool same_alpha = true;
                for (int64_t i = 0; i < kWidth * kHeight; ++i) {
                    const double before = luma(rgb_of(photo, i)), after = luma(rgb_of(out, i));
                    worst = std::max(worst, std::abs(after - before));
                    worst_gray =
                        std::max(worst_gray, std::abs(std::round(after) - std::round(before)));
                    if (photo.has_alpha())
                        same_alpha &= sample(out, i, 3) == sample(photo, i, channels - 1);
                }
                CHECK(worst <
                      (bits == 8 ? 0.5001
                                 : 0.515));  // 1/2 step of rounding, 2^-24 * 65535 * a few of float
                CHECK(worst_gray <= 1);
                CHECK(same_alpha);
            }
}

TEST_CASE("image: chroma that leaves the gamut is reduced, never clipped by channel") {
    for (const int bits : {8, 16}) {
        const double max = (1 << bits) - 1,
                     tolerance = bits == 8 ? 0.51 : 2.5;  // rounding; 16 bits: float of 2e-5
        const Image photo = random_image(512, 64, 1, bits, 13);
        const Tensor gray = luma(photo), ab = random_chroma(64, 512, 120, 17);
        const Image out = merge_luma_chroma(photo, gray, ab, 1);
        int reduced = 0;
        for (int64_t i = 0; i < 512 * 64; ++i) {
            const double y = sample(photo, i, 0) / max;
            const Lab neutral = srgb_to_lab({y, y, y});
            const Rgb wish =
                lab_to_srgb({neutral.l, ab.data<float>()[2 * i], ab.data<float>()[2 * i + 1]});
            const double own = luma(wish), d[] = {wish.r - own, wish.g - own, wish.b - own};
            double t = 1;
            for (const double v : d) t = std::min(t, v > 0 ? (1 - y) / v : v < 0 ? -y / v : 1);
            reduced += t < 1;
            for (int c = 0; c < 3; ++c)
                REQUIRE(std::abs(sample(out, i, c) - max * (y + t * d[c])) < tolerance);
        }
        CHECK(reduced > 1000);
    }
}

TEST_CASE("image: no chroma gives a gray photo; NaN and infinity stay defined") {
    const Image photo = random_image(256, 4, 1, 8, 19);
    Tensor ab = Tensor::zeros({4, 256, 2}, DType::f32);
    for (const float saturation : {1.0f, 0.0f}) {
        if (saturation == 0) ab = random_chroma(4, 256, 110, 23);
        const Image out = merge_luma_chroma(photo, luma(photo), ab, saturation);
        for (int64_t i = 0; i < 1024; ++i)
            for (int c = 0; c < 3; ++c) REQUIRE(sample(out, i, c) == sample(photo, i, 0));
    }
    ab.fill(std::nan(""));
    Tensor gray = luma(photo);
    gray.data<float>()[0] = INFINITY, gray.data<float>()[1] = NAN, gray.data<float>()[2] = -5;
    CHECK(merge_luma_chroma(photo, gray, ab).width == 256);
    ab.fill(1e30);
    CHECK(merge_luma_chroma(photo, gray, ab).width == 256);
    CHECK_THROWS_AS(merge_luma_chroma(photo, luma(photo), Tensor::zeros({2, 128, 2}), 1),
                    ShapeError);
}
