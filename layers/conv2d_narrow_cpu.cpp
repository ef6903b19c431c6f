#include "layers/conv2d_narrow.hpp"

#include <algorithm>
#include <type_traits>
#include <vector>

#include "layers/extents.hpp"
#include "layers/outer_tile.hpp"
#include "tensor/gemm_tile.hpp"

namespace lumachrome {
namespace {

constexpr int64_t kFewest = 4;        // channels of the narrow side
constexpr int64_t kPixels = 128;      // wide pixels of one product
constexpr int64_t kRows = 4;          // wide rows of one task
constexpr int64_t kBand = 16;         // narrow rows of one task
constexpr int64_t kWeightGroups = 8;  // partial sums of dw; fixed, so bits do not depend on threads

// The two sides, and which narrow row (column) each tap of a wide row (column) sees; -1: none. Taps
// are numbered so that what they see ascends: backwards where y is narrow.
struct Sides {
    explicit Sides(const Conv2dProblem& p)
        : x_is_narrow(p.C <= p.K),
          strided(!x_is_narrow && p.spec.stride > 1),
          R(p.spec.kernel),
          N(p.N),
          F(x_is_narrow ? p.C : p.K),
          D(x_is_narrow ? p.K : p.C),
          taps(R * R * F),
          H(x_is_narrow ? p.P : p.H),
          W(x_is_narrow ? p.Q : p.W),
          narrow_H(x_is_narrow ? p.H : p.P),
          narrow_W(x_is_narrow ? p.W : p.Q),
          rows(seen(p.spec, H, narrow_H)),
          cols(seen(p.spec, W, narrow_W)) {}

    std::vector<int64_t> seen(const Conv2dSpec& spec, int64_t wide, int64_t narrow) const {
        std::vector<int64_t> at(static_cast<size_t>(wide * R), -1);
        for (int64_t i = 0; i < wide; ++i)
            for (int64_t r = 0; r < R; ++r) {
                int64_t place = i * spec.stride + r - spec.pad();
                if (!x_is_narrow) {  // y(p) reads x(p * stride + r - pad)
                    const int64_t back = i + spec.pad() - (R - 1 - r);
                    place = back % spec.stride == 0 ? back / spec.stride : -1;
                }
                if (place >= 0 && place < narrow) at[static_cast<size_t>(i * R + r)] = place;
            }
        return at;
    }
    // f(tap and channel, weight) for all weights w [K,R,R,C] of wide channel d
    template <class Float, class Function>
    void for_each_weight(Float* w, int64_t d, const Function& f) const {
        const int64_t squares = R * R;
        for (int64_t rs = 0; rs < squares; ++rs)
            for (int64_t c = 0; c < F; ++c)
                f(rs * F + c, w[x_is_narrow ? (d * squares + rs) * F + c
                                            : (c * squares + squares - 1 - rs) * D + d]);
    }
    // f(pixel, tap and channel, narrow offset in its row, length) for the runs of neighbours that
    // `count` pixels from wide column w on see in one narrow row
    template <class Function>
    void for_each_run(int64_t w, int64_t count, const Function& f) const {
        const int64_t* at = cols.data() + w * R;
        for (int64_t i = 0; i < count; ++i, at += R)
            if (at[0] >= 0 && at[R - 1] == at[0] + R - 1)
                f(i, 0, at[0] * F, R * F);
            else
                for (int64_t t = 0; t < R; ++t)
                    if (at[t] >= 0) f(i, t * F, at[t] * F, F);
    }

    bool x_is_narrow;
    bool strided;  // neighbours on the wide side see pixels that are not
    int64_t R, N, F, D, taps, H, W, narrow_H, narrow_W;  // H, W: of the wide side
    std::vector<int64_t> rows, cols;
};

// f(length), a constant where it is one of the usual
template <class Function>
void with_length(int64_t length, const Function& f) {
    if (length == 3) return f(std::integral_constant<int64_t, 3>{});
    if (length == 6) return f(std::integral_constant<int64_t, 6>{});
    f(length);
}

// The columns of `count` pixels of wide row n * H + h from column w on, `step` elements each.
void gather(const Sides& s, const float* narrow, int64_t row, int64_t w, int64_t count,
            int64_t step, float* columns) {
    const int64_t n = row / s.H, h = row % s.H, run = s.R * s.F;
    const bool border = s.cols[size_t(w * s.R)] < 0 || s.cols[size_t((w + count) * s.R - 1)] < 0;
    for (int64_t r = 0; r < s.R; ++r) {
        const int64_t narrow_row = s.rows[size_t(h * s.R + r)];
        float* to = columns + r * run;
        if (narrow_row < 0 || border || s.strided)
            for (int64_t i = 0; i < count; ++i) std::fill_n(to + i * step, run, 0.0f);
        if (narrow_row < 0) continue;
        const float* from = narrow + (n * s.narrow_H + narrow_row) * s.narrow_W * s.F;
        s.for_each_run(w, count, [&](int64_t i, int64_t tap, int64_t at, int64_t length) {
            with_length(length, [&](auto size) {
                for (int64_t e = 0; e < size; ++e) to[i * step + tap + e] = from[at + e];
            });
        });
    }
}

// wide = columns w (+ b), or added to it
void to_wide(const Exec& exec, const Sides& s, const float* narrow, const float* w, const float* b,
             float* wide, bool add) {
    const GemmTile& tile = gemm_tile();
    const int64_t depth = s.taps + (b ? 1 : 0);  // the bias is the weight of a tap that sees 1
    const int64_t panels = divide_up(s.D, tile.panel);
    float* packed = scratch<float, Scratch::operation>(panels * depth * tile.panel);
    std::fill_n(packed, panels * depth * tile.panel, 0.0f);
    for (int64_t d = 0; d < s.D; ++d) {
        float* to = packed + d / tile.panel * depth * tile.panel + d % tile.panel;
        s.for_each_weight(w, d, [&](int64_t tap, float value) { to[tap * tile.panel] = value; });
        if (b) to[s.taps * tile.panel] = b[d];
    }
    parallel_for(exec, divide_up(s.N * s.H, kRows), [&](int64_t task) {
        float* columns = scratch<float>(kPixels * depth + tile.max_rows * tile.panel);
        float* part = columns + kPixels * depth;  // of the last panel
        for (int64_t i = 0; b && i < kPixels; ++i) columns[i * depth + s.taps] = 1;
        for (int64_t row = task * kRows; row < std::min(s.N * s.H, (task + 1) * kRows); ++row)
            for (int64_t w0 = 0; w0 < s.W; w0 += kPixels) {
                const int64_t count = std::min(kPixels, s.W - w0);
                gather(s, narrow, row, w0, count, depth, columns);
                float* out = wide + (row * s.W + w0) * s.D;
                for (int64_t i = 0; i < count; i += tile.max_rows)
                    for (int64_t d = 0; d < s.D; d += tile.panel) {
                        const int64_t rows = std::min(tile.max_rows, count - i);
                        const int64_t lanes = std::min(tile.panel, s.D - d);
                        const bool whole = lanes == tile.panel;
                        float* to = out + i * s.D + d;
                        tile.multiply(columns + i * depth, depth, tile.panel, packed + d * depth,
                                      whole ? to : part, whole ? s.D : tile.panel, rows, depth,
                                      whole && add);
                        for (int64_t r = 0; !whole && r < rows; ++r)
                            for (int64_t l = 0; l < lanes; ++l)
                                to[r * s.D + l] =
                                    part[r * tile.panel + l] + (add ? to[r * s.D + l] : 0);
                    }
            }
    });
}

// narrow = (narrow +) the sum of wide w^T over the pixels and taps that see it (+ b). A task owns a
// band of narrow rows and reads the wide rows that see it.
void to_narrow(const Exec& exec, const Sides& s, const float* wide, const float* w, const float* b,
               float* narrow, bool add) {
    const GemmTile& tile = gemm_tile();
    const int64_t panels = divide_up(s.taps, tile.panel), step = panels * tile.panel;
    float* packed = scratch<float, Scratch::operation>(s.D * step);
    std::fill_n(packed, s.D * step, 0.0f);
    for (int64_t d = 0; d < s.D; ++d)
        s.for_each_weight(w, d, [&](int64_t tap, float value) {
            packed[(tap / tile.panel * s.D + d) * tile.panel + tap % tile.panel] = value;
        });
    const int64_t bands = divide_up(s.narrow_H, kBand);
    parallel_for(exec, s.N * bands, [&](int64_t task) {
        const int64_t n = task / bands, begin = task % bands * kBand;
        const int64_t end = std::min(s.narrow_H, begin + kBand);
        float* image = narrow + n * s.narrow_H * s.narrow_W * s.F;
        for (int64_t i = begin * s.narrow_W; i < end * s.narrow_W; ++i)
            for (int64_t f = 0; f < s.F; ++f)
                image[i * s.F + f] = (add ? image[i * s.F + f] : 0) + (b ? b[f] : 0);
        float* products = scratch<float>(kPixels * step);
        for (int64_t h = 0; h < s.H; ++h) {
            const int64_t* seen = s.rows.data() + h * s.R;
            if (std::none_of(seen, seen + s.R, [&](int64_t j) { return j >= begin && j < end; }))
                continue;
            for (int64_t w0 = 0; w0 < s.W; w0 += kPixels) {
                const int64_t count = std::min(kPixels, s.W - w0);
                const float* from = wide + ((n * s.H + h) * s.W + w0) * s.D;
                for (int64_t i = 0; i < count; i += tile.max_rows)
                    for (int64_t k = 0; k < panels; ++k)
                        tile.multiply(from + i * s.D, s.D, tile.panel,
                                      packed + k * s.D * tile.panel,
                                      products + i * step + k * tile.panel, step,
                                      std::min(tile.max_rows, count - i), s.D, false);
                for (int64_t r = 0; r < s.R; ++r) {
                    if (seen[r] < begin || seen[r] >= end) continue;
                    float* row = image + seen[r] * s.narrow_W * s.F;
                    const float* part = products + r * s.R * s.F;
                    s.for_each_run(w0, count,
                                   [&](int64_t i, int64_t tap, int64_t at, int64_t length) {
                                       with_length(length, [&](auto size) {
                                           for (int64_t e = 0; e < size; ++e)
                                               row[at + e] += part[i * step + tap + e];
                                       });
                                   });
                }
            }
        }
    });
}

}  // namespace

const char* narrow_reject(const Conv2dProblem& p) {
    if (p.dtype != DType::f32) return "needs f32";
    if (std::min(p.C, p.K) > kFewest) return "needs at most 4 channels on one side";
    return nullptr;
}

void forward_narrow(const Exec& exec, const Conv2dProblem& p, const Tensor& x, const Tensor& w,
                    const Tensor& b, const Tensor& y) {
    const Sides sides(p);
    const auto run = sides.x_is_narrow ? to_wide : to_narrow;
    run(exec, sides, x.data<float>(), w.data<float>(), b.defined() ? b.data<float>() : nullptr,
        y.data<float>(), false);
}

void grad_input_narrow(const Exec& exec, const Conv2dProblem& p, const Tensor& dy, const Tensor& w,
                       const GradIn& dx) {
    const Sides sides(p);
    const auto run = sides.x_is_narrow ? to_narrow : to_wide;
    run(exec, sides, dy.data<float>(), w.data<float>(), nullptr, dx.grad.data<float>(),
        dx.beta != 0);
}

// A task owns one of a fixed number of groups of wide rows; partial sums are added in order.
void grad_weight_narrow(const Exec& exec, const Conv2dProblem& p, const Tensor& x, const Tensor& dy,
                        const GradIn& dw) {
    const Sides s(p);
    const OuterTile& tile = outer_tile();
    const float* narrow = s.x_is_narrow ? x.data<float>() : dy.data<float>();
    const float* wide = s.x_is_narrow ? dy.data<float>() : x.data<float>();
    const int64_t rows = s.N * s.H, per_group = divide_up(rows, kWeightGroups);
    const int64_t groups = divide_up(rows, per_group);
    const int64_t padded = divide_up(s.D, tile.panel) * tile.panel;
    float* sums = scratch<float, Scratch::operation>(groups * s.taps * padded);
    parallel_for(exec, groups, [&](int64_t group) {
        float* columns = scratch<float>(kPixels * (s.taps + tile.panel));
        float* part = columns + kPixels * s.taps;  // the last panel of the wide side
        bool add = false;
        for (int64_t row = group * per_group; row < std::min(rows, (group + 1) * per_group); ++row)
            for (int64_t w0 = 0; w0 < s.W; w0 += kPixels, add = true) {
                const int64_t count = std::min(kPixels, s.W - w0);
                gather(s, narrow, row, w0, count, s.taps, columns);
                for (int64_t d = 0; d < s.D; d += tile.panel) {
                    const float* from = wide + (row * s.W + w0) * s.D + d;
                    const int64_t lanes = std::min(tile.panel, s.D - d);
                    const bool whole = lanes == tile.panel;
                    for (int64_t i = 0; !whole && i < count; ++i) {
                        std::copy_n(from + i * s.D, lanes, part + i * tile.panel);
                        std::fill_n(part + i * tile.panel + lanes, tile.panel - lanes, 0.0f);
                    }
                    for (int64_t tap = 0; tap < s.taps; tap += tile.max_rows)
                        tile.multiply(columns + tap, s.taps, whole ? from : part,
                                      whole ? s.D : tile.panel,
                                      sums + (group * s.taps + tap) * padded + d, padded,
                                      std::min(tile.max_rows, s.taps - tap), count, add);
                }
            }
    });
    for (int64_t d = 0; d < s.D; ++d)
        s.for_each_weight(dw.grad.data<float>(), d, [&](int64_t tap, float& to) {
            float sum = sums[tap * padded + d];
            for (int64_t group = 1; group < groups; ++group)
                sum += sums[(group * s.taps + tap) * padded + d];
            to = dw.beta == 0 ? sum : to + sum;
        });
}

}  // namespace lumachrome
