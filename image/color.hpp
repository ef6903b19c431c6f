// From file values to colours we can reason about, and back.
//
//   sRGB --gamma--> linear RGB --matrix--> XYZ (D65) --cube roots--> L*a*b*
//
// The network sees luma and predicts a*b*; this page is where both are defined. The definitions are
// in double and serve as the oracle of the bulk functions below, which do the same in float, a row
// at a time, on as many threads as they are given.
#pragma once

#include <array>
#include <cmath>

#include "image/image.hpp"
#include "tensor/exec.hpp"

namespace lumachrome {

struct Rgb {
    double r, g, b;  // gamma-encoded (sRGB) or linear, as the function says; 0..1 is the gamut
};
struct Xyz {
    double x, y, z;  // white has y = 1
};
struct Lab {
    double l, a, b;  // l 0..100; a green..red, b blue..yellow, within about -110..110 for sRGB
};

// ITU-R BT.601 luma of gamma-encoded values. It is what cameras, television and every "convert to
// gray" call the gray of a photo; CIE L* is lightness, computed from linear light, and gives
// another gray.
inline constexpr double kLumaR = 0.299, kLumaG = 0.587, kLumaB = 0.114;

inline double luma(const Rgb& gamma_encoded) {
    return kLumaR * gamma_encoded.r + kLumaG * gamma_encoded.g + kLumaB * gamma_encoded.b;
}

// IEC 61966-2-1 transfer curve, for v in 0..1.
inline double srgb_to_linear(double v) {
    return v <= 0.04045 ? v / 12.92 : std::pow((v + 0.055) / 1.055, 2.4);
}

// Its inverse, continued to all x as an odd function (as in extended sRGB, IEC 61966-2-2): colours
// outside the gamut keep a sensible direction, which gamut reduction in merge_luma_chroma needs.
inline double linear_to_srgb(double x) {
    const double m = std::abs(x);
    return std::copysign(m <= 0.0031308 ? 12.92 * m : 1.055 * std::pow(m, 1 / 2.4) - 0.055, x);
}

using Matrix3 = std::array<std::array<double, 3>, 3>;

// Linear RGB with BT.709 primaries to XYZ. The rows sum to the D65 white below, so that r = g = b
// gives a = b = 0. Source: the numbers of Poynton's Color FAQ, used by torch/image, OpenCV and
// Matlab's rgb2lab.
inline constexpr Matrix3 kRgbToXyz = {{{0.412453, 0.357580, 0.180423},
                                       {0.212671, 0.715160, 0.072169},
                                       {0.019334, 0.119193, 0.950227}}};
inline constexpr double kWhiteX = 0.950456, kWhiteZ = 1.088754;

// By cofactors, so that the way back is exact instead of a second rounded table.
constexpr Matrix3 inverse(const Matrix3& m) {
    Matrix3 cofactor{};
    for (size_t i = 0; i < 3; ++i)
        for (size_t j = 0; j < 3; ++j) {
            const size_t i1 = (i + 1) % 3, i2 = (i + 2) % 3, j1 = (j + 1) % 3, j2 = (j + 2) % 3;
            cofactor[i][j] = m[i1][j1] * m[i2][j2] - m[i1][j2] * m[i2][j1];
        }
    const double determinant =
        m[0][0] * cofactor[0][0] + m[0][1] * cofactor[0][1] + m[0][2] * cofactor[0][2];
    Matrix3 result{};
    for (size_t i = 0; i < 3; ++i)
        for (size_t j = 0; j < 3; ++j) result[i][j] = cofactor[j][i] / determinant;
    return result;
}
inline constexpr Matrix3 kXyzToRgb = inverse(kRgbToXyz);

constexpr std::array<double, 3> product(const Matrix3& m, double x, double y, double z) {
    return {m[0][0] * x + m[0][1] * y + m[0][2] * z, m[1][0] * x + m[1][1] * y + m[1][2] * z,
            m[2][0] * x + m[2][1] * y + m[2][2] * z};
}

inline Xyz linear_rgb_to_xyz(const Rgb& linear) {
    const auto [x, y, z] = product(kRgbToXyz, linear.r, linear.g, linear.b);
    return {x, y, z};
}
inline Rgb xyz_to_linear_rgb(const Xyz& xyz) {
    const auto [r, g, b] = product(kXyzToRgb, xyz.x, xyz.y, xyz.z);
    return {r, g, b};
}

// CIE 15:2004, section 8.2.1, with exact fractions where cube root and straight line meet:
//   f(t) = cbrt(t) above epsilon, (kappa t + 16) / 116 below
//   L = 116 f(y) - 16    a = 500 (f(x/Xn) - f(y))    b = 200 (f(y) - f(z/Zn))
inline constexpr double kLabEpsilon = 216.0 / 24389, kLabKappa = 24389.0 / 27;

inline double lab_f(double t) {
    return t > kLabEpsilon ? std::cbrt(t) : (kLabKappa * t + 16) / 116;
}
inline double lab_f_inverse(double f) {
    return f > 6.0 / 29 ? f * f * f : (116 * f - 16) / kLabKappa;
}

inline Lab xyz_to_lab(const Xyz& xyz) {
    const double fx = lab_f(xyz.x / kWhiteX), fy = lab_f(xyz.y), fz = lab_f(xyz.z / kWhiteZ);
    return {116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)};
}
inline Xyz lab_to_xyz(const Lab& lab) {
    const double fy = (lab.l + 16) / 116;
    return {kWhiteX * lab_f_inverse(fy + lab.a / 500), lab_f_inverse(fy),
            kWhiteZ * lab_f_inverse(fy - lab.b / 200)};
}

inline Lab srgb_to_lab(const Rgb& gamma_encoded) {
    return xyz_to_lab(
        linear_rgb_to_xyz({srgb_to_linear(gamma_encoded.r), srgb_to_linear(gamma_encoded.g),
                           srgb_to_linear(gamma_encoded.b)}));
}
inline Rgb lab_to_srgb(const Lab& lab) {  // may leave 0..1
    const Rgb linear = xyz_to_linear_rgb(lab_to_xyz(lab));
    return {linear_to_srgb(linear.r), linear_to_srgb(linear.g), linear_to_srgb(linear.b)};
}

// Colour difference CIEDE2000, kL = kC = kH = 1; about 1 is just noticeable.
// Source: Sharma, Wu, Dalal, "The CIEDE2000 color-difference formula", 2005, whose test table we
// test against.
double delta_e2000(const Lab& first, const Lab& second);

// How colourful people find a photo: 0 gray, 15 slightly, 33 moderately, 59 quite, 109 extremely.
// With the opponent channels rg = R - G and yb = (R + G) / 2 - B of 0..255 values, signed:
//   sqrt(var(rg) + var(yb)) + 0.3 sqrt(mean(rg)^2 + mean(yb)^2)
// Source: Hasler, Suesstrunk, "Measuring colourfulness in natural images", 2003.
double colorfulness(const Image& image);

// [H,W,1] f32 in 0..1: the network's input. Sums are exact integers before one rounding, so a gray
// photo and the same photo saved as RGB give the same bits. Alpha is ignored, here and below.
Tensor luma(const Image& image, const Exec& exec = {});
void luma_row(const Image& image, int64_t y, float* out);  // [W], row y of it

// [H,W,2] f32: a, b in Lab units, the network's target. Within 1e-3 of the definition; exactly 0
// for gray images.
Tensor lab_ab(const Image& image, const Exec& exec = {});

// The photo in colour: its own luma at full resolution, the given chroma.
//   luma  [H,W,1] f32, Y in 0..1     ab  [H,W,2] f32 in Lab units
//   photo H x W, for sample depth, alpha and profile; its colours do not matter
//
//   rgb = lab_to_srgb(L of the gray Y, saturation * ab)
//   d   = rgb - luma(rgb)            a change of colour that has no luma
//   out = Y + t d                    t in [0,1], the largest that keeps every channel in [0,1]
//
// Too strong chroma thus fades at constant luma and direction; clipping channels one by one would
// change both. Rounding: luma is a convex sum of the channels, each rounded by at most 1/2 step, so
// luma(out) is within 1/2 step of Y (plus float error, 0.01 step at 16 bits) and the gray of the
// output is the photo's gray within 1 step.
// Returns 3 channels, or 4 with the photo's alpha untouched. Throws ShapeError.
Image merge_luma_chroma(const Image& photo, const Tensor& luma, const Tensor& ab,
                        float saturation = 1, const Exec& exec = {});

// Row y of it: luma [W], ab [W,2], out the row of an image with the header that `merged` gives.
void merge_row(const Image& photo, int64_t y, const float* luma, const float* ab, float saturation,
               uint8_t* out);
ImageHeader merged(const ImageHeader& photo);

}  // namespace lumachrome
