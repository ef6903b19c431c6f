// Channels are cut into panels (GemmTile::panel), tiles into groups of about GemmTile::max_rows:
//   V [group][frequency][C/panel][row][panel]   transformed tiles
//   U [K/panel][frequency][C][panel]            transformed weights
//   M [group][frequency][row][panel]            products, of one panel of K
// so that a register tile reads U and V in the order of memory, and a thread that works on one
// panel of K reads its part of U once from end to end. Products of a few groups at a time are
// transformed back while they lie in L2. A sum over C is always taken in one go: bits depend
// neither on the cut into groups and bands nor on threads.
#include "layers/conv2d_winograd_tiles.hpp"

#include <algorithm>

namespace lumachrome {
namespace {

// Where there are tiles enough for kTasks blocks, a thread takes a block through everything alone:
// that beats sharing them even where they outgrow L2. The block is small where the weights fit L3
// next to what else lies there, and larger where each block reads them from memory.
constexpr int64_t kTasks = 8;
constexpr int64_t kSmallWeights = 3 << 20;  // floats
constexpr int64_t kAloneTiles = 14, kAloneTilesLargeWeights = 28;
// With fewer tiles all threads share them, and a task is a block and one panel of K.
constexpr int64_t kSharedTiles = 56, kSharedTasks = 16;

// One run.
struct Work {
    const Exec& exec;
    const WinogradConvolution& c;

    const WinogradCut& cut = c.cut;
    const int64_t C = c.weights.C, K = c.weights.K;
    const WinogradTransforms& f = c.weights.f;
    const GemmTile& tile = gemm_tile();
    const int64_t in_panels = divide_up(C, tile.panel), out_panels = divide_up(K, tile.panel);
    const int64_t groups = divide_up(cut.count(), tile.max_rows);
    const int64_t rows = divide_up(cut.count(), groups);  // of a group
    const int64_t v_stride = odd_lines(in_panels * rows * tile.panel);
    const int64_t v_group = f.frequencies * v_stride;
    const int64_t m_stride = odd_lines(rows * tile.panel), m_group = f.frequencies * m_stride;

    int64_t tiles(int64_t group) const { return std::min(rows, cut.count() - group * rows); }

    void transform(int64_t group, int64_t panel, float* v) const {
        WinogradWindow windows[WinogradCut::kRun];
        cut.windows(group * rows, tiles(group), f.in, 1, C, c.x_row, cut.H, windows);
        const int64_t first = panel * tile.panel;
        f.input({c.x + first, cut.W * C, C, C - first}, windows, tiles(group),
                v + panel * rows * tile.panel, v_stride);
    }
    // Groups [begin, end), transformed from `v` on, for one panel of K.
    void multiply(int64_t begin, int64_t end, int64_t panel, const float* v, float* m) const {
        const int64_t u_stride = c.weights.u_stride;
        const float* u = c.u + panel * f.frequencies * u_stride;
        for (int64_t i = 0; i < f.frequencies; ++i, u += u_stride)
            for (int64_t g = begin; g < end; ++g)
                tile.multiply_ahead(v + (g - begin) * v_group + i * v_stride, tile.panel,
                                    rows * tile.panel, u, m + (g - begin) * m_group + i * m_stride,
                                    tile.panel, tiles(g), C, false,
                                    g == begin ? u + u_stride : nullptr);
        const int64_t first = panel * tile.panel;
        WinogradFinish finish = c.finish;
        if (finish.bias) finish.bias += first;
        for (int64_t g = begin; g < end; ++g) {
            WinogradWindow windows[WinogradCut::kRun];
            WinogradCut::Positions positions;
            cut.windows(g * rows, tiles(g), f.out, 0, K, cut.row_begin, cut.row_end, windows,
                        &positions);
            f.output(m + (g - begin) * m_group, m_stride, {c.y + first, cut.W * K, K, K - first},
                     windows, positions.row_and_col, tiles(g), finish);
        }
    }

    bool alone() const { return groups >= kTasks; }
    void run_alone() const {
        const int64_t tiles_wanted =
            c.weights.floats <= kSmallWeights ? kAloneTiles : kAloneTilesLargeWeights;
        const int64_t size = std::clamp<int64_t>(groups / kTasks, 1, divide_up(tiles_wanted, rows));
        parallel_for(exec, divide_up(groups, size), [&](int64_t block) {
            const int64_t begin = block * size, end = std::min(groups, begin + size);
            float* v = scratch<float>(size * (v_group + m_group));
            float* m = v + size * v_group;
            for (int64_t g = begin; g < end; ++g)
                for (int64_t panel = 0; panel < in_panels; ++panel)
                    transform(g, panel, v + (g - begin) * v_group);
            for (int64_t panel = 0; panel < out_panels; ++panel) multiply(begin, end, panel, v, m);
        });
    }
    void run_shared(float* v) const {
        parallel_for(exec, groups * in_panels, [&](int64_t task) {
            const int64_t g = task / in_panels;
            transform(g, task % in_panels, v + g * v_group);
        });
        const int64_t size = std::clamp<int64_t>(groups * out_panels / kSharedTasks, 1,
                                                 divide_up(kSharedTiles, rows));
        const int64_t blocks = divide_up(groups, size);
        // Blocks that read the same weights follow one another.
        parallel_for(exec, blocks * out_panels, [&](int64_t task) {
            const int64_t begin = task % blocks * size, end = std::min(groups, begin + size);
            float* m = scratch<float>(size * m_group);
            multiply(begin, end, task / blocks, v + begin * v_group, m);
        });
    }
};

}  // namespace

void WinogradCut::windows(int64_t begin, int64_t tiles, int64_t size, int64_t pad, int64_t C,
                          int64_t first_row, int64_t end_row, WinogradWindow (&windows)[kRun],
                          Positions* positions) const {
    int64_t col = begin % cols(), row = begin / cols() % rows(), n = begin / (cols() * rows());
    for (int64_t i = 0; i < tiles; ++i) {
        const int64_t h = row_begin + row * out - pad, w = col * out - pad;
        windows[i] = {((n * H + h - first_row) * W + w) * C, std::max<int64_t>(0, -h),
                      std::min(size, end_row - h), std::max<int64_t>(0, -w), std::min(size, W - w)};
        if (positions) {
            positions->row_and_col[i][0] = h;
            positions->row_and_col[i][1] = w;
        }
        if (++col < cols()) continue;
        col = 0;
        if (++row < rows()) continue;
        row = 0;
        ++n;
    }
}

WinogradWeights::WinogradWeights(const WinogradTransforms& transforms, int64_t in, int64_t out,
                                 bool turn)
    : f(transforms),
      C(in),
      K(out),
      turned(turn),
      u_stride(odd_lines(in * gemm_tile().panel)),
      floats(divide_up(out, gemm_tile().panel) * transforms.frequencies * u_stride) {}

void WinogradWeights::pack(const Exec& exec, const float* w, float* u) const {
    const GemmTile& tile = gemm_tile();
    constexpr int64_t kMostPanel = 32, kChunk = 16;
    const int64_t chunks = divide_up(C, kChunk);
    parallel_for(exec, divide_up(K, tile.panel) * chunks, [&](int64_t task) {
        const int64_t first = task / chunks * tile.panel, end = std::min(K, first + tile.panel);
        const int64_t c_begin = task % chunks * kChunk, c_end = std::min(C, c_begin + kChunk);
        float* to = u + first / tile.panel * f.frequencies * u_stride;
        if (c_begin == 0)  // nobody reads what lies between frequencies, but bits are bits
            for (int64_t i = 0; i < f.frequencies; ++i)
                std::fill(to + i * u_stride + C * tile.panel, to + (i + 1) * u_stride, 0.0f);
        if (turned) {  // w is [C,3,3,K] in our letters: lanes lie side by side
            for (int64_t c = c_begin; c < c_end; ++c)
                for (int64_t k = 0; k < tile.panel; k += tile.lanes)
                    f.weights(w + (c * 9 + 8) * K + std::min(first + k, K - 1), -K,
                              std::max<int64_t>(0, end - first - k), to + c * tile.panel + k,
                              u_stride);
            return;
        }
        float taps[kChunk][9][kMostPanel] = {};  // lanes are output channels: transposed first
        for (int64_t k = first; k < end; ++k)
            for (int64_t tap = 0; tap < 9; ++tap)
                for (int64_t c = c_begin; c < c_end; ++c)
                    taps[c - c_begin][tap][k - first] = w[(k * 9 + tap) * C + c];
        for (int64_t c = c_begin; c < c_end; ++c)
            for (int64_t k = 0; k < tile.panel; k += tile.lanes)
                f.weights(taps[c - c_begin][0] + k, kMostPanel, tile.lanes, to + c * tile.panel + k,
                          u_stride);
    });
}

int64_t WinogradConvolution::shared_floats() const {
    const Exec exec;
    const Work work{exec, *this};
    return work.alone() ? 0 : work.groups * work.v_group;
}

void WinogradConvolution::run(const Exec& exec, float* shared) const {
    const Work work{exec, *this};
    if (work.alone())
        work.run_alone();
    else
        work.run_shared(shared);
}

}  // namespace lumachrome
