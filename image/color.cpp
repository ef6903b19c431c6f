#include "image/color.hpp"

#include <algorithm>
#include <numbers>
#include <string>
#include <type_traits>
#include <vector>

#include "image/color_float.hpp"
#include "tensor/error.hpp"

namespace lumachrome {
namespace {

// Bulk loops run over blocks of this many pixels: table look-ups first, then arithmetic on plain
// arrays of fixed length, which compilers turn into vector code. Everything of a block stays in the
// first-level cache.
constexpr int kBlock = 256;

// body(y) for every row, in pieces of about 2^15 pixels: merging one takes 0.2 ms.
template <class Body>
void for_rows(const Exec& exec, const Image& image, const Body& body) {
    constexpr int64_t kPiece = 1 << 15;
    const int64_t rows = std::max<int64_t>(1, kPiece / image.width);
    const auto piece = [&](int64_t begin, int64_t end) {
        for (int64_t y = begin; y < end; ++y) body(y);
    };
    parallel_chunks(exec, image.height, piece, rows);
}

// Calls body(T{}) with the type of the samples.
template <class Body>
auto with_sample_type(const Image& image, const Body& body) {
    return image.bits == 8 ? body(uint8_t{}) : body(uint16_t{});
}

inline float fast_lab_f_inverse(float f) {
    const float cube = f * f * f, line = (116 * f - 16) * static_cast<float>(1 / kLabKappa);
    return f > 6.0f / 29 ? cube : line;
}
inline float fast_linear_to_srgb(float x) {
    constexpr float kBend = 0.0031308f;
    const float m = std::abs(x), root = std::sqrt(at_least(m, kBend));
    const float curve = 1.055f * root * inverse_root<6>(root) - 0.055f;  // m^(1/2.4) = root^(5/6)
    const float line = 12.92f * m;
    return std::copysign(m <= kBend ? line : curve, x);
}
// lab_f(srgb_to_linear(y)), from which L = 116 f - 16. Above the bend f is cbrt(u^2.4) = u^0.8 and
// the linear light its cube.
inline float fast_gray_to_lab_f(float y) {
    const float u = (y + 0.055f) * (1 / 1.055f), root = u * inverse_root<5>(u);
    const float linear = y <= 0.04045f ? y * (1 / 12.92f) : root * root * root;
    const float line = (static_cast<float>(kLabKappa) * linear + 16) * (1.0f / 116);
    return linear > static_cast<float>(kLabEpsilon) ? root : line;
}

// Into [0, high]; NaN becomes 0, so that the conversion to integer which follows is always defined.
inline float clamped(float v, float high) {
    return v > 0 ? (v < high ? v : high) : 0;
}

constexpr Matrix3f kWhiteToRgb = scaled(kXyzToRgb, {1, 1, 1}, {kWhiteX, 1, kWhiteZ});

// count <= kBlock pixels of RGB or RGBA samples.
template <class T>
void lab_ab_block(const T* samples, int channels, int count, float* ab) {
    const float* linear = linear_table<T>().data();
    float r[kBlock] = {}, g[kBlock] = {}, b[kBlock] = {};
    for (int i = 0; i < count; ++i, samples += channels)
        r[i] = linear[samples[0]], g[i] = linear[samples[1]], b[i] = linear[samples[2]];
    float pairs[2 * kBlock];
    for (int i = 0; i < kBlock; ++i) {
        const Chroma chroma = chroma_of(r[i], g[i], b[i]);
        pairs[2 * i] = chroma.a, pairs[2 * i + 1] = chroma.b;
    }
    std::copy_n(pairs, 2 * count, ab);
}

template <class T>
void merge_block(const T* photo, int photo_channels, const float* gray, const float* chroma,
                 float saturation, int count, T* out, int out_channels) {
    constexpr float kMax = std::is_same_v<T, uint8_t> ? 255.0f : 65535.0f;
    float y[kBlock] = {}, pairs[2 * kBlock] = {};
    std::copy_n(gray, count, y);
    std::copy_n(chroma, 2 * count, pairs);
    // Small loops: GCC gives up on one that does all of it.
    float f[kBlock], r[kBlock], g[kBlock], b[kBlock];
    for (int i = 0; i < kBlock; ++i) y[i] = clamped(y[i], 1);
    for (int i = 0; i < kBlock; ++i) f[i] = fast_gray_to_lab_f(y[i]);
    const float per_a = saturation / 500, per_b = saturation / 200;
    for (int i = 0; i < kBlock; ++i) {
        const float x = fast_lab_f_inverse(f[i] + pairs[2 * i] * per_a),
                    white_y = fast_lab_f_inverse(f[i]),
                    z = fast_lab_f_inverse(f[i] - pairs[2 * i + 1] * per_b);
        r[i] = dot(kWhiteToRgb.m[0], x, white_y, z), g[i] = dot(kWhiteToRgb.m[1], x, white_y, z),
        b[i] = dot(kWhiteToRgb.m[2], x, white_y, z);
    }
    for (float* channel : {r, g, b})
        for (int i = 0; i < kBlock; ++i) channel[i] = fast_linear_to_srgb(channel[i]);
    T rgb[3][kBlock];
    for (int i = 0; i < kBlock; ++i) {
        const float own = static_cast<float>(kLumaR) * r[i] + static_cast<float>(kLumaG) * g[i] +
                          static_cast<float>(kLumaB) * b[i];
        const float d[3] = {r[i] - own, g[i] - own, b[i] - own};
        // The channel that rises most meets 1 first, the one that falls most meets 0 (rounding may
        // leave none of either). The sums keep
        // 0/0 away from neutral pixels.
        const float up = at_least(at_least(at_least(d[0], d[1]), d[2]), 0.0f);
        const float down = at_least(at_least(at_least(-d[0], -d[1]), -d[2]), 0.0f);
        const float high = (1 - y[i]) / (up + 1e-12f), low = y[i] / (down + 1e-12f);
        const float fits = high < low ? high : low, t = fits < 1 ? fits : 1;
        for (int c = 0; c < 3; ++c)
            rgb[c][i] =
                static_cast<T>(static_cast<int>(clamped((y[i] + t * d[c]) * kMax + 0.5f, kMax)));
    }
    if (out_channels == 3) {
        for (int i = 0; i < count; ++i)
            out[3 * i] = rgb[0][i], out[3 * i + 1] = rgb[1][i], out[3 * i + 2] = rgb[2][i];
    } else {
        for (int i = 0; i < count; ++i, out += 4, photo += photo_channels)
            out[0] = rgb[0][i], out[1] = rgb[1][i], out[2] = rgb[2][i],
            out[3] = photo[photo_channels - 1];
    }
}

double square(double v) {
    return v * v;
}

}  // namespace

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
template const std::vector<float>& linear_table<uint8_t>();
template const std::vector<float>& linear_table<uint16_t>();

void luma_row(const Image& image, int64_t y, float* out) {
    const int64_t count = image.width;
    with_sample_type(image, [&]<class T>(T) {
        const T* in = image.row<T>(y);
        const auto fill = [&](auto channels) {
            for (int64_t i = 0; i < count; ++i) out[i] = luma_of(in + i * channels(), channels());
        };
        switch (image.channels) {
            case 1:
                return fill(std::integral_constant<int, 1>{});
            case 2:
                return fill(std::integral_constant<int, 2>{});
            case 3:
                return fill(std::integral_constant<int, 3>{});
            default:
                return fill(std::integral_constant<int, 4>{});
        }
    });
}

Tensor luma(const Image& image, const Exec& exec) {
    Tensor result = Tensor::empty({image.height, image.width, 1}, DType::f32);
    float* out = result.data<float>();
    for_rows(exec, image, [&](int64_t y) { luma_row(image, y, out + y * image.width); });
    return result;
}

Tensor lab_ab(const Image& image, const Exec& exec) {
    const Shape shape{image.height, image.width, 2};
    if (image.gray()) return Tensor::zeros(shape, DType::f32);
    Tensor result = Tensor::empty(shape, DType::f32);
    float* ab = result.data<float>();
    with_sample_type(image, [&]<class T>(T) {
        for_rows(exec, image, [&](int64_t y) {
            const T* in = image.row<T>(y);
            float* out = ab + 2 * image.width * y;
            for (int64_t i = 0; i < image.width; i += kBlock) {
                const int count = static_cast<int>(std::min<int64_t>(kBlock, image.width - i));
                lab_ab_block(in + i * image.channels, image.channels, count, out + 2 * i);
            }
        });
    });
    return result;
}

ImageHeader merged(const ImageHeader& photo) {
    ImageHeader header = photo;
    header.channels = photo.has_alpha() ? 4 : 3;
    return header;
}

void merge_row(const Image& photo, int64_t y, const float* luma, const float* ab, float saturation,
               uint8_t* out) {
    const int channels = photo.has_alpha() ? 4 : 3;
    with_sample_type(photo, [&]<class T>(T) {
        const T* in = photo.row<T>(y);
        T* to = reinterpret_cast<T*>(out);
        for (int64_t i = 0; i < photo.width; i += kBlock) {
            const int count = static_cast<int>(std::min<int64_t>(kBlock, photo.width - i));
            merge_block(in + i * photo.channels, photo.channels, luma + i, ab + 2 * i, saturation,
                        count, to + i * channels, channels);
        }
    });
}

Image merge_luma_chroma(const Image& photo, const Tensor& luma, const Tensor& ab, float saturation,
                        const Exec& exec) {
    const Shape want_luma{photo.height, photo.width, 1}, want_ab{photo.height, photo.width, 2};
    if (luma.shape() != want_luma || ab.shape() != want_ab)
        throw ShapeError("merge_luma_chroma: luma " + luma.shape().str() + " and ab " +
                         ab.shape().str() + ", the photo needs " + want_luma.str() + " and " +
                         want_ab.str());
    const ImageHeader header = merged(photo);
    Image out = Image::make(header.width, header.height, header.channels, header.bits);
    out.icc = header.icc;
    out.metadata = header.metadata;
    const float *gray = luma.data<float>(), *chroma = ab.data<float>();
    for_rows(exec, photo, [&](int64_t y) {
        merge_row(photo, y, gray + y * photo.width, chroma + 2 * y * photo.width, saturation,
                  out.row<uint8_t>(y));
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
