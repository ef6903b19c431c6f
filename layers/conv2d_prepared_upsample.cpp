// Nearest upsampling x2, then 3x3: nine products for four outputs, where the plain sum takes 36.
// Along one axis, with s = w0 + w1 + w2, the outputs over x[i] are
//
//   even = w0 (x[i-1] - x[i]) + s x[i]        odd = s x[i] + w2 (x[i+1] - x[i])
//
// for zero padding too, with x outside the map = 0. Both differences are those of neighbours, so
// with d[i] = x[i] - x[i-1] the three products are -w0 d[i], s x[i] and w2 d[i+1]; in two
// dimensions their tensor product over four maps: x, its differences along rows, along columns,
// along both.
#include <algorithm>

#include "layers/conv2d_prepared_drivers.hpp"
#include "layers/conv2d_tiles.hpp"
#include "tensor/gemm_tile.hpp"

namespace lumachrome {
namespace {

constexpr int64_t kProducts = 9;
constexpr int64_t kMinChannels = 8;
constexpr int64_t kMaxPixels = 32, kMaxLanes = 16;  // no instruction set has more in a tile
constexpr int64_t kTaskProducts = 400000;           // worth a task
constexpr int64_t kFewTasks = 16;

// Columns [begin, end) of row i of x.
void run_tile(const PreparedConv2dProblem& p, const float* packed, const float* bias,
              const RowBand& x, const RowBand& y, int64_t i, Rows columns) {
    const GemmTile& product = gemm_tile();
    const UpsampleTile& tile = upsample_tile_for(isa());
    const int64_t count = columns.end - columns.begin, C = p.C, panel = product.panel;
    const int64_t map = (count + 1) * C, size = count * panel;
    float* column = scratch<float>(5 * map + kProducts * size);
    float *const row[2] = {column + map, column + 2 * map}, *const both[2] = {column + 3 * map,
                                                                              column + 4 * map};
    float* products = column + 5 * map;

    const float* rows[3];
    for (int64_t r = 0; r < 3; ++r) {
        const int64_t h = i + r - 1;
        rows[r] =
            h < 0 || h >= p.H ? nullptr : x.data + ((h - x.rows.begin) * p.W + columns.begin) * C;
    }
    tile.differences(rows, count, C, columns.begin > 0, columns.end < p.W, column, row, both);

    const float* maps[kProducts] = {both[0],    row[0],  both[0] + C, column,     rows[1],
                                    column + C, both[1], row[1],      both[1] + C};
    // A tile of one register does no work for channels that are not there.
    const DirectTile& narrow = direct_tile_for(isa());
    const float no_bias[kMaxLanes] = {};
    const float* no_biases[kMaxPixels];
    std::fill_n(no_biases, count, no_bias);

    const float* pixel_bias[2][2 * kMaxPixels];
    const float* const* const row_bias[2] = {pixel_bias[0], pixel_bias[1]};
    for (int64_t k = 0; k < p.K; k += panel, packed += kProducts * C * panel) {
        for (int64_t a = 0; a < kProducts; ++a) {
            const float* u = packed + a * C * panel;
            if (p.K - k <= narrow.lanes)
                narrow.run(&maps[a], 1, C, C, u,
                           {.bias = no_biases,
                            .y = products + a * size,
                            .pixel = panel,
                            .pixels = count,
                            .channels = narrow.lanes,
                            .epilogue = Epilogue::none});
            else
                product.multiply(maps[a], C, panel, u, products + a * size, panel, count, C, false);
        }
        float* to[2];
        for (int64_t r = 0; r < 2; ++r) {
            const int64_t out = 2 * i + r;
            to[r] = y.data + ((out - y.rows.begin) * p.Q + 2 * columns.begin) * p.K + k;
            for (int64_t v = 0; v < 2 * count; ++v)
                pixel_bias[r][v] = bias_of(p, bias, out, 2 * columns.begin + v, k);
        }
        tile.finish(products, size, count, row_bias, to, p.K, std::min(panel, p.K - k),
                    epilogue_of(p));
    }
}

}  // namespace

const char* upsample_reject(const PreparedConv2dProblem& p) {
    if (!p.upsample) return "needs upsampling";
    if (p.spec.kernel != 3 || p.spec.stride != 1) return "needs a 3x3 kernel and stride 1";
    return nullptr;
}

const char* upsample_avoid(const PreparedConv2dProblem& p) {
    return p.C < kMinChannels ? "too few channels to pay for the transforms" : nullptr;
}

int64_t upsample_row_step(const PreparedConv2dProblem&) {
    return 2;
}

// [K/panel][9][C][panel]: products of row kinds by column kinds, each (-w0, s, w2).
Tensor upsample_pack(const Exec& exec, const PreparedConv2dProblem& p, const Tensor& w) {
    const int64_t panel = gemm_tile().panel;
    const Tensor packed = Tensor::zeros({divide_up(p.K, panel), kProducts * p.C * panel});
    const View<const float> from = w.view<const float>();
    parallel_for(exec, p.K, [&](int64_t k) {
        float* to = packed.data<float>() + k / panel * kProducts * p.C * panel + k % panel;
        for (int64_t c = 0; c < p.C; ++c) {
            const auto kinds = [](double w0, double w1, double w2, double(&out)[3]) {
                out[0] = -w0, out[1] = w0 + w1 + w2, out[2] = w2;
            };
            double rows[3][3], both[3];  // [column][row kind]
            for (int64_t s = 0; s < 3; ++s)
                kinds(double(from(k, 0, s, c)), double(from(k, 1, s, c)), double(from(k, 2, s, c)),
                      rows[s]);
            for (int64_t a = 0; a < 3; ++a) {
                kinds(rows[0][a], rows[1][a], rows[2][a], both);
                for (int64_t b = 0; b < 3; ++b)
                    to[((3 * a + b) * p.C + c) * panel] = static_cast<float>(both[b]);
            }
        }
    });
    return packed;
}

void upsample_run(const Exec& exec, const PreparedConv2dProblem& p, const Tensor& packed,
                  const float* bias, const RowBand& x, const RowBand& y) {
    const int64_t tiles = divide_up(p.W, std::min(kMaxPixels, gemm_tile().max_rows));
    const int64_t first = y.rows.begin / 2, rows = (y.rows.end - y.rows.begin) / 2;
    const int64_t tile_products = divide_up(p.W, tiles) * kProducts * p.C * p.K;
    const int64_t per_task =
        rows * tiles < kFewTasks ? 1 : std::clamp<int64_t>(kTaskProducts / tile_products, 1, tiles);
    const int64_t row_tasks = divide_up(tiles, per_task);
    parallel_for(exec, rows * row_tasks, [&](int64_t task) {
        const int64_t begin = task % row_tasks * per_task;
        for (int64_t i = begin; i < std::min(tiles, begin + per_task); ++i)
            run_tile(p, packed.data<float>(), bias, x, y, first + task / row_tasks,
                     part_of(p.W, tiles, i));
    });
}

}  // namespace lumachrome
