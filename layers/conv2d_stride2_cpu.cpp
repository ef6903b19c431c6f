// Tiles of 2x2 pixels of y, which are 4x4 of x, are worked off in batches, each in three phases:
// transform, multiply, transform back. Arrays keep a panel of channels innermost (isa loops):
//   V  transformed tiles of the input, [slot][C/panel][tiles][panel];  Z of dy,  M the products
//   U  transformed weights, [16][K/panel][C][panel] (turned: C and K exchanged)
// so products read and write whole cache lines in order.
#include "layers/conv2d_stride2.hpp"

#include <algorithm>

#include "layers/conv2d_stride2_loops.hpp"
#include "layers/extents.hpp"
#include "layers/outer_tile.hpp"
#include "tensor/gemm_tile.hpp"

namespace lumachrome {
namespace {

constexpr int64_t kTile = 2;           // pixels of y along an axis; twice as many of x
constexpr int64_t kWeightSlots = 16;   // w0, w1, w0 + w2, w2 on both axes
constexpr int64_t kRun = 16;           // tiles of one transform task
constexpr int64_t kDepth = 128;        // channels of one product: its panel of U stays in L1
constexpr int64_t kFewChannels = 256;  // C + K up to which a thread takes a batch of tiles alone
constexpr int64_t kAloneFloats = 160 << 10, kSharedFloats = 1 << 20;  // of a batch: L2, L3
constexpr int64_t kLine = 16;  // floats; a gap of one keeps the slots out of one cache set

int64_t padded(int64_t channels) {
    const int64_t panel = gemm_tile().panel;
    return divide_up(channels, panel) * panel;
}

// Along one axis, what a result sums: slots of the one factor times slots of the other.
struct AxisTerm {
    int64_t left, right;
};
struct AxisSum {
    AxisTerm terms[2];
    int64_t count;
};
constexpr AxisSum kForward[] = {{{{0, 0}, {1, 1}}, 2}, {{{2, 2}}, 1}, {{{3, 3}, {4, 1}}, 2}};
constexpr AxisSum kTurned[] = {
    {{{0, 1}}, 1}, {{{1, 3}}, 1}, {{{2, 2}}, 1}, {{{2, 1}}, 1}, {{{3, 0}}, 1}};
constexpr AxisSum kWeightGradient[] = {
    {{{0, 0}}, 1}, {{{1, 0}, {4, 2}}, 2}, {{{2, 1}}, 1}, {{{3, 2}}, 1}};

// Both axes: results are squares of `results`, factors of `lefts` and `rights` slots.
struct Products {
    const AxisSum* axis;
    int64_t results, lefts, rights;

    // f(left slot, right slot, first) for all that result slot `r` sums
    template <class F>
    void for_each(int64_t r, const F& f) const {
        const AxisSum &row = axis[r / results], &col = axis[r % results];
        for (int64_t i = 0; i < row.count; ++i)
            for (int64_t j = 0; j < col.count; ++j)
                f(row.terms[i].left * lefts + col.terms[j].left,
                  row.terms[i].right * rights + col.terms[j].right, i + j == 0);
    }
};
constexpr Products kForwardProducts{kForward, 3, 5, 4}, kTurnedProducts{kTurned, 5, 4, 4},
    kWeightProducts{kWeightGradient, 4, 5, 3};

// A map cut into squares of `side` pixels, the same number for x and y.
struct Map {
    int64_t N, H, W, C, side;
    int64_t rows() const { return divide_up(H, side); }
    int64_t cols() const { return divide_up(W, side); }

    // `size` pixels from `before` pixels ahead of the tile
    template <class Float>
    TileWindow<Float> window(Float* map, int64_t tile, int64_t tile_rows, int64_t tile_cols,
                             int64_t size, int64_t before) const {
        const int64_t h = tile / tile_cols % tile_rows * side - before;
        const int64_t w = tile % tile_cols * side - before, n = tile / (tile_cols * tile_rows);
        return {map + ((n * H + h) * W + w) * C,
                W * C,
                C,
                std::max<int64_t>(0, -h),
                std::max<int64_t>(0, std::min(size, H - h)),
                std::max<int64_t>(0, -w),
                std::max<int64_t>(0, std::min(size, W - w))};
    }
};

// Batches are cut by the problem alone. With few channels a batch fits L2 and one thread takes it
// through all phases (`alone`); with many, all threads share a batch that fits L3 and is no smaller
// than half of U, which is read once a batch.
struct Batches {
    Batches(int64_t total_tiles, int64_t floats_per_tile, int64_t u_floats, bool one_thread)
        : total(total_tiles), alone(one_thread) {
        const int64_t rows = gemm_tile().max_rows;
        const int64_t shared = std::max(kSharedFloats, u_floats / 2);
        const int64_t most = std::max(rows, (alone ? kAloneFloats : shared) / floats_per_tile);
        size = divide_up(divide_up(total, divide_up(total, most)), rows) * rows;
    }
    int64_t count() const { return divide_up(total, size); }
    int64_t begin(int64_t batch) const { return batch * size; }
    int64_t tiles(int64_t batch) const { return std::min(size, total - batch * size); }
    int64_t total, size;
    bool alone;
};

// Slots of `size` tiles.
struct Slots {
    Slots(int64_t channels, int64_t size)
        : chunk(size * gemm_tile().panel + kLine),
          slot(padded(channels) / gemm_tile().panel * chunk) {}
    int64_t chunk, slot;
};

template <class F>
void for_each_run(const Exec& exec, int64_t count, const F& f) {
    parallel_for(exec, divide_up(count, kRun), [&](int64_t run) {
        for (int64_t i = run * kRun; i < std::min(count, (run + 1) * kRun); ++i) f(i);
    });
}

// U of w [K,3,3,C].
void transform_weights(const Exec& exec, const Conv2dProblem& p, const float* w, float* u) {
    const int64_t panel = gemm_tile().panel, depth = padded(p.C), slot = depth * padded(p.K);
    const auto transform = stride2_loops_for(isa()).panel_weights;
    parallel_for(exec, padded(p.K) / panel, [&](int64_t task) {
        const int64_t k = task * panel;
        for (int64_t i = 0; i < kWeightSlots; ++i)  // channels that only fill the last panel
            std::fill_n(u + i * slot + k * depth + p.C * panel, (depth - p.C) * panel, 0.0f);
        transform(w + k * 9 * p.C, p.C, std::min(panel, p.K - k), u + k * depth, slot);
    });
}

// The same from K to C channels; the tables name the taps that fit.
void transform_turned_weights(const Exec& exec, const Conv2dProblem& p, const float* w, float* u) {
    const int64_t panel = gemm_tile().panel, depth = padded(p.K), slot = depth * padded(p.C);
    const auto transform = stride2_loops_for(isa()).weights;
    parallel_for(exec, depth, [&](int64_t k) {
        const bool exists = k < p.K;
        transform({exists ? w + k * 9 * p.C : w, 3 * p.C, p.C, 0, exists ? 3 : 0, 0, 3}, p.C,
                  u + k * panel, slot, depth * panel);
    });
}

// One result slot of M [tiles,K] = sums of V [tiles,C] U [C,K], panels [first, end) of K.
void multiply(const Products& products, int64_t result, const float* v, const Slots& vs,
              const float* u, float* m, const Slots& ms, int64_t tiles, int64_t C, int64_t K,
              int64_t first, int64_t end) {
    const GemmTile& tile = gemm_tile();
    const int64_t depth = padded(C), u_slot = depth * padded(K);
    for (int64_t c = 0; c < depth; c += kDepth)
        products.for_each(result, [&](int64_t left, int64_t right, bool first_term) {
            const float* from = v + left * vs.slot + c / tile.panel * vs.chunk;
            for (int64_t k = first; k < end; ++k) {
                const float* weights = u + right * u_slot + (k * depth + c) * tile.panel;
                float* to = m + result * ms.slot + k * ms.chunk;
                for (int64_t t = 0; t < tiles; t += tile.max_rows)
                    tile.multiply(from + t * tile.panel, tile.panel, vs.chunk, weights,
                                  to + t * tile.panel, tile.panel,
                                  std::min(tile.max_rows, tiles - t), std::min(kDepth, depth - c),
                                  c > 0 || !first_term);
            }
        });
}

// out (+)= in convolved, for both directions.
struct Convolution {
    Products products;
    Map in, out;
    int64_t in_size, in_before;  // window of a tile
    Stride2Loops::ToSlots to_slots;
    Stride2Loops::FromSlots from_slots;

    // `u` is transformed already.
    void run(const Exec& exec, const float* x, const float* u, const float* b, float* y,
             bool add) const {
        const int64_t panel = gemm_tile().panel, panels = padded(out.C) / panel;
        const int64_t rows = out.rows(), cols = out.cols();
        const int64_t lefts = products.lefts * products.lefts;
        const int64_t results = products.results * products.results;
        const Batches batches(in.N * rows * cols, lefts * padded(in.C) + results * padded(out.C),
                              kWeightSlots * in.C * out.C, in.C + out.C <= kFewChannels);
        const Slots vs(in.C, batches.size), ms(out.C, batches.size);
        const auto run_batch = [&](const Exec& inner, int64_t batch) {
            float* v = scratch<float>(lefts * vs.slot + results * ms.slot);
            float* m = v + lefts * vs.slot;
            const int64_t begin = batches.begin(batch), tiles = batches.tiles(batch);
            for_each_run(inner, tiles, [&](int64_t i) {
                to_slots(in.window(x, begin + i, rows, cols, in_size, in_before), in.C,
                         v + i * panel, vs.slot, vs.chunk);
            });
            constexpr int64_t kPanels = 4;  // of a task, where threads share
            const int64_t pieces = batches.alone ? 1 : divide_up(panels, kPanels);
            const int64_t step = divide_up(panels, pieces);
            parallel_for(inner, results * pieces, [&](int64_t task) {
                const int64_t first = task % pieces * step;
                multiply(products, task / pieces, v, vs, u, m, ms, tiles, in.C, out.C, first,
                         std::min(panels, first + step));
            });
            for_each_run(inner, tiles, [&](int64_t i) {
                from_slots(m + i * panel, ms.slot, ms.chunk, out.C, b, add,
                           out.window(y, begin + i, rows, cols, out.side, 0));
            });
        };
        if (batches.alone)
            parallel_for(exec, batches.count(), [&](int64_t batch) { run_batch(Exec{}, batch); });
        else
            for (int64_t batch = 0; batch < batches.count(); ++batch) run_batch(exec, batch);
    }
};

Map input_map(const Conv2dProblem& p) {
    return {p.N, p.H, p.W, p.C, 2 * kTile};
}
Map output_map(const Conv2dProblem& p) {
    return {p.N, p.P, p.Q, p.K, kTile};
}

}  // namespace

const char* stride2_reject(const Conv2dProblem& p) {
    if (p.dtype != DType::f32) return "needs f32";
    if (p.spec.kernel != 3) return "needs a 3x3 kernel";
    if (p.spec.stride != 2) return "needs stride 2";
    return nullptr;
}

const char* stride2_avoid(const Conv2dProblem& p) {
    constexpr int64_t kChannels = 8, kPixels = 64;  // as for winograd
    if (p.C < kChannels || p.K < kChannels) return "too few channels to pay for the transforms";
    if (p.N * p.P * p.Q < kPixels) return "too few pixels to pay for the transforms";
    return nullptr;
}

void forward_stride2(const Exec& exec, const Conv2dProblem& p, const Tensor& x, const Tensor& w,
                     const Tensor& b, const Tensor& y) {
    float* u = scratch<float, Scratch::operation>(kWeightSlots * padded(p.C) * padded(p.K));
    transform_weights(exec, p, w.data<float>(), u);
    const Stride2Loops& loops = stride2_loops_for(isa());
    const Convolution convolution{kForwardProducts, input_map(p), output_map(p), 5, 1,
                                  loops.input,      loops.output};
    convolution.run(exec, x.data<float>(), u, b.defined() ? b.data<float>() : nullptr,
                    y.data<float>(), false);
}

void grad_input_stride2(const Exec& exec, const Conv2dProblem& p, const Tensor& dy, const Tensor& w,
                        const GradIn& dx) {
    float* u = scratch<float, Scratch::operation>(kWeightSlots * padded(p.C) * padded(p.K));
    transform_turned_weights(exec, p, w.data<float>(), u);
    const Stride2Loops& loops = stride2_loops_for(isa());
    const Convolution convolution{kTurnedProducts,    output_map(p),      input_map(p), 3, 0,
                                  loops.turned_input, loops.turned_output};
    convolution.run(exec, dy.data<float>(), u, nullptr, dx.grad.data<float>(), dx.beta != 0);
}

void grad_weight_stride2(const Exec& exec, const Conv2dProblem& p, const Tensor& x,
                         const Tensor& dy, const GradIn& dw) {
    const float *const px = x.data<float>(), *const pdy = dy.data<float>();
    const Stride2Loops& loops = stride2_loops_for(isa());
    const OuterTile& tile = outer_tile();
    const Map in = input_map(p), out = output_map(p);
    const int64_t rows = out.rows(), cols = out.cols(), panels = padded(p.C) / tile.panel;
    constexpr int64_t kInputSlots = 25, kGradSlots = 9;
    const Batches batches(p.N * rows * cols, kInputSlots * padded(p.C) + kGradSlots * padded(p.K),
                          kWeightSlots * p.C * p.K, false);
    const Slots vs(p.C, batches.size), zs(p.K, batches.size);
    const int64_t chunk = padded(p.K) * tile.panel, slot = panels * chunk;
    float* du = scratch<float, Scratch::operation>(kWeightSlots * slot);
    float* v = scratch<float>(kInputSlots * vs.slot + kGradSlots * zs.slot);
    float* z = v + kInputSlots * vs.slot;
    for (int64_t batch = 0; batch < batches.count(); ++batch) {
        const int64_t begin = batches.begin(batch), tiles = batches.tiles(batch);
        for_each_run(exec, tiles, [&](int64_t i) {
            loops.input(in.window(px, begin + i, rows, cols, 5, 1), p.C, v + i * tile.panel,
                        vs.slot, vs.chunk);
            loops.grad_output(out.window(pdy, begin + i, rows, cols, kTile, 0), p.K,
                              z + i * tile.panel, zs.slot, zs.chunk);
        });
        parallel_for(exec, kWeightSlots * panels, [&](int64_t task) {
            const int64_t result = task / panels, c = task % panels;
            kWeightProducts.for_each(result, [&](int64_t left, int64_t right, bool first_term) {
                for (int64_t k = 0; k < padded(p.K); k += tile.max_rows)
                    tile.multiply(z + right * zs.slot + k / tile.panel * zs.chunk + k % tile.panel,
                                  tile.panel, v + left * vs.slot + c * vs.chunk, tile.panel,
                                  du + result * slot + c * chunk + k * tile.panel, tile.panel,
                                  tile.max_rows, tiles, batch > 0 || !first_term);
            });
        });
    }
    parallel_for(exec, p.K, [&](int64_t k) {
        loops.weight_gradient(du + k * tile.panel, slot, chunk, p.C, nullptr, dw.beta != 0,
                              {dw.grad.data<float>() + k * 9 * p.C, 3 * p.C, p.C, 0, 3, 0, 3});
    });
}

}  // namespace lumachrome
