// The definitions of color.hpp in float, for bulk work: what color.cpp runs over rows and the
// kernels of train/augment_cuda.cu over batches.
#pragma once
#include <array>
#include <bit>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "image/color.hpp"

namespace lumachrome {

template <int N>
constexpr float power(float x) {
    if constexpr (N == 1) {
        return x;
    } else if constexpr (N % 2 == 1) {
        return x * power<N - 1>(x);
    } else {
        const float half = power<N / 2>(x);
        return half * half;
    }
}

// x^(-1/N) for normal x > 0 within 2e-7: neither std::pow nor std::cbrt has a vector form. The bits
// of a float are nearly its logarithm, 2^23 (127 - s + log2 x) with s in 0..0.086; s = 0.05 leaves
// 4 %, and each step, from the binomial series of (1 - e)^(-1/N) with e = 1 - x y^N, leaves about
// the cube of it. No division.
template <int N>
constexpr float inverse_root(float x) {
    constexpr float kBits = static_cast<float>((1 + 1.0 / N) * (127 - 0.05) * (1 << 23));
    constexpr float kFirst = 1.0f / N, kSecond = (N + 1.0f) / (2.0f * N * N);
    const float guess = kBits - static_cast<float>(std::bit_cast<int32_t>(x)) * kFirst;
    float y = std::bit_cast<float>(static_cast<int32_t>(guess));
    for (int step = 0; step < 2; ++step) {
        const float e = 1 - x * power<N>(y);
        y += y * (e * (kFirst + kSecond * e));
    }
    return y;
}

// The definitions of color.hpp in float. Both branches are computed before choosing: selects
// vectorise, jumps do not. Below the threshold the line is chosen, so what the root is
// taken of may start there.
template <class T>
constexpr T at_least(T x, T lowest) {
    return x > lowest ? x : lowest;
}
constexpr float fast_lab_f(float t) {
    constexpr float kEpsilon = static_cast<float>(kLabEpsilon);
    const float x = at_least(t, kEpsilon), inverse = inverse_root<3>(x);
    const float root = x * inverse * inverse;
    const float line = (static_cast<float>(kLabKappa) * t + 16) * (1.0f / 116);
    return t > kEpsilon ? root : line;
}

// A 3x3 matrix in float, columns and rows scaled: XYZ relative to white on one side.
struct Matrix3f {
    float m[3][3];
};
constexpr Matrix3f scaled(const Matrix3& m, std::array<double, 3> rows,
                          std::array<double, 3> columns) {
    Matrix3f out{};
    for (size_t i = 0; i < 3; ++i)
        for (size_t j = 0; j < 3; ++j)
            out.m[i][j] = static_cast<float>(m[i][j] * rows[i] * columns[j]);
    return out;
}
constexpr Matrix3f kRgbToWhite = scaled(kRgbToXyz, {1 / kWhiteX, 1, 1 / kWhiteZ}, {1, 1, 1});

constexpr float dot(const float (&row)[3], float x, float y, float z) {
    return row[0] * x + row[1] * y + row[2] * z;
}

// a, b in Lab units of linear light, 0..1.
struct Chroma {
    float a, b;
};
constexpr Chroma chroma_of(float r, float g, float b) {
    constexpr Matrix3f kWhite = kRgbToWhite;  // a copy, which device code can read
    const float fx = fast_lab_f(dot(kWhite.m[0], r, g, b));
    const float fy = fast_lab_f(dot(kWhite.m[1], r, g, b));
    const float fz = fast_lab_f(dot(kWhite.m[2], r, g, b));
    return {500 * (fx - fy), 200 * (fy - fz)};
}

// Luma of one pixel, gray or RGB as `channels` says (image.hpp). Numerators are below 2^18 (8 bits)
// or 2^26 (16 bits): exact in float or double, then rounded once.
template <class T>
constexpr float luma_of(const T* pixel, int channels) {
    using Real = std::conditional_t<sizeof(T) == 1, float, double>;
    constexpr Real kScale = 1000 * static_cast<Real>((1 << 8 * sizeof(T)) - 1);
    const int sum =
        channels <= 2 ? 1000 * pixel[0] : 299 * pixel[0] + 587 * pixel[1] + 114 * pixel[2];
    return static_cast<float>(static_cast<Real>(sum) / kScale);
}

// Linear light of each sample value: 256 or 65536 floats.
template <class T>
const std::vector<float>& linear_table();

}  // namespace lumachrome
