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
[[gnu::always_inline]] inline void finish(Vector (&sum)[kPixels][kColumns], float* y,
                                          int64_t y_pixel) {
#pragma GCC unroll 14
    for (int64_t i = 0; i < kPixels; ++i)
        for (int64_t h = 0; h < kColumns; ++h)
            store(y + i * y_pixel + h * kLanes, activated<kEpilogue>(sum[i][h]));
}

template <int64_t kPixels, int64_t kColumns>
void sum_pixels(const Input& in, const float* const* bias, float* y, int64_t y_pixel,
                Epilogue epilogue) {
    Vector sum[kPixels][kColumns];
#pragma GCC unroll 14
    for (int64_t i = 0; i < kPixels; ++i)
        for (int64_t h = 0; h < kColumns; ++h) {
            sum[i][h] = load(bias[i] + h * kLanes);
            // With few inputs, waiting for y to come takes as long as the sums.
            __builtin_prefetch(y + i * y_pixel + h * kLanes, 1);
        }
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
    if (epilogue == Epilogue::relu) return finish<Epilogue::relu>(sum, y, y_pixel);
    if (epilogue == Epilogue::sigmoid) return finish<Epilogue::sigmoid>(sum, y, y_pixel);
    finish<Epilogue::none>(sum, y, y_pixel);
}

template <int64_t kPixels, int64_t kColumns>
void choose_pixels(int64_t pixels, const Input& in, const float* const* bias, float* y,
                   int64_t y_pixel, Epilogue epilogue) {
    if constexpr (kPixels > 1)
        if (pixels < kPixels)
            return choose_pixels<kPixels - 1, kColumns>(pixels, in, bias, y, y_pixel, epilogue);
    sum_pixels<kPixels, kColumns>(in, bias, y, y_pixel, epilogue);
}

void run(const float* const* taps, int64_t tap_count, int64_t depth, int64_t pixel, const float* w,
         const TileOutput& out) {
    const Input in{taps, tap_count, depth, pixel, w};
    const bool narrow = out.channels <= kLanes;
    const auto whole = [&](const float* const* bias, float* y, int64_t y_pixel) {
        if (narrow)
            choose_pixels<kMaxPixelsNarrow, 1>(out.pixels, in, bias, y, y_pixel, out.epilogue);
        else
            choose_pixels<kMaxPixels, 2>(out.pixels, in, bias, y, y_pixel, out.epilogue);
    };
    if (out.channels == kPanel || out.channels == kLanes) return whole(out.bias, out.y, out.pixel);
    // Channels that y does not have are computed all the same, beside it.
    constexpr int64_t kMost = kMaxPixels > kMaxPixelsNarrow ? kMaxPixels : kMaxPixelsNarrow;
    float y[kMost * kPanel], padded[kMost * kPanel] = {};
    const float* bias[kMost] = {};
    for (int64_t i = 0; i < out.pixels; ++i) {
        bias[i] = padded + i * kPanel;
        for (int64_t k = 0; k < out.channels; ++k) padded[i * kPanel + k] = out.bias[i][k];
    }
    whole(bias, y, kPanel);
    for (int64_t i = 0; i < out.pixels; ++i)
        for (int64_t k = 0; k < out.channels; ++k) out.y[i * out.pixel + k] = y[i * kPanel + k];
}

}  // namespace

extern const DirectTile direct_tile;
const DirectTile direct_tile{kLanes, kPanel, kMaxPixels, kMaxPixelsNarrow, run};

}  // namespace lumachrome::LUMACHROME_ISA
