// 3x3 with stride 2 through Winograd. Along one axis the kernel touches odd and even samples,
//
//   y[p] = w0 o[p] + w2 o[p+1] + w1 e[p]       o[p] = x[2p-1], e[p] = x[2p]
//
// a kernel of two taps on the odd ones and of one on the even ones. F(m,2) makes m outputs of the
// first with m + 1 products, the second needs m: with m = 2 5 products instead of 6, with m = 4
// 9 instead of 12, and in two dimensions 25 of 36 (P2) or 81 of 144 (P4). In matrices, with even
// samples passed on as they are and w1 as their only weight,
//
//   y = A^T ((G w G^T) * (B^T x B)) A          V = B^T x B, U = G w G^T, M their products
//
// Even samples of an axis share weights, so U has (m + 2)^2 matrices: 16 or 36.
#include <algorithm>

#include "layers/conv2d_prepared_drivers.hpp"
#include "layers/conv2d_tiles.hpp"
#include "tensor/gemm_tile.hpp"

namespace lumachrome {
namespace {

constexpr int64_t kBlockBytes = 640 << 10;  // of V: most of a second-level cache
constexpr int64_t kFewBlocks = 8;

// Outputs of one axis: G w.
void transform_taps(int64_t out, double w0, double w1, double w2, double* u) {
    if (out == 2) {
        u[0] = w0, u[1] = w0 + w2, u[2] = w2, u[3] = w1;
        return;
    }
    constexpr double kA = double(kStride2PointA), kB = double(kStride2PointB);
    constexpr double kAcrossA = 2 * kA * (kA * kA - kB * kB),
                     kAcrossB = 2 * kB * (kB * kB - kA * kA);
    u[0] = (w0 + kA * w2) / kAcrossA;
    u[1] = (w0 - kA * w2) / -kAcrossA;
    u[2] = (w0 + kB * w2) / kAcrossB;
    u[3] = (w0 - kB * w2) / -kAcrossB;
    u[4] = w2, u[5] = w1;
}

// Products that share weights: `positions` positions from `first` on.
struct Group {
    int64_t first, positions;
};
template <int64_t kOut>
Group group(int64_t matrix) {
    constexpr int64_t kOdd = kOut + 1, kKinds = kOut + 2;
    const int64_t r = matrix / kKinds, s = matrix % kKinds;
    return {stride2_position<kOut>(r, s), (r == kOdd ? kOut : 1) * (s == kOdd ? kOut : 1)};
}

// [K/panel][(m+2)^2][C][panel]
template <int64_t kOut>
Tensor pack(const Exec& exec, const PreparedConv2dProblem& p, const Tensor& w) {
    constexpr int64_t kKinds = kOut + 2, kMatrices = kKinds * kKinds;
    const int64_t panel = gemm_tile().panel;
    const Tensor packed = Tensor::zeros({divide_up(p.K, panel), kMatrices * p.C * panel});
    const View<const float> from = w.view<const float>();
    parallel_for(exec, p.K, [&](int64_t k) {
        float* to = packed.data<float>() + k / panel * kMatrices * p.C * panel + k % panel;
        for (int64_t c = 0; c < p.C; ++c) {
            double half[3][kKinds], both[kKinds];  // [tap column][row kind]
            for (int64_t s = 0; s < 3; ++s)
                transform_taps(kOut, double(from(k, 0, s, c)), double(from(k, 1, s, c)),
                               double(from(k, 2, s, c)), half[s]);
            for (int64_t r = 0; r < kKinds; ++r) {
                transform_taps(kOut, half[0][r], half[1][r], half[2][r], both);
                for (int64_t s = 0; s < kKinds; ++s)
                    to[((r * kKinds + s) * p.C + c) * panel] = static_cast<float>(both[s]);
            }
        }
    });
    return packed;
}

// Tiles of a band, in blocks whose V stays in the cache.
template <int64_t kOut>
struct Blocks {
    static constexpr int64_t kSide = 2 * kOut + 1, kPositions = kSide * kSide;
    static constexpr int64_t kMatrices = (kOut + 2) * (kOut + 2);
    const PreparedConv2dProblem& p;
    const RowBand &x, &y;
    const GemmTile& product = gemm_tile();
    const Stride2Transforms& transforms =
        kOut == 2 ? stride2_tile_for(isa()).p2 : stride2_tile_for(isa()).p4;
    int64_t across = divide_up(p.Q, kOut);
    int64_t count = divide_up(y.rows.end - y.rows.begin, kOut) * across;  // of tiles
    int64_t panels = divide_up(p.K, product.panel);                       // of output channels
    int64_t chunks = divide_up(p.C, product.panel);  // of input channels, panel of them each
    int64_t blocks = 0;

    Blocks(const PreparedConv2dProblem& problem, const RowBand& in, const RowBand& out)
        : p(problem), x(in), y(out) {
        // Whole tiles of the product, if one fits; several, if there are blocks enough.
        const int64_t rows = product.max_rows;
        int64_t most = std::max<int64_t>(
            1, kBlockBytes / int64_t{sizeof(float)} / (kPositions * chunks * product.panel));
        if (most >= rows) most = count < most * kFewBlocks ? rows : most / rows * rows;
        blocks = divide_up(count, most);
    }
    Rows tiles(int64_t block) const { return part_of(count, blocks, block); }
    // V [chunks][positions][tiles][panel], M the same for one panel
    int64_t v_size() const { return chunks * m_size(); }
    int64_t m_size() const { return divide_up(count, blocks) * kPositions * product.panel; }

    void transform(const Rows& block, int64_t chunk, float* v) const {
        const int64_t size = block.end - block.begin, c = chunk * product.panel;
        v += chunk * size * kPositions * product.panel;
        for (int64_t t = block.begin; t < block.end; ++t) {
            const int64_t top = (y.rows.begin + t / across * kOut) * 2 - 1;
            const int64_t left = t % across * kOut * 2 - 1;
            const TilePart part{std::max<int64_t>(0, -top), std::min(kSide, p.H - top),
                                std::max<int64_t>(0, -left), std::min(kSide, p.W - left)};
            transforms.input(x.data + ((top - x.rows.begin) * p.W + left) * p.C + c, p.W * p.C, p.C,
                             part, std::min(product.panel, p.C - c),
                             v + (t - block.begin) * product.panel, size * product.panel);
        }
    }

    void multiply(const Rows& block, int64_t panel, const float* packed, const float* bias,
                  const float* v, float* m) const {
        const int64_t size = block.end - block.begin, width = product.panel;
        const float* u = packed + panel * kMatrices * p.C * width;
        for (int64_t matrix = 0; matrix < kMatrices; ++matrix, u += p.C * width) {
            const Group same = group<kOut>(matrix);
            const int64_t rows = same.positions * size, first = same.first * size;
            const int64_t parts = divide_up(rows, product.max_rows);
            for (int64_t i = 0; i < parts; ++i) {
                const Rows part = part_of(rows, parts, i);
                product.multiply(v + (first + part.begin) * width, width, kPositions * size * width,
                                 u, m + (first + part.begin) * width, width, part.end - part.begin,
                                 p.C, false);
            }
        }
        const float* pixel_bias[kOut * kOut];
        const int64_t k = panel * width;
        for (int64_t t = block.begin; t < block.end; ++t) {
            const int64_t row = y.rows.begin + t / across * kOut, column = t % across * kOut;
            for (int64_t i = 0; i < kOut * kOut; ++i)
                pixel_bias[i] = bias_of(p, bias, row + i / kOut, column + i % kOut, k);
            transforms.output(m + (t - block.begin) * width, size * width,
                              std::min(kOut, y.rows.end - row), std::min(kOut, p.Q - column),
                              pixel_bias, y.data + ((row - y.rows.begin) * p.Q + column) * p.K + k,
                              p.Q * p.K, p.K, std::min(width, p.K - k), epilogue_of(p));
        }
    }
};

template <int64_t kOut>
void run(const Exec& exec, const PreparedConv2dProblem& p, const Tensor& packed, const float* bias,
         const RowBand& x, const RowBand& y) {
    const Blocks<kOut> b(p, x, y);
    const float* u = packed.data<float>();
    if (b.blocks >= kFewBlocks) {  // every task has a V of its own
        parallel_for(exec, b.blocks, [&](int64_t block) {
            float* v = scratch<float>(b.v_size() + b.m_size());
            for (int64_t chunk = 0; chunk < b.chunks; ++chunk)
                b.transform(b.tiles(block), chunk, v);
            for (int64_t panel = 0; panel < b.panels; ++panel)
                b.multiply(b.tiles(block), panel, u, bias, v, v + b.v_size());
        });
        return;
    }
    float* v = scratch<float, Scratch::operation>(b.blocks * b.v_size());
    parallel_for(exec, b.blocks * b.chunks, [&](int64_t task) {
        const int64_t block = task / b.chunks;
        b.transform(b.tiles(block), task % b.chunks, v + block * b.v_size());
    });
    parallel_for(exec, b.panels * b.blocks, [&](int64_t task) {
        const int64_t block = task % b.blocks;
        b.multiply(b.tiles(block), task / b.blocks, u, bias, v + block * b.v_size(),
                   scratch<float>(b.m_size()));
    });
}

// In products of one input and one output channel. Measured: a transform takes as long as 11
// products for each input and 4 for each output, a weight as long as 20.
constexpr double kInputCost = 11, kOutputCost = 4, kWeightCost = 20;

template <int64_t kOut>
double cost(const PreparedConv2dProblem& p) {
    constexpr int64_t kSide = 2 * kOut + 1, kKinds = kOut + 2;
    const double tiles = double(divide_up(p.P, kOut) * divide_up(p.Q, kOut));
    const double transforms = kInputCost / double(p.K) + kOutputCost / double(p.C);
    return tiles * double(kSide * kSide) * (1 + transforms) + kWeightCost * double(kKinds * kKinds);
}
double direct_cost(const PreparedConv2dProblem& p) {
    return 9 * (double(p.P * p.Q) + kWeightCost);
}

}  // namespace

const char* stride2_reject(const PreparedConv2dProblem& p) {
    if (p.spec.kernel != 3 || p.spec.stride != 2) return "needs a 3x3 kernel and stride 2";
    if (p.upsample) return "needs a map without upsampling";
    return nullptr;
}

const char* stride2_p2_avoid(const PreparedConv2dProblem& p) {
    return cost<2>(p) > direct_cost(p) ? "costs more than the plain sum" : nullptr;
}

const char* stride2_p4_avoid(const PreparedConv2dProblem& p) {
    return cost<4>(p) > std::min(cost<2>(p), direct_cost(p)) ? "costs more than smaller tiles"
                                                             : nullptr;
}

int64_t stride2_p2_row_step(const PreparedConv2dProblem&) {
    return 2;
}

int64_t stride2_p4_row_step(const PreparedConv2dProblem&) {
    return 4;
}

Tensor stride2_p2_pack(const Exec& exec, const PreparedConv2dProblem& p, const Tensor& w) {
    return pack<2>(exec, p, w);
}

Tensor stride2_p4_pack(const Exec& exec, const PreparedConv2dProblem& p, const Tensor& w) {
    return pack<4>(exec, p, w);
}

void stride2_p2_run(const Exec& exec, const PreparedConv2dProblem& p, const Tensor& packed,
                    const float* bias, const RowBand& x, const RowBand& y) {
    run<2>(exec, p, packed, bias, x, y);
}

void stride2_p4_run(const Exec& exec, const PreparedConv2dProblem& p, const Tensor& packed,
                    const float* bias, const RowBand& x, const RowBand& y) {
    run<4>(exec, p, packed, bias, x, y);
}

}  // namespace lumachrome
