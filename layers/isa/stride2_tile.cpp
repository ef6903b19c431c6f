// Transforms of conv2d_prepared_stride2.cpp, which has the equations and the order of positions.
#include "layers/conv2d_tiles.hpp"
#include "layers/isa/epilogue.hpp"

namespace lumachrome::LUMACHROME_ISA {
namespace {

// One axis, in place of the samples: m + 1 frequencies of the odd samples, m even samples.
template <int64_t kOut>
struct Axis;

template <>
struct Axis<2> {
    [[gnu::always_inline]] static inline void input(const Vector (&x)[5], Vector (&v)[5]) {
        v[0] = x[0] - x[2];
        v[1] = x[2];
        v[2] = x[4] - x[2];
        v[3] = x[1];
        v[4] = x[3];
    }
    [[gnu::always_inline]] static inline void output(const Vector (&m)[5], Vector (&y)[2]) {
        y[0] = m[0] + m[1] + m[3];
        y[1] = m[1] + m[2] + m[4];
    }
};

template <>
struct Axis<4> {
    static constexpr float kA = kStride2PointA, kB = kStride2PointB;
    static constexpr float kA2 = kA * kA, kB2 = kB * kB;

    [[gnu::always_inline]] static inline void input(const Vector (&x)[9], Vector (&v)[9]) {
        const Vector a0 = x[4] - kB2 * x[0], a1 = x[6] - kB2 * x[2];
        const Vector b0 = x[4] - kA2 * x[0], b1 = x[6] - kA2 * x[2];
        v[0] = a1 + kA * a0;
        v[1] = a1 - kA * a0;
        v[2] = b1 + kB * b0;
        v[3] = b1 - kB * b0;
        v[4] = x[8] - (kA2 + kB2) * x[4] + kA2 * kB2 * x[0];
        for (int64_t i = 0; i < 4; ++i) v[5 + i] = x[2 * i + 1];
    }
    [[gnu::always_inline]] static inline void output(const Vector (&m)[9], Vector (&y)[4]) {
        const Vector a0 = m[0] + m[1], a1 = m[0] - m[1];
        const Vector b0 = m[2] + m[3], b1 = m[2] - m[3];
        y[0] = a0 + b0 + m[5];
        y[1] = kA * a1 + kB * b1 + m[6];
        y[2] = kA2 * a0 + kB2 * b0 + m[7];
        y[3] = kA2 * kA * a1 + kB2 * kB * b1 + m[4] + m[8];
    }
};

// The window of the tile to the right, and where it goes, are fetched meanwhile.
template <int64_t kOut, bool kWhole>
void input_tile(const float* x, int64_t x_row, int64_t x_pixel, const TilePart& part, int64_t C,
                float* v, int64_t stride) {
    constexpr int64_t kSide = 2 * kOut + 1;
    const int64_t next = 2 * kOut * x_pixel;
    for (int64_t c = 0; c < C; c += kLanes) {
        Vector half[kSide][kSide];  // [row position][column]
#pragma GCC unroll 1
        for (int64_t s = 0; s < kSide; ++s) {
            Vector in[kSide], out[kSide];
            const float* from = x + s * x_pixel + c;
            if (kWhole) {
#pragma GCC unroll 9
                for (int64_t r = 0; r < kSide; ++r) {
                    __builtin_prefetch(from + r * x_row + next);
                    in[r] = load(from + r * x_row);
                }
            } else {
                const bool inside = s >= part.column_begin && s < part.column_end;
                for (int64_t r = 0; r < kSide; ++r) {
                    in[r] = Vector{};
                    if (inside && r >= part.row_begin && r < part.row_end)
                        in[r] = load(from + r * x_row, C - c);
                }
            }
            Axis<kOut>::input(in, out);
#pragma GCC unroll 9
            for (int64_t r = 0; r < kSide; ++r) half[r][s] = out[r];
        }
        for (int64_t r = 0; r < kSide; ++r) {
            Vector out[kSide];
            Axis<kOut>::input(half[r], out);
#pragma GCC unroll 9
            for (int64_t s = 0; s < kSide; ++s) {
                float* const to = v + stride2_position<kOut>(r, s) * stride + c;
                __builtin_prefetch(to + kPanel, 1);
                if (kWhole)
                    store(to, out[s]);
                else
                    store(to, out[s], C - c);
            }
        }
    }
}

template <int64_t kOut>
void input(const float* x, int64_t x_row, int64_t x_pixel, const TilePart& part, int64_t C,
           float* v, int64_t stride) {
    constexpr int64_t kSide = 2 * kOut + 1;
    const bool whole = part.row_begin == 0 && part.row_end == kSide && part.column_begin == 0 &&
                       part.column_end == kSide && C % kLanes == 0;
    const auto run = whole ? input_tile<kOut, true> : input_tile<kOut, false>;
    run(x, x_row, x_pixel, part, C, v, stride);
}

template <int64_t kOut, Epilogue kEpilogue>
void output_tile(const float* m, int64_t stride, int64_t rows, int64_t columns,
                 const float* const* bias, float* y, int64_t y_row, int64_t y_pixel,
                 int64_t channels) {
    constexpr int64_t kSide = 2 * kOut + 1;
    for (int64_t k = 0; k < channels; k += kLanes) {
        Vector half[kSide][kOut];  // [row position][output column]
        for (int64_t r = 0; r < kSide; ++r) {
            Vector in[kSide];
#pragma GCC unroll 9
            for (int64_t s = 0; s < kSide; ++s)
                in[s] = load(m + stride2_position<kOut>(r, s) * stride + k);
            Axis<kOut>::output(in, half[r]);
        }
        for (int64_t s = 0; s < columns; ++s) {
            Vector in[kSide], out[kOut];
#pragma GCC unroll 9
            for (int64_t r = 0; r < kSide; ++r) in[r] = half[r][s];
            Axis<kOut>::output(in, out);
            for (int64_t r = 0; r < rows; ++r) {
                const Vector b = load(bias[r * kOut + s] + k, channels - k);
                stream(y + r * y_row + s * y_pixel + k, activated<kEpilogue>(out[r] + b),
                       channels - k);
            }
        }
    }
    end_stream();
}

template <int64_t kOut>
void output(const float* m, int64_t stride, int64_t rows, int64_t columns, const float* const* bias,
            float* y, int64_t y_row, int64_t y_pixel, int64_t channels, Epilogue epilogue) {
    const auto run = epilogue == Epilogue::relu      ? output_tile<kOut, Epilogue::relu>
                     : epilogue == Epilogue::sigmoid ? output_tile<kOut, Epilogue::sigmoid>
                                                     : output_tile<kOut, Epilogue::none>;
    run(m, stride, rows, columns, bias, y, y_row, y_pixel, channels);
}

}  // namespace

extern const Stride2Tile stride2_tile;
const Stride2Tile stride2_tile{{2, input<2>, output<2>}, {4, input<4>, output<4>}};

}  // namespace lumachrome::LUMACHROME_ISA
