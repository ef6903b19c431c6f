// Lanes run over the inputs of a pixel; as many sums as lanes are then added up across, all at
// once.
#include "layers/conv2d_tiles.hpp"
#include "layers/isa/epilogue.hpp"

namespace lumachrome::LUMACHROME_ISA {
namespace {

constexpr int64_t kMaxOutputs = 2;

// Lane i: the sums of lanes 2i and 2i+1 of a, followed by those of b.
[[gnu::always_inline]] inline Vector add_pairs(Vector a, Vector b) {
#if defined(__AVX512F__)
    return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28,
                                   30) +
           __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
#elif defined(__AVX__)
    return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14) +
           __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
#else
    return __builtin_shufflevector(a, b, 0, 2, 4, 6) + __builtin_shufflevector(a, b, 1, 3, 5, 7);
#endif
}

// Of kLanes registers; lane i: the sum of all lanes of v[i].
template <int64_t kCount = kLanes>
[[gnu::always_inline]] inline Vector add_across(const Vector* v) {
    if constexpr (kCount == 1)
        return v[0];
    else
        return add_pairs(add_across<kCount / 2>(v), add_across<kCount / 2>(v + kCount / 2));
}

// kWhole: `depth` is a multiple of the lanes.
template <int64_t kOutputs, bool kWhole>
void sum_pixels(const float* const* rows, int64_t kernel, int64_t depth, int64_t pixel,
                const float* w, const float* bias, float* y, int64_t count, Epilogue epilogue) {
    constexpr int64_t kPixels = kLanes / kOutputs;
    const int64_t padded = (depth + kLanes - 1) / kLanes * kLanes, next = kernel * padded;
    Vector sum[kLanes] = {};
    for (int64_t r = 0; r < kernel; ++r, w += padded) {
        const float* x = rows[r];
        for (int64_t d = 0; d < padded; d += kLanes) {
            Vector b[kOutputs];
            for (int64_t o = 0; o < kOutputs; ++o) b[o] = load(w + o * next + d);
#pragma GCC unroll 16
            for (int64_t i = 0; i < kPixels; ++i) {
                const float* from = x + i * pixel + d;
                const Vector value = kWhole ? load(from) : load(from, depth - d);
                for (int64_t o = 0; o < kOutputs; ++o) sum[i * kOutputs + o] += value * b[o];
            }
        }
    }
    const int64_t lanes = count * kOutputs;
    store(y, activated(epilogue, add_across(sum) + load(bias, lanes)), lanes);
}

int64_t pixels(int64_t outputs) {
    return kLanes / outputs;
}

void run(const float* const* rows, int64_t kernel, int64_t depth, int64_t pixel, const float* w,
         int64_t outputs, const float* bias, float* y, int64_t count, Epilogue epilogue) {
    const bool whole = depth % kLanes == 0;
    const auto sums = outputs == 1 ? (whole ? sum_pixels<1, true> : sum_pixels<1, false>)
                                   : (whole ? sum_pixels<2, true> : sum_pixels<2, false>);
    sums(rows, kernel, depth, pixel, w, bias, y, count, epilogue);
}

}  // namespace

extern const NarrowTile narrow_tile;
const NarrowTile narrow_tile{kLanes, kMaxOutputs, pixels, run};

}  // namespace lumachrome::LUMACHROME_ISA
