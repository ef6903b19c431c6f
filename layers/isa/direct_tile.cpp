// Sums of a tile stay in registers over all taps; x is broadcast from memory.
#include "layers/conv2d_tiles.hpp"
#include "layers/isa/epilogue.hpp"

namespace lumachrome::LUMACHROME_ISA {
namespace {

// Twice as many pixels with one register of channels, where two multiply-adds a cycle need them.
constexpr int64_t kMaxPixels = kRegisters == 32 ? 14 : 6;
constexpr int64_t kMaxPixelsNarrow = kRegisters == 32 ? 14 : 12;

struct Input {
    const float* const* taps;
    int64_t tap_count, depth, pixel;
    const float* w;
};

template <Epilogue kEpilogue, int64_t kPixels, int64_t kColumns>
[[gnu::always_inline]] inline void finish(Vector (&sum)[kPixels][kColumns], const TileOutput& out) {
#pragma GCC unroll 14
    for (int64_t i = 0; i < kPixels; ++i)
        for (int64_t h = 0; h < kColumns; ++h) {
            float* const to = out.y + i * out.pixel + h * kLanes;
            const Vector y = activated<kEpilogue>(sum[i][h]);
            if (out.stream)
                stream(to, y);
            else
                store(to, y);
        }
}

template <int64_t kPixels, int64_t kColumns>
void sum_pixels(const Input& in, const TileOutput& out) {
    Vector sum[kPixels][kColumns];
#pragma GCC unroll 14
    for (int64_t i = 0; i < kPixels; ++i)
        for (int64_t h = 0; h < kColumns; ++h) sum[i][h] = load(out.bias[i] + h * kLanes);
    const float* w = in.w;
    const int64_t pixel = in.pixel, depth = in.depth;
    for (int64_t tap = 0; tap < in.tap_count; ++tap) {
        const float* x = in.taps[tap];
        for (int64_t k = 0; k < depth; ++k, w += kPanel) {
            Vector b[kColumns];
            for (int64_t h = 0; h < kColumns; ++h) b[h] = load(w + h * kLanes);
#pragma GCC unroll 14
            for (int64_t i = 0; i < kPixels; ++i) {
                const float value = x[i * pixel + k];
                for (int64_t h = 0; h < kColumns; ++h) sum[i][h] += value * b[h];
            }
        }
    }
    if (out.epilogue == Epilogue::relu) return finish<Epilogue::relu>(sum, out);
    if (out.epilogue == Epilogue::sigmoid) return finish<Epilogue::sigmoid>(sum, out);
    finish<Epilogue::none>(sum, out);
}

template <int64_t kPixels, int64_t kColumns>
void choose_pixels(const Input& in, const TileOutput& out) {
    if constexpr (kPixels > 1)
        if (out.pixels < kPixels) return choose_pixels<kPixels - 1, kColumns>(in, out);
    sum_pixels<kPixels, kColumns>(in, out);
}

void run_whole(const Input& in, const TileOutput& out) {
    if (out.channels <= kLanes)
        choose_pixels<kMaxPixelsNarrow, 1>(in, out);
    else
        choose_pixels<kMaxPixels, 2>(in, out);
}

void run(const float* const* taps, int64_t tap_count, int64_t depth, int64_t pixel, const float* w,
         const TileOutput& out) {
    const Input in{taps, tap_count, depth, pixel, w};
    if (out.channels == kPanel || out.channels == kLanes) return run_whole(in, out);
    // Channels that y does not have are computed all the same, beside it.
    constexpr int64_t kMost = kMaxPixels > kMaxPixelsNarrow ? kMaxPixels : kMaxPixelsNarrow;
    float y[kMost * kPanel], padded[kMost * kPanel] = {};
    const float* bias[kMost] = {};
    for (int64_t i = 0; i < out.pixels; ++i) {
        bias[i] = padded + i * kPanel;
        for (int64_t k = 0; k < out.channels; ++k) padded[i * kPanel + k] = out.bias[i][k];
    }
    TileOutput beside = out;
    beside.bias = bias, beside.y = y, beside.pixel = kPanel, beside.stream = false;
    run_whole(in, beside);
    for (int64_t i = 0; i < out.pixels; ++i)
        for (int64_t k = 0; k < out.channels; ++k) out.y[i * out.pixel + k] = y[i * kPanel + k];
}

}  // namespace

extern const DirectTile direct_tile;
const DirectTile direct_tile{kLanes,           kPanel, kMaxPixels,
                             kMaxPixelsNarrow, run,    [] { end_stream(); }};

}  // namespace lumachrome::LUMACHROME_ISA
