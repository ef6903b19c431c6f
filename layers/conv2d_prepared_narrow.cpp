// One or two output channels: a panel of them would be mostly empty, so lanes run over the inputs,
// which follow one another over a whole kernel row in NHWC.
#include <algorithm>

#include "layers/conv2d_prepared_drivers.hpp"
#include "layers/conv2d_tiles.hpp"

namespace lumachrome {
namespace {

constexpr int64_t kMostKernel = 3;
constexpr int64_t kTaskProducts = 200000;  // worth a task

int64_t padded_depth(const PreparedConv2dProblem& p) {
    const int64_t lanes = narrow_tile_for(isa()).lanes;
    return divide_up(p.spec.kernel * p.C, lanes) * lanes;
}

void run_row(const PreparedConv2dProblem& p, const float* packed, const float* biases,
             const RowBand& x, int64_t row, float* y) {
    const NarrowTile& tile = narrow_tile_for(isa());
    const int64_t kernel = p.spec.kernel, stride = p.spec.stride, pad = p.spec.pad();
    const int64_t pixels = tile.pixels(p.K), window = (pixels - 1) * stride + kernel;
    // A tile that hangs over the border reads a copy of its windows.
    float* copy = scratch<float>(kernel * window * p.C);
    const float* rows[kMostKernel];
    for (int64_t q = 0; q < p.Q; q += pixels) {
        const int64_t left = q * stride - pad, top = row * stride - pad;
        const bool inside = left >= 0 && left + window <= p.W && top >= 0 && top + kernel <= p.H;
        for (int64_t r = 0; r < kernel; ++r) {
            const int64_t h = top + r;
            const float* from = x.data + ((h - x.rows.begin) * p.W + left) * p.C;
            rows[r] = from;
            if (inside) continue;
            float* to = copy + r * window * p.C;
            rows[r] = to;
            const int64_t begin = std::max<int64_t>(0, -left);
            const int64_t end =
                h < 0 || h >= p.H ? begin : std::clamp<int64_t>(p.W - left, begin, window);
            std::fill_n(to, begin * p.C, 0.0f);
            std::copy(from + begin * p.C, from + end * p.C, to + begin * p.C);
            std::fill_n(to + end * p.C, (window - end) * p.C, 0.0f);
        }
        tile.run(rows, kernel, kernel * p.C, stride * p.C, packed, p.K, biases + q * p.K,
                 y + q * p.K, std::min(pixels, p.Q - q), epilogue_of(p));
    }
}

}  // namespace

const char* narrow_reject(const PreparedConv2dProblem& p) {
    if (p.K > narrow_tile_for(isa()).max_outputs) return "needs one or two output channels";
    if (p.spec.kernel > kMostKernel) return "needs a kernel of at most 3x3";
    if (p.upsample) return "needs a map without upsampling";
    return nullptr;
}

const char* narrow_avoid(const PreparedConv2dProblem& p) {
    return p.C < 4 ? "too few channels to fill registers" : nullptr;
}

int64_t narrow_row_step(const PreparedConv2dProblem&) {
    return 1;
}

// [K][kernel][kernel * C], kernel rows padded to whole registers
Tensor narrow_pack(const Exec&, const PreparedConv2dProblem& p, const Tensor& w) {
    const int64_t depth = p.spec.kernel * p.C, padded = padded_depth(p);
    const Tensor packed = Tensor::zeros({p.K * p.spec.kernel, padded});
    for (int64_t i = 0; i < p.K * p.spec.kernel; ++i)
        std::copy_n(w.data<float>() + i * depth, depth, packed.data<float>() + i * padded);
    return packed;
}

void narrow_run(const Exec& exec, const PreparedConv2dProblem& p, const Tensor& packed,
                const float* bias, const RowBand& x, const RowBand& y) {
    // Biases of a whole row of pixels, for each border case of rows: a tile loads them like x.
    const int64_t cases = p.border_bias ? 4 : 1, row_size = p.Q * p.K;
    float* biases = scratch<float, Scratch::operation>(cases * row_size);
    for (int64_t i = 0; i < cases; ++i)
        for (int64_t q = 0; q < p.Q; ++q) {
            const int64_t kind = p.border_bias ? i * 4 + border_case(q, p.Q) : 0;
            std::copy_n(bias + kind * p.K, p.K, biases + i * row_size + q * p.K);
        }
    const int64_t height = y.rows.end - y.rows.begin;
    const int64_t row_products = row_size * p.spec.kernel * p.spec.kernel * p.C;
    const int64_t per_task = std::clamp<int64_t>(kTaskProducts / row_products, 1, height);
    parallel_for(exec, divide_up(height, per_task), [&](int64_t task) {
        for (int64_t i = task * per_task; i < std::min(height, (task + 1) * per_task); ++i) {
            const int64_t row = y.rows.begin + i;
            const int64_t kind = p.border_bias ? border_case(row, p.P) : 0;
            run_row(p, packed.data<float>(), biases + kind * row_size, x, row,
                    y.data + i * row_size);
        }
    });
}

}  // namespace lumachrome
