// Both axes of a transform go through a small buffer in L1: 64 values do not fit the registers.
#include "layers/isa/winograd_tiles.hpp"

#include "layers/extents.hpp"
#include "layers/isa/epilogue.hpp"

namespace lumachrome::LUMACHROME_ISA {
namespace {

// Points 0, +-a, +-b, infinity with a b = 1; even and odd powers are shared by a point and its
// opposite.
struct F4 {
    static constexpr int64_t kOut = 4, kIn = 6;
    static constexpr float kA = 0.70710678118654752f, kB = 1.41421356237309505f;

    // B^T
    [[gnu::always_inline]] static inline void input(const Vector (&d)[kIn], Vector (&v)[kIn]) {
        v[0] = d[0] - 2.5f * d[2] + d[4];
        const Vector ea = d[4] - 2.0f * d[2], oa = kA * (d[3] - 2.0f * d[1]);
        v[1] = ea + oa;
        v[2] = ea - oa;
        const Vector eb = d[4] - 0.5f * d[2], ob = kB * (d[3] - 0.5f * d[1]);
        v[3] = eb + ob;
        v[4] = eb - ob;
        v[5] = d[1] - 2.5f * d[3] + d[5];
    }
    // A^T
    [[gnu::always_inline]] static inline void output(const Vector (&m)[kIn], Vector (&y)[kOut]) {
        const Vector sa = m[1] + m[2], da = m[1] - m[2];
        const Vector sb = m[3] + m[4], db = m[3] - m[4];
        y[0] = m[0] + sa + sb;
        y[1] = kA * da + kB * db;
        y[2] = 0.5f * sa + 2.0f * sb;
        y[3] = (0.5f * kA) * da + (2.0f * kB) * db + m[5];
    }
    // A
    [[gnu::always_inline]] static inline void output_grad(const Vector (&y)[kOut],
                                                          Vector (&z)[kIn]) {
        z[0] = y[0];
        const Vector ea = y[0] + 0.5f * y[2], oa = kA * (y[1] + 0.5f * y[3]);
        z[1] = ea + oa;
        z[2] = ea - oa;
        const Vector eb = y[0] + 2.0f * y[2], ob = kB * (y[1] + 2.0f * y[3]);
        z[3] = eb + ob;
        z[4] = eb - ob;
        z[5] = y[3];
    }
    // G
    [[gnu::always_inline]] static inline void weights(const Vector (&g)[3], Vector (&u)[kIn]) {
        u[0] = g[0];
        const Vector ea = (-2 / 3.0f) * (g[0] + 0.5f * g[2]), oa = (-2 / 3.0f) * kA * g[1];
        u[1] = ea + oa;
        u[2] = ea - oa;
        const Vector eb = (1 / 6.0f) * (g[0] + 2.0f * g[2]), ob = (1 / 6.0f) * kB * g[1];
        u[3] = eb + ob;
        u[4] = eb - ob;
        u[5] = g[2];
    }
    // G^T
    [[gnu::always_inline]] static inline void weights_grad(const Vector (&u)[kIn], Vector (&g)[3]) {
        const Vector sa = (-2 / 3.0f) * (u[1] + u[2]), da = (-2 / 3.0f) * (u[1] - u[2]);
        const Vector sb = (1 / 6.0f) * (u[3] + u[4]), db = (1 / 6.0f) * (u[3] - u[4]);
        g[0] = u[0] + sa + sb;
        g[1] = kA * da + kB * db;
        g[2] = 0.5f * sa + 2.0f * sb + u[5];
    }
};

// Points 0, +-1, +-2, +-1/2, infinity: reciprocal pairs make many coefficients 1. Measured against
// double with 64 to 512 channels, relative to all outputs (root of the mean square) and to the
// largest one (largest error):
//   F(6x6,3x3)   3e-6 to 7e-6   7e-6 to 3e-5
//   F(4x4,3x3)   7e-7 to 2e-6   1e-6 to 4e-6
// The points 1/2, 1, 1.8 come to 14 % less for more work, c = 1.75 to the same, 1.5 and 2.5 to 70
// and 26 % more.
struct F6 {
    static constexpr int64_t kOut = 6, kIn = 8;
    static constexpr double kC = 2, kC2 = kC * kC, kE = 1 / kC, kE2 = kE * kE, kS = kC2 + kE2;

    [[gnu::always_inline]] static inline void input(const Vector (&d)[kIn], Vector (&v)[kIn]) {
        constexpr float s = kS, s1 = kS + 1, c = kC, c2 = kC2, c21 = 1 + kC2, e = kE, e2 = kE2,
                        e21 = 1 + kE2;
        v[0] = (d[6] - d[0]) + s1 * (d[2] - d[4]);
        const Vector e_one = (d[6] + d[2]) - s * d[4], o_one = (d[5] + d[1]) - s * d[3];
        v[1] = e_one + o_one;
        v[2] = e_one - o_one;
        const Vector e_c = d[6] - e21 * d[4] + e2 * d[2], o_c = d[5] - e21 * d[3] + e2 * d[1];
        v[3] = e_c + c * o_c;
        v[4] = e_c - c * o_c;
        const Vector e_e = d[6] - c21 * d[4] + c2 * d[2], o_e = d[5] - c21 * d[3] + c2 * d[1];
        v[5] = e_e + e * o_e;
        v[6] = e_e - e * o_e;
        v[7] = (d[7] - d[1]) + s1 * (d[3] - d[5]);
    }
    [[gnu::always_inline]] static inline void output(const Vector (&m)[kIn], Vector (&y)[kOut]) {
        constexpr float c = kC, c2 = kC2, c3 = kC2 * kC, c4 = kC2 * kC2, c5 = c4 * kC, e = kE,
                        e2 = kE2, e3 = kE2 * kE, e4 = kE2 * kE2, e5 = kE2 * kE2 * kE;
        const Vector s1 = m[1] + m[2], d1 = m[1] - m[2];
        const Vector sc = m[3] + m[4], dc = m[3] - m[4];
        const Vector se = m[5] + m[6], de = m[5] - m[6];
        y[0] = (m[0] + s1) + (sc + se);
        y[1] = d1 + c * dc + e * de;
        y[2] = s1 + c2 * sc + e2 * se;
        y[3] = d1 + c3 * dc + e3 * de;
        y[4] = s1 + c4 * sc + e4 * se;
        y[5] = (d1 + m[7]) + c5 * dc + e5 * de;
    }
    [[gnu::always_inline]] static inline void weights(const Vector (&g)[3], Vector (&u)[kIn]) {
        constexpr auto one = static_cast<float>(1 / (2 * (2 - kS)));
        constexpr float c = kC, c2 = kC2, e = kE, e2 = kE2;
        constexpr auto nc = static_cast<float>(1 / (2 * kC2 * (kC2 - 1) * (kC2 - kE2)));
        constexpr auto ne = static_cast<float>(1 / (2 * kE2 * (kE2 - 1) * (kE2 - kC2)));
        u[0] = -g[0];
        const Vector e1 = one * (g[0] + g[2]), o1 = one * g[1];
        u[1] = e1 + o1;
        u[2] = e1 - o1;
        const Vector ec = nc * (g[0] + c2 * g[2]), oc = (nc * c) * g[1];
        u[3] = ec + oc;
        u[4] = ec - oc;
        const Vector ee = ne * (g[0] + e2 * g[2]), oe = (ne * e) * g[1];
        u[5] = ee + oe;
        u[6] = ee - oe;
        u[7] = g[2];
    }
};

// One register of lanes of one window, `kFrom` x `kFrom` pixels to `kTo` x `kTo` frequencies. The
// window of the next tile, `next` elements further, is fetched meanwhile.
template <int64_t kFrom, int64_t kTo, bool kWhole, class Axis>
[[gnu::always_inline]] inline void forward_tile(const float* from, int64_t row, int64_t pixel,
                                                int64_t channels, const WinogradWindow& w,
                                                int64_t next, float* v, int64_t stride,
                                                const Axis& axis) {
    Vector half[kFrom][kTo];
#pragma GCC unroll 1
    for (int64_t r = 0; r < kFrom; ++r, from += row) {
        Vector d[kFrom], t[kTo];
#pragma GCC unroll 8
        for (int64_t s = 0; s < kFrom; ++s) {
            __builtin_prefetch(from + next + s * pixel);
            if (kWhole)
                d[s] = load(from + s * pixel);
            else if (r >= w.row_begin && r < w.row_end && s >= w.col_begin && s < w.col_end)
                d[s] = load(from + s * pixel, channels);
            else
                d[s] = Vector{};
        }
        axis(d, t);
#pragma GCC unroll 8
        for (int64_t s = 0; s < kTo; ++s) half[r][s] = t[s];
    }
#pragma GCC unroll 1
    for (int64_t s = 0; s < kTo; ++s, v += stride) {
        Vector d[kFrom], t[kTo];
#pragma GCC unroll 8
        for (int64_t r = 0; r < kFrom; ++r) d[r] = half[r][s];
        axis(d, t);
#pragma GCC unroll 8
        for (int64_t r = 0; r < kTo; ++r) {
            float* const to = v + r * kTo * stride;
            __builtin_prefetch(to + kPanel, 1);
            store(to, t[r]);
        }
    }
}

template <int64_t kFrom, int64_t kTo, class Axis>
[[gnu::always_inline]] inline void forward_tiles(const WinogradMap<const float>& x,
                                                 const WinogradWindow* windows, int64_t count,
                                                 float* v, int64_t stride, const Axis& axis) {
    const int64_t row = x.row, pixel = x.pixel, channels = x.channels;
    for (int64_t i = 0; i < count; ++i, v += kPanel) {
        const WinogradWindow& w = windows[i];
        const int64_t next = i + 1 < count ? windows[i + 1].offset - w.offset : 0;
        const bool whole = w.inside(kFrom) && channels >= kPanel;
        for (int64_t h = 0; h < kPanel; h += kLanes) {
            const float* from = x.data + w.offset + h;
            if (whole)
                forward_tile<kFrom, kTo, true>(from, row, pixel, kLanes, w, next, v + h, stride,
                                               axis);
            else
                forward_tile<kFrom, kTo, false>(from, row, pixel, channels - h, w, next, v + h,
                                                stride, axis);
        }
    }
}

template <class F>
void input(const WinogradMap<const float>& x, const WinogradWindow* windows, int64_t count,
           float* v, int64_t stride) {
    forward_tiles<F::kIn, F::kIn>(
        x, windows, count, v, stride,
        [](const Vector(&d)[F::kIn], Vector(&t)[F::kIn]) { F::input(d, t); });
}

template <class F>
void output_grad(const WinogradMap<const float>& dy, const WinogradWindow* windows, int64_t count,
                 float* z, int64_t stride) {
    forward_tiles<F::kOut, F::kIn>(
        dy, windows, count, z, stride,
        [](const Vector(&d)[F::kOut], Vector(&t)[F::kIn]) { F::output_grad(d, t); });
}

template <class F, Epilogue kEpilogue, bool kWhole>
[[gnu::always_inline]] inline void output_tile(const float* m, int64_t stride, float* y,
                                               int64_t row, int64_t pixel, int64_t channels,
                                               const WinogradWindow& w, const int64_t* position,
                                               Vector bias, const float* border_bias,
                                               const WinogradFinish& finish) {
    constexpr int64_t kIn = F::kIn, kOut = F::kOut;
    Vector half[kOut][kIn];
#pragma GCC unroll 1
    for (int64_t s = 0; s < kIn; ++s, m += stride) {
        Vector d[kIn], t[kOut];
#pragma GCC unroll 8
        for (int64_t r = 0; r < kIn; ++r) d[r] = load(m + r * kIn * stride);
        F::output(d, t);
#pragma GCC unroll 8
        for (int64_t r = 0; r < kOut; ++r) half[r][s] = t[r];
    }
    const int64_t rows = kWhole ? kOut : w.row_end;
#pragma GCC unroll 1
    for (int64_t r = 0; r < rows; ++r, y += row) {
        Vector d[kIn], t[kOut];
#pragma GCC unroll 8
        for (int64_t s = 0; s < kIn; ++s) d[s] = half[r][s];
        F::output(d, t);
        if (kWhole) {
#pragma GCC unroll 8
            for (int64_t s = 0; s < kOut; ++s)
                stream(y + s * pixel, activated<kEpilogue>(t[s] + bias));
            continue;
        }
#pragma GCC unroll 8
        for (int64_t s = 0; s < kOut; ++s) {
            if (s >= w.col_end) continue;
            float* const to = y + s * pixel;
            Vector own = bias;
            if (border_bias) {
                const int64_t which = border_case(position[0] + r, finish.rows) * 4 +
                                      border_case(position[1] + s, finish.cols);
                own = load(border_bias + which * finish.border_stride, channels);
            }
            Vector v = activated<kEpilogue>(t[s] + own);
            if (finish.add) v += load(to, channels);
            store(to, v, channels);
        }
    }
}

template <class F, Epilogue kEpilogue>
void output_tiles(const float* m, int64_t stride, const WinogradMap<float>& y,
                  const WinogradWindow* windows, const int64_t (*positions)[2], int64_t count,
                  const WinogradFinish& finish) {
    const int64_t row = y.row, pixel = y.pixel;
    for (int64_t i = 0; i < count; ++i, m += kPanel) {
        const WinogradWindow& w = windows[i];
        const bool at_border = finish.border_stride &&
                               (positions[i][0] == 0 || positions[i][0] + F::kOut >= finish.rows ||
                                positions[i][1] == 0 || positions[i][1] + F::kOut >= finish.cols);
        const bool whole = w.inside(F::kOut) && y.channels >= kPanel && !at_border && !finish.add;
        for (int64_t h = 0; h < kPanel && h < y.channels; h += kLanes) {
            const int64_t channels = y.channels - h;
            const Vector bias = finish.bias ? load(finish.bias + h, channels) : Vector{};
            float* const to = y.data + w.offset + h;
            if (whole)
                output_tile<F, kEpilogue, true>(m + h, stride, to, row, pixel, kLanes, w, nullptr,
                                                bias, nullptr, finish);
            else
                output_tile<F, kEpilogue, false>(m + h, stride, to, row, pixel, channels, w,
                                                 positions ? positions[i] : nullptr, bias,
                                                 at_border ? finish.bias + h : nullptr, finish);
        }
    }
    end_stream();
}

template <class F>
void output(const float* m, int64_t stride, const WinogradMap<float>& y,
            const WinogradWindow* windows, const int64_t (*positions)[2], int64_t count,
            const WinogradFinish& finish) {
    const auto run = finish.epilogue == Epilogue::relu      ? output_tiles<F, Epilogue::relu>
                     : finish.epilogue == Epilogue::sigmoid ? output_tiles<F, Epilogue::sigmoid>
                                                            : output_tiles<F, Epilogue::none>;
    run(m, stride, y, windows, positions, count, finish);
}

template <class F>
void weights(const float* w, int64_t tap, int64_t channels, float* u, int64_t stride) {
    constexpr int64_t kIn = F::kIn;
    Vector half[3][kIn];
    for (int64_t r = 0; r < 3; ++r) {
        Vector g[3], t[kIn];
#pragma GCC unroll 3
        for (int64_t s = 0; s < 3; ++s) g[s] = load(w + (r * 3 + s) * tap, channels);
        F::weights(g, t);
#pragma GCC unroll 8
        for (int64_t s = 0; s < kIn; ++s) half[r][s] = t[s];
    }
    for (int64_t s = 0; s < kIn; ++s) {
        const Vector g[3] = {half[0][s], half[1][s], half[2][s]};
        Vector t[kIn];
        F::weights(g, t);
#pragma GCC unroll 8
        for (int64_t r = 0; r < kIn; ++r) store(u + (r * kIn + s) * stride, t[r]);
    }
}

template <class F>
void weights_grad(const float* du, int64_t stride, int64_t channels, float* dw, int64_t tap,
                  bool add) {
    constexpr int64_t kIn = F::kIn;
    Vector half[3][kIn];
    for (int64_t s = 0; s < kIn; ++s) {
        Vector u[kIn], g[3];
#pragma GCC unroll 8
        for (int64_t r = 0; r < kIn; ++r) u[r] = load(du + (r * kIn + s) * stride);
        F::weights_grad(u, g);
#pragma GCC unroll 3
        for (int64_t r = 0; r < 3; ++r) half[r][s] = g[r];
    }
    for (int64_t r = 0; r < 3; ++r) {
        Vector u[kIn], g[3];
#pragma GCC unroll 8
        for (int64_t s = 0; s < kIn; ++s) u[s] = half[r][s];
        F::weights_grad(u, g);
        for (int64_t s = 0; s < 3; ++s) {
            float* to = dw + (r * 3 + s) * tap;
            store(to, add ? g[s] + load(to, channels) : g[s], channels);
        }
    }
}

}  // namespace

extern const WinogradTiles winograd_tiles;
const WinogradTiles winograd_tiles{
    {4, 6, 36, input<F4>, output<F4>, weights<F4>, output_grad<F4>, weights_grad<F4>},
    {6, 8, 64, input<F6>, output<F6>, weights<F6>, nullptr, nullptr}};

}  // namespace lumachrome::LUMACHROME_ISA
