// Before and after the nine products; conv2d_prepared_upsample.cpp has the equations.
#include "layers/conv2d_tiles.hpp"
#include "layers/isa/epilogue.hpp"

namespace lumachrome::LUMACHROME_ISA {
namespace {

// One register of channels of the rows above, at and below.
template <bool kWhole>
struct Rows {
    const float* from[3];
    int64_t pixel[3];
    int64_t lanes;
    [[gnu::always_inline]] inline void read(int64_t j, Vector (&x)[3]) const {
        for (int64_t r = 0; r < 3; ++r) {
            const float* at = from[r] + j * pixel[r];
            x[r] = kWhole ? load(at) : load(at, lanes);
        }
    }
    [[gnu::always_inline]] inline void write(float* to, Vector v) const {
        if constexpr (kWhole)
            store(to, v);
        else
            store(to, v, lanes);
    }
};

template <bool kWhole>
void channel_differences(const Rows<kWhole>& in, int64_t count, int64_t C, bool left, bool right,
                         float* column, float* const row[2], float* const both[2]) {
    Vector x[3] = {};
    if (left) in.read(-1, x);
    Vector before = x[1], before0 = x[1] - x[0], before1 = x[2] - x[1];
    float *row0 = row[0], *row1 = row[1], *both0 = both[0], *both1 = both[1];
    for (int64_t j = 0, at = 0; j < count; ++j, at += C) {
        in.read(j, x);
        const Vector above = x[1] - x[0], below = x[2] - x[1];
        in.write(column + at, x[1] - before);
        in.write(row0 + at, above);
        in.write(row1 + at, below);
        in.write(both0 + at, above - before0);
        in.write(both1 + at, below - before1);
        before = x[1], before0 = above, before1 = below;
    }
    for (Vector& v : x) v = Vector{};
    if (right) in.read(count, x);
    in.write(column + count * C, x[1] - before);
    in.write(both0 + count * C, x[1] - x[0] - before0);
    in.write(both1 + count * C, x[2] - x[1] - before1);
}

void differences(const float* const rows[3], int64_t count, int64_t C, bool left, bool right,
                 float* column, float* const row[2], float* const both[2]) {
    static constexpr float kZeros[kLanes] = {};
    const auto run = [&]<bool kWhole>(int64_t c) {
        Rows<kWhole> in{.from = {}, .pixel = {}, .lanes = C - c};
        for (int64_t r = 0; r < 3; ++r) {
            in.from[r] = rows[r] ? rows[r] + c : kZeros;
            in.pixel[r] = rows[r] ? C : 0;
        }
        float *const row_c[2] = {row[0] + c, row[1] + c}, *const both_c[2] = {both[0] + c,
                                                                              both[1] + c};
        channel_differences(in, count, C, left, right, column + c, row_c, both_c);
    };
    int64_t c = 0;
    for (; c + kLanes <= C; c += kLanes) run.template operator()<true>(c);
    if (c < C) run.template operator()<false>(c);
}

template <Epilogue kEpilogue>
void finish_tile(const float* products, int64_t stride, int64_t count,
                 const float* const* const bias[2], float* const y[2], int64_t pixel,
                 int64_t channels) {
    for (int64_t i = 0; i < count; ++i)
        for (int64_t h = 0; h < channels; h += kLanes) {
            const float* from = products + i * kPanel + h;
            Vector even[3], odd[3];  // outputs of even and odd columns, by row kind
            for (int64_t a = 0; a < 3; ++a) {
                const Vector middle = load(from + (3 * a + 1) * stride);
                even[a] = load(from + 3 * a * stride) + middle;
                odd[a] = middle + load(from + (3 * a + 2) * stride);
            }
            for (int64_t r = 0; r < 2; ++r) {
                const int64_t a = 2 * r, at = 2 * i;
                float* to = y[r] + at * pixel + h;
                const float *b0 = bias[r][at] + h, *b1 = bias[r][at + 1] + h;
                const int64_t lanes = channels - h;
                store(to, activated<kEpilogue>(even[1] + even[a] + load(b0, lanes)), lanes);
                store(to + pixel, activated<kEpilogue>(odd[1] + odd[a] + load(b1, lanes)), lanes);
            }
        }
}

void finish(const float* products, int64_t stride, int64_t count, const float* const* const bias[2],
            float* const y[2], int64_t pixel, int64_t channels, Epilogue epilogue) {
    const auto run = epilogue == Epilogue::relu      ? finish_tile<Epilogue::relu>
                     : epilogue == Epilogue::sigmoid ? finish_tile<Epilogue::sigmoid>
                                                     : finish_tile<Epilogue::none>;
    run(products, stride, count, bias, y, pixel, channels);
}

}  // namespace

extern const UpsampleTile upsample_tile;
const UpsampleTile upsample_tile{differences, finish};

}  // namespace lumachrome::LUMACHROME_ISA
