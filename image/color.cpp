#include "image/color.hpp"

#include <algorithm>
#include <bit>
#include <numbers>
#include <string>
#include <type_traits>
#include <vector>

#include "tensor/error.hpp"

namespace lumachrome {
namespace {

// Bulk loops run over blocks of this many pixels: table look-ups first, then arithmetic on plain
// arrays of fixed length, which compilers turn into vector code. Everything of a block stays in the
// first-level cache.
constexpr int kBlock = 256;

// Calls body(T{}) with the type of the samples.
template <class Body>
auto with_sample_type(const Image& image, const Body& body) {
    return image.bits == 8 ? body(uint8_t{}) : body(uint16_t{});
}

// Cube root for 0 <= x < 1e38 to float precision. A third of the exponent comes from a third of the
// bits (5 bits right; constant of FreeBSD's s_cbrtf.c), and each Halley step triples the right
// bits. std::cbrt has no vector form.
inline float cube_root(float x) {
    float y = std::bit_cast<float>(std::bit_cast<uint32_t>(x) / 3 + 709958130u);
    for (int step = 0; step < 2; ++step) {
        const float y3 = y * y * y;
        y *= (y3 + 2 * x) / (2 * y3 + x);
    }
    return y;
}

// The definitions of color.hpp in float. Both branches are computed before choosing: selects
// vectorise, jumps do not.
inline float fast_lab_f(float t) {
    const float root = cube_root(t), line = (static_cast<float>(kLabKappa) * t + 16) * (1.0f / 116);
    return t > static_cast<float>(kLabEpsilon) ? root : line;
}
inline float fast_lab_f_inverse(float f) {
    const float cube = f * f * f, line = (116 * f - 16) * static_cast<float>(1 / kLabKappa);
    return f > 6.0f / 29 ? cube : line;
}
inline float fast_linear_to_srgb(float x) {
    const float m = std::abs(x), root = cube_root(m);
    const float curve =
        1.055f * root * std::sqrt(std::sqrt(root)) - 0.055f;  // m^(1/2.4) = m^(1/3) m^(1/12)
    const float line = 12.92f * m;
    return std::copysign(m <= 0.0031308f ? line : curve, x);
}

// Linear light of each sample value.
template <class T>
const std::vector<float>& linear_table() {
    static const std::vector<float> table = [] {
        constexpr int kMax = (1 << 8 * sizeof(T)) - 1;
        std::vector<float> values(kMax + 1);
        for (int i = 0; i <= kMax; ++i)
            values[static_cast<size_t>(i)] = static_cast<float>(srgb_to_linear(1.0 * i / kMax));
        return values;
    }();
    return table;
}

// f(linear light) of a gray Y in 0..1, from which L = 116 f - 16. Linear interpolation between 4097
// nodes: the curve's second derivative stays below 10, so the error stays below 10 / (8 * 4096^2) =
// 8e-8.
constexpr int kGrayNodes = 4096;
const std::vector<float>& gray_to_lab_f() {
    static const std::vector<float> table = [] {
        std::vector<float> values(kGrayNodes + 2);
        for (int i = 0; i < kGrayNodes + 2; ++i)
            values[static_cast<size_t>(i)] =
                static_cast<float>(lab_f(srgb_to_linear(1.0 * i / kGrayNodes)));
        return values;
    }();
    return table;
}

// Into [0, high]; NaN becomes 0, so that the conversion to integer which follows is always defined.
inline float clamped(float v, float high) {
    return v > 0 ? (v < high ? v : high) : 0;
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
constexpr Matrix3f kWhiteToRgb = scaled(kXyzToRgb, {1, 1, 1}, {kWhiteX, 1, kWhiteZ});

inline float dot(const float (&row)[3], float x, float y, float z) {
    return row[0] * x + row[1] * y + row[2] * z;
}

// count <= kBlock pixels of RGB or RGBA samples.
template <class T>
void lab_ab_block(const T* samples, int channels, int count, float* ab) {
    const float* linear = linear_table<T>().data();
    float r[kBlock] = {}, g[kBlock] = {}, b[kBlock] = {};
    for (int i = 0; i < count; ++i, samples += channels)
        r[i] = linear[samples[0]], g[i] = linear[samples[1]], b[i] = linear[samples[2]];
    float pairs[2 * kBlock];
    for (int i = 0; i < kBlock; ++i) {
        const float fx = fast_lab_f(dot(kRgbToWhite.m[0], r[i], g[i], b[i]));
        const float fy = fast_lab_f(dot(kRgbToWhite.m[1], r[i], g[i], b[i]));
        const float fz = fast_lab_f(dot(kRgbToWhite.m[2], r[i], g[i], b[i]));
        pairs[2 * i] = 500 * (fx - fy), pairs[2 * i + 1] = 200 * (fy - fz);
    }
    std::copy_n(pairs, 2 * count, ab);
}

template <class T>
void merge_block(const T* photo, int photo_channels, const float* gray, const float* chroma,
                 float saturation, int count, T* out, int out_channels) {
    constexpr float kMax = std::is_same_v<T, uint8_t> ? 255.0f : 65535.0f;
    const float* lab_f_of = gray_to_lab_f().data();
    float y[kBlock] = {}, f[kBlock] = {}, a[kBlock] = {}, b[kBlock] = {};
    for (int i = 0; i < count; ++i) {
        y[i] = clamped(gray[i], 1), a[i] = chroma[2 * i], b[i] = chroma[2 * i + 1];
        const float node = y[i] * kGrayNodes;
        const int floor = static_cast<int>(node);
        f[i] = lab_f_of[floor] +
               (node - static_cast<float>(floor)) * (lab_f_of[floor + 1] - lab_f_of[floor]);
    }
    float rgb[3][kBlock];
    const float per_a = saturation / 500, per_b = saturation / 200;
    for (int i = 0; i < kBlock; ++i) {
        const float x = fast_lab_f_inverse(f[i] + a[i] * per_a), white_y = fast_lab_f_inverse(f[i]),
                    z = fast_lab_f_inverse(f[i] - b[i] * per_b);
        float d[3];
        for (int c = 0; c < 3; ++c)
            d[c] = fast_linear_to_srgb(dot(kWhiteToRgb.m[c], x, white_y, z));
        const float own = static_cast<float>(kLumaR) * d[0] + static_cast<float>(kLumaG) * d[1] +
                          static_cast<float>(kLumaB) * d[2];
        float t = 1;
        for (float& channel : d) {
            channel -= own;
            const float room = channel > 0 ? 1 - y[i] : y[i], need = std::abs(channel);
            const float fits =
                room / (need + 1e-12f);  // the sum keeps 0/0 away from neutral pixels
            t = fits < t ? fits : t;
        }
        for (int c = 0; c < 3; ++c) rgb[c][i] = clamped((y[i] + t * d[c]) * kMax + 0.5f, kMax);
    }
    for (int i = 0; i < count; ++i, out += out_channels, photo += photo_channels) {
        for (int c = 0; c < 3; ++c) out[c] = static_cast<T>(static_cast<int>(rgb[c][i]));
        if (out_channels == 4) out[3] = photo[photo_channels - 1];
    }
}

double square(double v) {
    return v * v;
}

}  // namespace

Tensor luma(const Image& image) {
    Tensor result = Tensor::empty({image.height, image.width, 1}, DType::f32);
    float* out = result.data<float>();
    const int64_t count = image.width * image.height;
    with_sample_type(image, [&]<class T>(T) {
        // Numerators are below 2^18 (8 bits) or 2^26 (16 bits): exact in float or double, then
        // rounded once.
        using Real = std::conditional_t<sizeof(T) == 1, float, double>;
        constexpr Real kScale = 1000 * static_cast<Real>((1 << 8 * sizeof(T)) - 1);
        const T* in = image.row<T>(0);
        const auto fill = [&](auto channels, auto numerator) {
            for (int64_t i = 0; i < count; ++i)
                out[i] =
                    static_cast<float>(static_cast<Real>(numerator(in + i * channels())) / kScale);
        };
        const auto gray = [](const T* p) { return 1000 * p[0]; };
        const auto rgb = [](const T* p) { return 299 * p[0] + 587 * p[1] + 114 * p[2]; };
        switch (image.channels) {
            case 1:
                fill(std::integral_constant<int, 1>{}, gray);
                break;
            case 2:
                fill(std::integral_constant<int, 2>{}, gray);
                break;
            case 3:
                fill(std::integral_constant<int, 3>{}, rgb);
                break;
            default:
                fill(std::integral_constant<int, 4>{}, rgb);
                break;
        }
    });
    return result;
}

Tensor lab_ab(const Image& image) {
    const Shape shape{image.height, image.width, 2};
    if (image.gray()) return Tensor::zeros(shape, DType::f32);
    Tensor result = Tensor::empty(shape, DType::f32);
    float* ab = result.data<float>();
    const int64_t pixels = image.width * image.height;
    with_sample_type(image, [&]<class T>(T) {
        const T* in = image.row<T>(0);
        for (int64_t i = 0; i < pixels; i += kBlock) {
            const int count = static_cast<int>(std::min<int64_t>(kBlock, pixels - i));
            lab_ab_block(in + i * image.channels, image.channels, count, ab + 2 * i);
        }
    });
    return result;
}

Image merge_luma_chroma(const Image& photo, const Tensor& luma, const Tensor& ab,
                        float saturation) {
    const Shape want_luma{photo.height, photo.width, 1}, want_ab{photo.height, photo.width, 2};
    if (luma.shape() != want_luma || ab.shape() != want_ab)
        throw ShapeError("merge_luma_chroma: luma " + luma.shape().str() + " and ab " +
                         ab.shape().str() + ", the photo needs " + want_luma.str() + " and " +
                         want_ab.str());
    Image out = Image::make(photo.width, photo.height, photo.has_alpha() ? 4 : 3, photo.bits);
    out.icc = photo.icc;
    const float *gray = luma.data<float>(), *chroma = ab.data<float>();
    const int64_t pixels = photo.width * photo.height;
    with_sample_type(photo, [&]<class T>(T) {
        const T* in = photo.row<T>(0);
        T* to = out.row<T>(0);
        for (int64_t i = 0; i < pixels; i += kBlock) {
            const int count = static_cast<int>(std::min<int64_t>(kBlock, pixels - i));
            merge_block(in + i * photo.channels, photo.channels, gray + i, chroma + 2 * i,
                        saturation, count, to + i * out.channels, out.channels);
        }
    });
    return out;
}

double colorfulness(const Image& image) {
    if (image.gray()) return 0;
    double sum_rg = 0, sum_yb = 0, squares = 0;
    const int64_t pixels = image.width * image.height;
    with_sample_type(image, [&]<class T>(T) {
        constexpr double kStep = sizeof(T) == 1 ? 1 : 255.0 / 65535;
        const T* p = image.row<T>(0);
        for (int64_t i = 0; i < pixels; ++i, p += image.channels) {
            const double rg = kStep * (p[0] - p[1]), yb = kStep * (0.5 * (p[0] + p[1]) - p[2]);
            sum_rg += rg, sum_yb += yb, squares += rg * rg + yb * yb;
        }
    });
    const double n = static_cast<double>(pixels),
                 mean_squares = square(sum_rg / n) + square(sum_yb / n);
    return std::sqrt(std::max(0.0, squares / n - mean_squares)) + 0.3 * std::sqrt(mean_squares);
}

double delta_e2000(const Lab& first, const Lab& second) {
    constexpr double kDegree = std::numbers::pi / 180, kTurn = 2 * std::numbers::pi;
    const auto pow7 = [](double v) { return std::pow(v, 7); };
    const auto chroma_weight = [&](double chroma) {
        return std::sqrt(pow7(chroma) / (pow7(chroma) + pow7(25)));
    };

    // a is stretched near the gray axis; chroma C and hue h are polar coordinates of the result.
    const double g =
        0.5 *
        (1 - chroma_weight((std::hypot(first.a, first.b) + std::hypot(second.a, second.b)) / 2));
    const double a1 = (1 + g) * first.a, a2 = (1 + g) * second.a;
    const double c1 = std::hypot(a1, first.b), c2 = std::hypot(a2, second.b);
    const auto hue = [&](double a, double b) {
        const double angle = std::atan2(b, a);
        return angle < 0 ? angle + kTurn : angle;
    };
    const double h1 = hue(a1, first.b), h2 = hue(a2, second.b);

    // Hues live on a circle: difference the short way round, mean on the short arc; undefined for
    // gray.
    const bool hued = c1 * c2 > 0, across = std::abs(h2 - h1) > std::numbers::pi;
    const double dh = !hued ? 0 : across ? h2 - h1 - std::copysign(kTurn, h2 - h1) : h2 - h1;
    const double sum_h = h1 + h2;
    const double mean_h = !hued     ? sum_h
                          : !across ? sum_h / 2
                                    : (sum_h < kTurn ? sum_h + kTurn : sum_h - kTurn) / 2;
    const double dl = second.l - first.l, dc = c2 - c1,
                 big_dh = 2 * std::sqrt(c1 * c2) * std::sin(dh / 2);

    const double mean_c = (c1 + c2) / 2, from_50 = square((first.l + second.l) / 2 - 50);
    const double t = 1 - 0.17 * std::cos(mean_h - 30 * kDegree) + 0.24 * std::cos(2 * mean_h) +
                     0.32 * std::cos(3 * mean_h + 6 * kDegree) -
                     0.20 * std::cos(4 * mean_h - 63 * kDegree);
    const double sl = 1 + 0.015 * from_50 / std::sqrt(20 + from_50);
    const double sc = 1 + 0.045 * mean_c, sh = 1 + 0.015 * mean_c * t;
    const double rotation = 30 * kDegree * std::exp(-square((mean_h / kDegree - 275) / 25));
    const double rt = -2 * chroma_weight(mean_c) * std::sin(2 * rotation);
    return std::sqrt(square(dl / sl) + square(dc / sc) + square(big_dh / sh) +
                     rt * (dc / sc) * (big_dh / sh));
}

}  // namespace lumachrome
