// The plain sum, tiled for registers: what fits nothing else, and the fastest where weights or
// outputs, not products, are what takes time.
#include <algorithm>

#include "layers/conv2d_prepared_drivers.hpp"
#include "layers/conv2d_tiles.hpp"

namespace lumachrome {
namespace {

constexpr int64_t kMostKernel = 3;
constexpr int64_t kBlockBytes = 2 << 20;   // of padded rows, so that they stay in the cache
constexpr int64_t kTaskProducts = 200000;  // worth a task
constexpr int64_t kFewTasks = 16;
constexpr int64_t kSmallWeights = 256 << 10;  // bytes that stay in the cache beside the tile
// Pixels that lie multiples of this apart fall on the same few places of the first cache.
constexpr int64_t kConflictBytes = 4096;

const DirectTile& tile() {
    return direct_tile_for(isa());
}

// How the rows of x are laid out for the tile.
struct Layout {
    bool copied;          // padded with zeros; else they are read where they are
    int64_t pixel, row;   // floats from one to the next
    int64_t column_taps;  // taps of a kernel row that do not follow one another: kernel, or 1
    int64_t depth;        // floats of a tap
    explicit Layout(const PreparedConv2dProblem& p) {
        const int64_t pad = p.spec.pad();
        const bool conflicts = p.spec.stride * p.C * int64_t{sizeof(float)} % kConflictBytes == 0;
        copied = pad > 0 || p.upsample || conflicts;
        pixel = p.C + (conflicts ? tile().lanes : 0);
        row = (p.input_width() + 2 * pad) * pixel;
        column_taps = conflicts ? p.spec.kernel : 1;
        depth = p.spec.kernel / column_taps * p.C;
    }
};

// Row `h` of the map that the convolution sees, which may lie outside.
void copy_row(const PreparedConv2dProblem& p, const Layout& layout, const RowBand& x, int64_t h,
              float* to) {
    const int64_t pad = p.spec.pad(), width = p.input_width(), shift = p.upsample ? 1 : 0;
    if (h < 0 || h >= p.input_height()) {
        std::fill_n(to, layout.row, 0.0f);
        return;
    }
    const float* from = x.data + ((h >> shift) - x.rows.begin) * p.W * p.C;
    std::fill_n(to, pad * layout.pixel, 0.0f);
    std::fill_n(to + (width + pad) * layout.pixel, pad * layout.pixel, 0.0f);
    to += pad * layout.pixel;
    if (!p.upsample && layout.pixel == p.C)
        std::copy_n(from, width * p.C, to);
    else
        for (int64_t v = 0; v < width; ++v)
            std::copy_n(from + (v >> shift) * p.C, p.C, to + v * layout.pixel);
}

// Output rows [begin, end), whose first tap lies at `rows`.
void run_block(const Exec& exec, const PreparedConv2dProblem& p, const Layout& layout,
               const float* packed, const float* bias, const float* rows, Rows out,
               const RowBand& y) {
    const DirectTile& t = tile();
    const int64_t kernel = p.spec.kernel, count = out.end - out.begin;
    const int64_t panels = divide_up(p.K, t.panel), panel_size = kernel * kernel * p.C * t.panel;
    const int64_t products = p.Q * panel_size;
    const int64_t tiles = divide_up(p.Q, p.K <= t.lanes ? t.max_pixels_narrow : t.max_pixels);
    const int64_t rows_per_task = std::clamp<int64_t>(kTaskProducts / products, 1, count);
    const int64_t row_tasks = divide_up(count, rows_per_task);
    const bool all_panels =
        row_tasks >= kFewTasks && panels * panel_size * int64_t{sizeof(float)} <= kSmallWeights;
    const int64_t panels_per_task = all_panels ? panels : 1;

    parallel_for(exec, row_tasks * divide_up(panels, panels_per_task), [&](int64_t task) {
        const Rows mine = {task % row_tasks * rows_per_task,
                           std::min(count, (task % row_tasks + 1) * rows_per_task)};
        const int64_t first = task / row_tasks * panels_per_task;
        const int64_t end = std::min(panels, first + panels_per_task);
        const float *taps[kMostKernel * kMostKernel], *pixel_bias[16];
        for (int64_t i = mine.begin; i < mine.end; ++i)
            for (int64_t part = 0; part < tiles; ++part) {
                const Rows q = part_of(p.Q, tiles, part);
                const int64_t row = out.begin + i, pixels = q.end - q.begin;
                int64_t tap = 0;
                for (int64_t r = 0; r < kernel; ++r)
                    for (int64_t s = 0; s < layout.column_taps; ++s)
                        taps[tap++] = rows + (i * p.spec.stride + r) * layout.row +
                                      (q.begin * p.spec.stride + s) * layout.pixel;
                for (int64_t panel = first; panel < end; ++panel) {
                    const int64_t k = panel * t.panel;
                    for (int64_t v = 0; v < pixels; ++v)
                        pixel_bias[v] = bias_of(p, bias, row, q.begin + v, k);
                    t.run(taps, tap, layout.depth, p.spec.stride * layout.pixel,
                          packed + panel * panel_size,
                          {.bias = pixel_bias,
                           .y = y.data + ((row - y.rows.begin) * p.Q + q.begin) * p.K + k,
                           .pixel = p.K,
                           .pixels = pixels,
                           .channels = std::min(t.panel, p.K - k),
                           .epilogue = epilogue_of(p),
                           .stream = true});
                }
            }
        t.end_stream();
    });
}

}  // namespace

const char* direct_reject(const PreparedConv2dProblem& p) {
    return p.spec.kernel > kMostKernel ? "needs a kernel of at most 3x3" : nullptr;
}

int64_t direct_row_step(const PreparedConv2dProblem&) {
    return 1;
}

// [K/panel][kernel][kernel][C][panel]
Tensor direct_pack(const Exec& exec, const PreparedConv2dProblem& p, const Tensor& w) {
    const int64_t panel = tile().panel, taps = p.spec.kernel * p.spec.kernel;
    const Tensor packed = Tensor::zeros({divide_up(p.K, panel), taps * p.C * panel});
    const float* from = w.data<float>();
    parallel_for(exec, p.K, [&](int64_t k) {
        float* to = packed.data<float>() + k / panel * taps * p.C * panel + k % panel;
        for (int64_t i = 0; i < taps * p.C; ++i) to[i * panel] = from[k * taps * p.C + i];
    });
    return packed;
}

void direct_run(const Exec& exec, const PreparedConv2dProblem& p, const Tensor& packed,
                const float* bias, const RowBand& x, const RowBand& y) {
    const Layout layout(p);
    const int64_t stride = p.spec.stride, overlap = p.spec.kernel - stride;
    const int64_t most = std::max<int64_t>(
        1, (kBlockBytes / int64_t{sizeof(float)} / layout.row - overlap) / stride);
    const int64_t height = y.rows.end - y.rows.begin;
    const int64_t blocks = layout.copied ? divide_up(height, most) : 1;
    for (int64_t block = 0; block < blocks; ++block) {
        const Rows part = part_of(height, blocks, block);
        const Rows out{y.rows.begin + part.begin, y.rows.begin + part.end};
        const int64_t top = out.begin * stride - p.spec.pad();
        const float* rows = x.data + (top - x.rows.begin) * layout.row;
        if (layout.copied) {
            const int64_t needed = (out.end - out.begin) * stride + overlap;
            float* to = scratch<float, Scratch::operation>(needed * layout.row);
            rows = to;
            parallel_for(exec, needed,
                         [&](int64_t i) { copy_row(p, layout, x, top + i, to + i * layout.row); });
        }
        run_block(exec, p, layout, packed.data<float>(), bias, rows, out, y);
    }
}

}  // namespace lumachrome
