// Transforms of conv2d_stride2.hpp: sums and differences along both axes of a tile, a register of
// channels at a time.
#include "layers/conv2d_stride2_loops.hpp"
#include "tensor/isa/vector.hpp"

namespace lumachrome::LUMACHROME_ISA {
namespace {

// One axis of each transform; a step is the distance of neighbours along that axis.
struct Input {
    static constexpr int64_t kFrom = 5, kTo = 5;
    [[gnu::always_inline]] static void apply(const Vector* x, int64_t s, Vector* v, int64_t t) {
        v[0] = x[0] - x[2 * s];
        v[t] = x[s];
        v[2 * t] = x[2 * s];
        v[3 * t] = x[4 * s] - x[2 * s];
        v[4 * t] = x[3 * s];
    }
};
struct Output {
    static constexpr int64_t kFrom = 3, kTo = 2;
    [[gnu::always_inline]] static void apply(const Vector* m, int64_t s, Vector* y, int64_t t) {
        y[0] = m[0] + m[s];
        y[t] = m[s] + m[2 * s];
    }
};
struct GradOutput {
    static constexpr int64_t kFrom = 2, kTo = 3;
    [[gnu::always_inline]] static void apply(const Vector* y, int64_t s, Vector* z, int64_t t) {
        z[0] = y[0];
        z[t] = y[0] + y[s];
        z[2 * t] = y[s];
    }
};
struct TurnedInput {
    static constexpr int64_t kFrom = 3, kTo = 4;
    [[gnu::always_inline]] static void apply(const Vector* y, int64_t s, Vector* v, int64_t t) {
        v[0] = y[0];
        v[t] = y[0] - y[s];
        v[2 * t] = y[s];
        v[3 * t] = y[2 * s] - y[s];
    }
};
struct TurnedOutput {
    static constexpr int64_t kFrom = 5, kTo = 4;
    [[gnu::always_inline]] static void apply(const Vector* m, int64_t s, Vector* x, int64_t t) {
        x[0] = m[0];
        x[t] = m[s] + m[2 * s];
        x[2 * t] = m[3 * s];
        x[3 * t] = m[2 * s] + m[4 * s];
    }
};
struct Weights {
    static constexpr int64_t kFrom = 3, kTo = 4;
    [[gnu::always_inline]] static void apply(const Vector* w, int64_t s, Vector* u, int64_t t) {
        u[0] = w[0];
        u[t] = w[s];
        u[2 * t] = w[0] + w[2 * s];
        u[3 * t] = w[2 * s];
    }
};
struct WeightGradient {
    static constexpr int64_t kFrom = 4, kTo = 3;
    [[gnu::always_inline]] static void apply(const Vector* u, int64_t s, Vector* w, int64_t t) {
        w[0] = u[0] + u[2 * s];
        w[t] = u[s];
        w[2 * t] = u[3 * s] + u[2 * s];
    }
};

// Both axes: [kFrom][kFrom] -> [kTo][kTo].
template <class Axis>
[[gnu::always_inline]] inline void transform(const Vector* from, Vector* to) {
    Vector half[Axis::kTo * Axis::kFrom];
    for (int64_t i = 0; i < Axis::kFrom; ++i)
        Axis::apply(from + i, Axis::kFrom, half + i, Axis::kFrom);
    for (int64_t i = 0; i < Axis::kTo; ++i)
        Axis::apply(half + i * Axis::kFrom, 1, to + i * Axis::kTo, 1);
}

template <class Axis>
void to_slots(const TileWindow<const float>& from, int64_t channels, float* slots, int64_t slot,
              int64_t chunk) {
    constexpr int64_t kSize = Axis::kFrom;
    const bool whole = from.row_begin == 0 && from.row_end == kSize && from.col_begin == 0 &&
                       from.col_end == kSize;
    const int64_t padded = (channels + kPanel - 1) / kPanel * kPanel;
    Vector d[kSize * kSize] = {}, out[Axis::kTo * Axis::kTo];
    for (int64_t c = 0; c < padded; c += kLanes) {
        const float* const at = from.at + c;
        if (whole && c + kLanes <= channels) {
            for (int64_t r = 0; r < kSize; ++r)
                for (int64_t s = 0; s < kSize; ++s) {
                    d[r * kSize + s] = load(at + r * from.row + s * from.col);
                    if (s > 0)  // of the next tile
                        __builtin_prefetch(at + r * from.row + (s + kSize - 1) * from.col);
                }
        } else {
            for (int64_t r = from.row_begin; r < from.row_end; ++r)
                for (int64_t s = from.col_begin; s < from.col_end; ++s)
                    d[r * kSize + s] = load(at + r * from.row + s * from.col, channels - c);
        }
        transform<Axis>(d, out);
        float* const to = slots + c / kPanel * chunk + c % kPanel;
        for (int64_t i = 0; i < Axis::kTo * Axis::kTo; ++i) store(to + i * slot, out[i]);
    }
}

template <class Axis>
void from_slots(const float* slots, int64_t slot, int64_t chunk, int64_t channels,
                const float* bias, bool add, const TileWindow<float>& to) {
    constexpr int64_t kSize = Axis::kTo;
    Vector d[Axis::kFrom * Axis::kFrom], out[kSize * kSize];
    for (int64_t c = 0; c < channels; c += kLanes) {
        const float* const from = slots + c / kPanel * chunk + c % kPanel;
        for (int64_t i = 0; i < Axis::kFrom * Axis::kFrom; ++i) d[i] = load(from + i * slot);
        transform<Axis>(d, out);
        const int64_t count = channels - c;
        const Vector shift = bias ? load(bias + c, count) : Vector{};
        for (int64_t r = to.row_begin; r < to.row_end; ++r)
            for (int64_t s = to.col_begin; s < to.col_end; ++s) {
                float* const at = to.at + c + r * to.row + s * to.col;
                Vector value = out[r * kSize + s] + shift;
                if (add) value += load(at, count);
                store(at, value, count);
            }
    }
}

// The lower, the upper halves of a and b, lane by lane in turn.
#if defined(__AVX512F__)
#define LUMACHROME_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define LUMACHROME_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif defined(__AVX__)
#define LUMACHROME_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define LUMACHROME_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define LUMACHROME_LOW 0, 4, 1, 5
#define LUMACHROME_HIGH 2, 6, 3, 7
#endif
[[gnu::always_inline]] inline Vector interleave_low(Vector a, Vector b) {
    return __builtin_shufflevector(a, b, LUMACHROME_LOW);
}
[[gnu::always_inline]] inline Vector interleave_high(Vector a, Vector b) {
    return __builtin_shufflevector(a, b, LUMACHROME_HIGH);
}
#undef LUMACHROME_LOW
#undef LUMACHROME_HIGH

// Rows become columns: interleaving the halves of the list log2(kLanes) times.
[[gnu::always_inline]] inline void transpose(Vector* rows) {
#pragma GCC unroll 4
    for (int64_t step = 1; step < kLanes; step *= 2) {
        Vector next[kLanes];
#pragma GCC unroll 8
        for (int64_t i = 0; i < kLanes / 2; ++i) {
            next[2 * i] = interleave_low(rows[i], rows[i + kLanes / 2]);
            next[2 * i + 1] = interleave_high(rows[i], rows[i + kLanes / 2]);
        }
#pragma GCC unroll 16
        for (int64_t i = 0; i < kLanes; ++i) rows[i] = next[i];
    }
}

// Registers hold output channels, which lie apart in w: a square of them and of input channels is
// transposed at a time.
void panel_weights(const float* w, int64_t C, int64_t outputs, float* slots, int64_t slot) {
    constexpr int64_t kTaps = 9;
    for (int64_t c0 = 0; c0 < C; c0 += kLanes) {
        const int64_t channels = smaller(kLanes, C - c0);
        Vector taps[kLanes][2][kTaps];
        for (int64_t tap = 0; tap < kTaps; ++tap)
            for (int64_t h = 0; h < 2; ++h) {
                Vector rows[kLanes] = {};
                const int64_t count = smaller(kLanes, outputs - h * kLanes);
                for (int64_t k = 0; k < count; ++k)
                    rows[k] = load(w + ((h * kLanes + k) * kTaps + tap) * C + c0, channels);
                transpose(rows);
                for (int64_t c = 0; c < channels; ++c) taps[c][h][tap] = rows[c];
            }
        for (int64_t c = 0; c < channels; ++c)
            for (int64_t h = 0; h < 2; ++h) {
                Vector out[Weights::kTo * Weights::kTo];
                transform<Weights>(taps[c][h], out);
                float* const to = slots + (c0 + c) * kPanel + h * kLanes;
                for (int64_t i = 0; i < Weights::kTo * Weights::kTo; ++i)
                    store(to + i * slot, out[i]);
            }
    }
}

}  // namespace

extern const Stride2Loops stride2_loops;
const Stride2Loops stride2_loops{
    to_slots<Input>,          from_slots<Output>, to_slots<GradOutput>,       to_slots<TurnedInput>,
    from_slots<TurnedOutput>, to_slots<Weights>,  from_slots<WeightGradient>, panel_weights,
};

}  // namespace lumachrome::LUMACHROME_ISA
