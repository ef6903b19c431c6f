// A photo is seen as its profile says: brought into sRGB, within a step of the definitions.
#include "image/profile.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

#include "image/color.hpp"
#include "unit/icc_profiles.hpp"
#include "unit/image_fixtures.hpp"

using namespace lumachrome;

namespace {

bool built() {
    if (!color_management().empty()) return true;
    MESSAGE("skipped: built without lcms2");
    return false;
}

// The photo of `image` with this profile, after a file.
Image seen(Image image, const Bytes& profile) {
    image.icc = profile;
    return decode(encode(image, Format::png), "photo");
}

// Every sample value once, in a row.
Image gray_ramp(int bits, int channels) {
    Image image = Image::make(1 << bits, 1, channels, bits);
    for (int64_t i = 0; i < image.width * channels; ++i) {
        const int64_t value = i % channels == 0 ? i / channels : i * 37;
        if (bits == 8)
            image.row<uint8_t>(0)[i] = static_cast<uint8_t>(value);
        else
            image.row<uint16_t>(0)[i] = static_cast<uint16_t>(value);
    }
    return image;
}

int sample(const Image& image, int64_t i) {
    return image.bits == 8 ? image.row<uint8_t>(0)[i] : image.row<uint16_t>(0)[i];
}

// Of gamma-encoded values under D50 primaries, clipped to sRGB.
std::array<double, 3> expected(const icc::Primaries& from, double gamma, std::array<double, 3> v) {
    double xyz[3] = {};
    for (size_t i = 0; i < 3; ++i)
        for (size_t j = 0; j < 3; ++j) xyz[i] += from[j][i] * std::pow(v[j], gamma);
    // The inverse of icc::kSrgb, by Cramer's rule.
    const auto& p = icc::kSrgb;
    const auto det = [](const auto& a, const auto& b, const auto& c) {
        return a[0] * (b[1] * c[2] - b[2] * c[1]) - b[0] * (a[1] * c[2] - a[2] * c[1]) +
               c[0] * (a[1] * b[2] - a[2] * b[1]);
    };
    const double whole = det(p[0], p[1], p[2]);
    std::array<double, 3> out{det(xyz, p[1], p[2]) / whole, det(p[0], xyz, p[2]) / whole,
                              det(p[0], p[1], xyz) / whole};
    for (double& value : out) value = linear_to_srgb(std::clamp(value, 0.0, 1.0));
    return out;
}

}  // namespace

TEST_CASE("profile: gray tones are those that are seen") {
    if (!built()) return;
    const Bytes linear = icc::gray(icc::gamma(1));
    const Image ramp = seen(gray_ramp(8, 1), linear);
    CHECK(sample(ramp, 128) == 188);
    CHECK(sample(ramp, 0) == 0);
    CHECK(sample(ramp, 255) == 255);
    for (const double gamma : {1.0, 1.8, 2.2})
        for (const int bits : {8, 16})
            for (const int channels : {1, 2}) {
                CAPTURE(gamma);
                CAPTURE(bits);
                const Image stored = gray_ramp(bits, channels),
                            image = seen(stored, icc::gray(icc::gamma(gamma)));
                const double exponent = std::round(gamma * 256) / 256;  // as the file says it
                REQUIRE(image.bits == bits);
                REQUIRE(image.channels == channels);
                CHECK(image.warnings.empty());
                int alpha_changed = 0;
                double worst = 0;
                const int max = (1 << bits) - 1;
                for (int64_t i = 0; i <= max; ++i) {
                    const double want = linear_to_srgb(std::pow(double(i) / max, exponent)) * max;
                    worst = std::max(worst, std::abs(sample(image, i * channels) - want));
                    alpha_changed +=
                        channels == 2 && sample(image, 2 * i + 1) != sample(stored, 2 * i + 1);
                }
                CHECK(worst <= (bits == 8 ? 0.51 : 2.0));
                CHECK(alpha_changed == 0);
            }
}

TEST_CASE("profile: wide gamuts come into sRGB, clipped where they are wider") {
    if (!built()) return;
    struct Case {
        icc::Primaries primaries;
        double gamma;
    };
    for (const Case& from : {Case{icc::kAdobe, 563.0 / 256}, Case{icc::kProPhoto, 461.0 / 256}})
        for (const int bits : {8, 16})
            for (const int channels : {3, 4}) {
                CAPTURE(bits);
                CAPTURE(channels);
                const Image stored = random_image(64, 5, channels, bits);
                const Image image = seen(stored, icc::rgb(from.primaries, icc::gamma(from.gamma)));
                REQUIRE(image.bits == bits);
                const double max = (1 << bits) - 1;
                double worst = 0;
                for (int64_t i = 0; i < 320 * channels; i += channels) {
                    std::array<double, 3> v{};
                    for (size_t c = 0; c < 3; ++c)
                        v[c] = sample(stored, i + static_cast<int64_t>(c)) / max;
                    const auto want = expected(from.primaries, from.gamma, v);
                    for (size_t c = 0; c < 3; ++c)
                        worst = std::max(
                            worst,
                            std::abs(sample(image, i + static_cast<int64_t>(c)) - max * want[c]));
                    if (channels == 4) REQUIRE(sample(image, i + 3) == sample(stored, i + 3));
                }
                CHECK(worst <= (bits == 8 ? 1.0 : 128.0));  // the primaries are rounded
            }
    Image green = Image::make(1, 1, 3, 8);
    green.bytes = {0, 255, 0};
    const Image clipped = seen(green, icc::rgb(icc::kAdobe, icc::gamma(563.0 / 256)));
    CHECK(clipped.bytes[0] == 0);
    CHECK(clipped.bytes[1] == 255);
    CHECK(clipped.bytes[2] <= 1);
    // What is written says what it is; and that is sRGB.
    REQUIRE(!clipped.icc.empty());
    CHECK(seen(green, clipped.icc).bytes == green.bytes);
    CHECK(seen(green, clipped.icc).icc == clipped.icc);
    CHECK(decode(encode(clipped, Format::jpeg), "jpeg").icc == clipped.icc);
}

TEST_CASE("profile: rows on threads, the same bits") {
    if (!built()) return;
    Image photo = random_image(50, 200, 3, 8);
    photo.icc = icc::rgb(icc::kAdobe, icc::gamma(2.2));
    const Bytes file = encode(photo, Format::png);
    Exec threads;
    threads.threads = 3;
    const Image one = decode(file, "photo"), three = decode(file, "photo", {}, threads);
    CHECK(one.bytes != photo.bytes);
    CHECK(one.bytes == three.bytes);
}

TEST_CASE("profile: what equals sRGB leaves the photo as it is, bit for bit") {
    const Bytes same = icc::rgb(icc::kSrgb, icc::curve(srgb_to_linear));
    for (const int bits : {8, 16}) {
        const Image photo = random_image(30, 20, 3, bits), got = seen(photo, same);
        CHECK(got.bytes == photo.bytes);
        CHECK(got.icc == same);
        if (!color_management().empty()) CHECK(got.warnings.empty());
    }
    const Bytes gray = icc::gray(icc::curve(srgb_to_linear));
    CHECK(seen(gray_ramp(8, 1), gray).bytes == gray_ramp(8, 1).bytes);
    CHECK(seen(gray_ramp(8, 1), gray).icc == gray);
    if (!built()) return;
    // Nearly is not equal.
    CHECK(seen(gray_ramp(8, 1), icc::gray(icc::gamma(2.2))).bytes != gray_ramp(8, 1).bytes);
    const Image photo = random_image(30, 20, 3, 8);
    CHECK(seen(photo, icc::rgb(icc::kSrgb, icc::gamma(2.2))).bytes != photo.bytes);
}

TEST_CASE("profile: grays under a profile of colours are its grays") {
    if (!built()) return;
    const ProfileReading profile =
        read_profile(icc::rgb(icc::kAdobe, icc::gamma(1)), {Samples::gray});
    REQUIRE(profile.to_srgb);
    uint8_t value = 128;
    profile.to_srgb->apply(&value, &value, 1);
    CHECK(value == 188);
}

TEST_CASE("profile: inks, from paper white to black") {
    if (!built()) return;
    const ProfileReading profile = read_profile(icc::cmyk(18), {Samples::cmyk});
    REQUIRE(profile.to_srgb);
    const Bytes inks = {0, 0, 0, 0, 0, 0, 0, 255, 0, 0, 0, 128, 128, 128, 128, 0};
    uint8_t rgb[12];
    profile.to_srgb->apply(inks.data(), rgb, 4);
    for (int c = 0; c < 3; ++c) {
        CHECK(rgb[c] == 255);
        CHECK(rgb[3 + c] <= 1);  // the ink's own black is L 18: compensated
        CHECK(rgb[6 + c] > 100);
        CHECK(std::abs(rgb[6 + c] - rgb[9 + c]) <= 2);
    }
}

TEST_CASE("profile: damaged or foreign ones cost no photo") {
    if (!built()) return;
    const SampleLayout gray{Samples::gray}, rgb{Samples::rgb}, cmyk{Samples::cmyk};
    const auto warning = [](const Bytes& profile, const SampleLayout& layout) {
        const ProfileReading reading = read_profile(profile, layout);
        CHECK(!reading.to_srgb);
        CHECK(reading.icc.empty());
        return reading.warning;
    };
    const Bytes adobe = icc::rgb(icc::kAdobe, icc::gamma(2.2)),
                gray_18 = icc::gray(icc::gamma(1.8));
    contains(warning({1, 2, 3}, rgb), "the colour profile is damaged");
    contains(warning(gray_18, rgb), "describes other samples");
    contains(warning(adobe, cmyk), "describes other samples");
    contains(warning(icc::cmyk(0), gray), "describes other samples");
    contains(warning(icc::profile("RGB ", "XYZ ", {}), rgb), "is damaged");
    contains(warning(icc::profile("RGB ", "XYZ ", {}, "link"), rgb), "is damaged");
    contains(warning(Bytes(17 << 20), rgb), "larger");

    // A photo keeps its samples and says why.
    Image photo = random_image(9, 7, 3, 8);
    photo.icc = adobe;
    photo.icc.resize(300);  // JPEG carries anything
    std::memcpy(&photo.icc[36], "none", 4);
    const Image got = decode(encode(photo, Format::jpeg), "photo");
    CHECK(got.icc.empty());
    REQUIRE(got.warnings.size() == 1);
    contains(got.warnings[0], "taken as sRGB");

    for (const Bytes& whole : {adobe, gray_18, icc::cmyk(10)}) {
        const SampleLayout layout = whole == adobe ? rgb : whole == gray_18 ? gray : cmyk;
        const auto survives = [&](const Bytes& profile) {
            const ProfileReading reading = read_profile(profile, layout);
            CHECK((reading.warning.empty() || !reading.to_srgb));
            uint8_t in[4] = {1, 200, 30, 4}, out[4] = {1, 200, 30, 4};
            if (reading.to_srgb)
                reading.to_srgb->apply(layout.samples == Samples::cmyk ? in : out, out, 1);
        };
        for (size_t n = 0; n < whole.size(); n += 1 + n / 10)
            survives({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n)});
        std::mt19937 random(7);
        // A table of inks takes 50 ms to prepare.
        for (int trial = 0; trial < (layout.samples == Samples::cmyk ? 20 : 500); ++trial) {
            Bytes bytes = whole;
            const size_t reach = std::min<size_t>(bytes.size(), 500);  // most is tables
            for (unsigned k = 0; k < 1 + random() % 6; ++k)
                bytes[random() % reach] = static_cast<uint8_t>(random());
            survives(bytes);
        }
    }
}
