// Channels are cut into panels of kPanel, a register pair; every array keeps them innermost:
//   V [36][C/panel][tiles][panel]   transformed tiles of x (Z: of dy, M: products, with K for C)
//   U [36][K/panel][C][panel]       transformed weights (their gradient: [36][C/panel][K][panel])
// so a product reads and writes whole cache lines in order and nothing is packed. Missing channels
// of the last panel are zero. Tiles are worked off in batches, each in phases with all threads:
// transform (a task is a panel and a run of tiles), multiply (a task is a frequency), transform
// back.
#include <algorithm>
#include <cstring>

#include "layers/conv2d_winograd.hpp"

namespace lumachrome {
namespace {

// The widest vector of the instruction set compiled for.
constexpr int64_t kLanes = __BIGGEST_ALIGNMENT__ / sizeof(float);
using Vector [[gnu::vector_size(__BIGGEST_ALIGNMENT__)]] = float;

constexpr int64_t kPanel = 2 * kLanes;
constexpr int64_t kOut = 4, kIn = 6, kFrequencies = 36;
constexpr int64_t kRun = 16;           // tiles of one transform task
constexpr int64_t kDepth = 256;        // channels of one product: its panel of U stays in L1
constexpr int64_t kRows = 6;           // tiles of one product: 12 sums in registers
constexpr int64_t kFewChannels = 256;  // C + K up to which a thread takes a batch of tiles alone
constexpr int64_t kAloneFloats = 192 << 10, kSharedFloats = 1 << 20;  // of a batch: L2, L3
constexpr int64_t kWeightGroups = 8;  // partial sums of dw, where one thread takes a batch alone
constexpr float kA = 0.70710678118654752f, kB = 1.41421356237309505f;  // the points; kA kB = 1

int64_t divide_up(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}
int64_t padded(int64_t channels) {
    return divide_up(channels, kPanel) * kPanel;
}

// `count` may be less than a vector, or nothing: the rest is zero and not touched.
inline void load(const float* from, int64_t count, Vector& v) {
    v = Vector{};
    if (count >= kLanes)
        std::memcpy(&v, from, sizeof v);
    else if (count > 0)
        std::memcpy(&v, from, static_cast<size_t>(count) * sizeof(float));
}
inline void load(const float* from, Vector& v) {
    std::memcpy(&v, from, sizeof v);
}
inline void store(float* to, int64_t count, const Vector& v) {
    if (count >= kLanes)
        std::memcpy(to, &v, sizeof v);
    else if (count > 0)
        std::memcpy(to, &v, static_cast<size_t>(count) * sizeof(float));
}
inline void store(float* to, const Vector& v) {
    std::memcpy(to, &v, sizeof v);
}

// One axis of each transform; a step is the distance of neighbours along that axis. Even and odd
// powers are shared by a point and its opposite.
struct InputAxis {  // B^T
    static constexpr int64_t kFrom = kIn, kTo = kIn;
    static void apply(const Vector* d, int64_t s, Vector* v, int64_t t) {
        const Vector d1 = d[s], d2 = d[2 * s], d3 = d[3 * s], d4 = d[4 * s];
        v[0] = d[0] - 2.5f * d2 + d4;
        const Vector ea = d4 - 2.0f * d2, oa = kA * (d3 - 2.0f * d1);
        v[t] = ea + oa;
        v[2 * t] = ea - oa;
        const Vector eb = d4 - 0.5f * d2, ob = kB * (d3 - 0.5f * d1);
        v[3 * t] = eb + ob;
        v[4 * t] = eb - ob;
        v[5 * t] = d1 - 2.5f * d3 + d[5 * s];
    }
};
struct OutputAxis {  // A^T
    static constexpr int64_t kFrom = kIn, kTo = kOut;
    static void apply(const Vector* m, int64_t s, Vector* y, int64_t t) {
        const Vector sa = m[s] + m[2 * s], da = m[s] - m[2 * s];
        const Vector sb = m[3 * s] + m[4 * s], db = m[3 * s] - m[4 * s];
        y[0] = m[0] + sa + sb;
        y[t] = kA * da + kB * db;
        y[2 * t] = 0.5f * sa + 2.0f * sb;
        y[3 * t] = (0.5f * kA) * da + (2.0f * kB) * db + m[5 * s];
    }
};
struct OutputGradAxis {  // A
    static constexpr int64_t kFrom = kOut, kTo = kIn;
    static void apply(const Vector* y, int64_t s, Vector* z, int64_t t) {
        const Vector y0 = y[0], y1 = y[s], y2 = y[2 * s], y3 = y[3 * s];
        z[0] = y0;
        const Vector ea = y0 + 0.5f * y2, oa = kA * (y1 + 0.5f * y3);
        z[t] = ea + oa;
        z[2 * t] = ea - oa;
        const Vector eb = y0 + 2.0f * y2, ob = kB * (y1 + 2.0f * y3);
        z[3 * t] = eb + ob;
        z[4 * t] = eb - ob;
        z[5 * t] = y3;
    }
};
struct WeightAxis {  // G
    static constexpr int64_t kFrom = 3, kTo = kIn;
    static void apply(const Vector* g, int64_t s, Vector* u, int64_t t) {
        const Vector g0 = g[0], g1 = g[s], g2 = g[2 * s];
        u[0] = g0;
        const Vector ea = (-2 / 3.0f) * (g0 + 0.5f * g2), oa = (-2 / 3.0f) * kA * g1;
        u[t] = ea + oa;
        u[2 * t] = ea - oa;
        const Vector eb = (1 / 6.0f) * (g0 + 2.0f * g2), ob = (1 / 6.0f) * kB * g1;
        u[3 * t] = eb + ob;
        u[4 * t] = eb - ob;
        u[5 * t] = g2;
    }
};
struct WeightGradAxis {  // G^T
    static constexpr int64_t kFrom = kIn, kTo = 3;
    static void apply(const Vector* u, int64_t s, Vector* g, int64_t t) {
        const Vector sa = (-2 / 3.0f) * (u[s] + u[2 * s]), da = (-2 / 3.0f) * (u[s] - u[2 * s]);
        const Vector sb = (1 / 6.0f) * (u[3 * s] + u[4 * s]),
                     db = (1 / 6.0f) * (u[3 * s] - u[4 * s]);
        g[0] = u[0] + sa + sb;
        g[t] = kA * da + kB * db;
        g[2 * t] = 0.5f * sa + 2.0f * sb + u[5 * s];
    }
};

// Both axes: [kFrom][kFrom] -> [kTo][kTo].
template <class Axis>
inline void transform(const Vector* from, Vector* to) {
    Vector half[Axis::kTo * Axis::kFrom];
    for (int64_t i = 0; i < Axis::kFrom; ++i)
        Axis::apply(from + i, Axis::kFrom, half + i, Axis::kFrom);
    for (int64_t i = 0; i < Axis::kTo; ++i)
        Axis::apply(half + i * Axis::kFrom, 1, to + i * Axis::kTo, 1);
}

// A map [N,H,W,C] cut into tiles of 4x4; the window of a tile may hang over the border.
struct Tiles {
    int64_t N, H, W, C;
    int64_t rows() const { return divide_up(H, kOut); }
    int64_t cols() const { return divide_up(W, kOut); }
    int64_t count() const { return N * rows() * cols(); }
};
struct Window {
    int64_t offset;  // elements from the map's start to the window's
    int64_t row_begin, row_end, col_begin, col_end;  // its part inside the map
};
Window window(const Tiles& t, int64_t tile, int64_t size, int64_t pad) {
    const int64_t h = tile / t.cols() % t.rows() * kOut - pad, w = tile % t.cols() * kOut - pad;
    const int64_t n = tile / (t.cols() * t.rows());
    return {((n * t.H + h) * t.W + w) * t.C, std::max<int64_t>(0, -h), std::min(size, t.H - h),
            std::max<int64_t>(0, -w), std::min(size, t.W - w)};
}

// Elements between frequencies; the extra line keeps the 36 of one tile out of one cache set.
int64_t frequency_stride(int64_t channels, int64_t rows) {
    return padded(channels) * rows + 16;
}

// Tiles are worked off in batches, cut by the problem alone. With few channels a batch fits L2 and
// one thread takes it through all phases (`alone`); with many, all threads share a batch that fits
// L3 and is no smaller than a third of U, which is read once a batch.
struct Batches {
    Batches(int64_t total_tiles, int64_t C, int64_t K)
        : total(total_tiles), alone(C + K <= kFewChannels) {
        const int64_t shared = std::max(kSharedFloats, kFrequencies * C * K / 3);
        const int64_t floats = alone ? kAloneFloats : shared;
        const int64_t most = std::max(kRows, floats / (kFrequencies * (C + K)));
        size = divide_up(divide_up(total, divide_up(total, most)), kRows) * kRows;
    }
    int64_t count() const { return divide_up(total, size); }
    int64_t begin(int64_t batch) const { return batch * size; }
    int64_t tiles(int64_t batch) const { return std::min(size, total - batch * size); }
    int64_t total, size;
    bool alone;
};

// V = B^T x B or Z = A dy A^T of the tiles [begin, begin + count).
template <class Axis>
void transform_tiles(const Exec& exec, const Tiles& t, const float* x, int64_t begin, int64_t count,
                     float* v, int64_t stride) {
    constexpr int64_t kSize = Axis::kFrom, kPad = kSize == kIn ? 1 : 0;
    const int64_t runs = divide_up(count, kRun), panels = padded(t.C) / kPanel;
    parallel_for(exec, runs * panels, [&](int64_t task) {
        const int64_t panel = task % panels, first = task / panels * kRun;
        Vector d[kSize * kSize], out[kFrequencies];
        for (int64_t i = first; i < std::min(count, first + kRun); ++i) {
            const Window part = window(t, begin + i, kSize, kPad);
            const bool whole = part.row_begin == 0 && part.row_end == kSize &&
                               part.col_begin == 0 && part.col_end == kSize;
            for (int64_t c = panel * kPanel; c < (panel + 1) * kPanel; c += kLanes) {
                const float* from = x + part.offset + c;
                if (whole && c + kLanes <= t.C) {
                    for (int64_t r = 0; r < kSize; ++r)
                        for (int64_t s = 0; s < kSize; ++s)
                            load(from + (r * t.W + s) * t.C, d[r * kSize + s]);
                } else {
                    std::fill_n(d, kSize * kSize, Vector{});
                    for (int64_t r = part.row_begin; r < part.row_end; ++r)
                        for (int64_t s = part.col_begin; s < part.col_end; ++s)
                            load(from + (r * t.W + s) * t.C, t.C - c, d[r * kSize + s]);
                }
                transform<Axis>(d, out);
                float* to = v + (panel * count + i) * kPanel + c % kPanel;
                for (int64_t f = 0; f < kFrequencies; ++f) store(to + f * stride, out[f]);
            }
        }
    });
}

// y = beta y + A^T M A (+ b)
void transform_back(const Exec& exec, const Tiles& t, const float* m, int64_t stride, int64_t begin,
                    int64_t count, const float* b, float* y, float beta) {
    const int64_t runs = divide_up(count, kRun), panels = padded(t.C) / kPanel;
    parallel_for(exec, runs * panels, [&](int64_t task) {
        const int64_t panel = task % panels, first = task / panels * kRun;
        Vector d[kFrequencies], out[kOut * kOut];
        for (int64_t c = panel * kPanel; c < (panel + 1) * kPanel; c += kLanes) {
            Vector bias{};
            if (b) load(b + c, t.C - c, bias);
            for (int64_t i = first; i < std::min(count, first + kRun); ++i) {
                const float* from = m + (panel * count + i) * kPanel + c % kPanel;
                for (int64_t f = 0; f < kFrequencies; ++f) load(from + f * stride, d[f]);
                transform<OutputAxis>(d, out);
                const Window part = window(t, begin + i, kOut, 0);
                for (int64_t r = 0; r < part.row_end; ++r)
                    for (int64_t s = 0; s < part.col_end; ++s) {
                        float* to = y + part.offset + (r * t.W + s) * t.C + c;
                        Vector sum = out[r * kOut + s] + bias;
                        if (beta != 0) {
                            Vector old;
                            load(to, t.C - c, old);
                            sum += old;
                        }
                        store(to, t.C - c, sum);
                    }
            }
        }
    });
}

// U[f] [K/panel][C][panel] of w [K,3,3,C]: lanes are output channels, so taps are transposed first.
void transform_weights(const Exec& exec, const Conv2dProblem& p, const float* w, float* u,
                       int64_t stride) {
    const int64_t panels = padded(p.K) / kPanel, chunks = padded(p.C) / kPanel;
    parallel_for(exec, panels * chunks, [&](int64_t task) {
        const int64_t panel = task / chunks, c0 = task % chunks * kPanel;
        const int64_t k0 = panel * kPanel, lanes = std::min(kPanel, p.K - k0);
        alignas(64) float taps[kPanel][9][kPanel] = {};  // c, tap, k
        for (int64_t k = 0; k < lanes; ++k)
            for (int64_t tap = 0; tap < 9; ++tap)
                for (int64_t c = 0; c < std::min(kPanel, p.C - c0); ++c)
                    taps[c][tap][k] = w[((k0 + k) * 9 + tap) * p.C + c0 + c];
        Vector g[9], out[kFrequencies];
        for (int64_t c = 0; c < kPanel; ++c)
            for (int64_t k = 0; k < kPanel; k += kLanes) {
                for (int64_t tap = 0; tap < 9; ++tap) load(taps[c][tap] + k, g[tap]);
                transform<WeightAxis>(g, out);
                float* to = u + (panel * padded(p.C) + c0 + c) * kPanel + k;
                for (int64_t f = 0; f < kFrequencies; ++f) store(to + f * stride, out[f]);
            }
    });
}

// U[f] [C/panel][K][panel] of the kernel turned by 180 degrees, from K to C channels.
void transform_turned_weights(const Exec& exec, const Conv2dProblem& p, const float* w, float* u,
                              int64_t stride) {
    const int64_t depth = padded(p.K);
    parallel_for(exec, depth, [&](int64_t k) {
        Vector g[9], out[kFrequencies];
        for (int64_t c = 0; c < padded(p.C); c += kLanes) {
            for (int64_t tap = 0; tap < 9; ++tap)
                load(w + (k * 9 + 8 - tap) * p.C + c, k < p.K ? p.C - c : 0, g[tap]);
            transform<WeightAxis>(g, out);
            float* to = u + (c / kPanel * depth + k) * kPanel + c % kPanel;
            for (int64_t f = 0; f < kFrequencies; ++f) store(to + f * stride, out[f]);
        }
    });
}

// kRows tiles of M = (M +) V U for one panel of U: 12 sums in registers.
template <int64_t kCount>
void multiply_rows(const float* v, int64_t panels, int64_t panel_stride, const float* u, float* m,
                   bool add) {
    Vector sum[kCount][2] = {};
    if (add)
        for (int64_t r = 0; r < kCount; ++r)
            for (int64_t h = 0; h < 2; ++h) load(m + r * kPanel + h * kLanes, sum[r][h]);
    for (int64_t panel = 0; panel < panels; ++panel, v += panel_stride)
        for (int64_t c = 0; c < kPanel; ++c, u += kPanel) {
            Vector u0, u1;
            load(u, u0);
            load(u + kLanes, u1);
            for (int64_t r = 0; r < kCount; ++r) {
                const float value = v[r * kPanel + c];
                sum[r][0] += value * u0;
                sum[r][1] += value * u1;
            }
        }
    for (int64_t r = 0; r < kCount; ++r)
        for (int64_t h = 0; h < 2; ++h) store(m + r * kPanel + h * kLanes, sum[r][h]);
}

// M[f] [tiles,K] = V[f] [tiles,C] U[f] [C,K]
void multiply(const float* v, const float* u, float* m, int64_t tiles, int64_t C, int64_t K) {
    for (int64_t c = 0; c < padded(C); c += kDepth) {
        const int64_t panels = std::min(kDepth, padded(C) - c) / kPanel;
        for (int64_t k = 0; k < padded(K); k += kPanel)
            for (int64_t t = 0; t < tiles; t += kRows) {
                const float* from = v + c * tiles + t * kPanel;
                const float* weights = u + k * padded(C) + c * kPanel;
                float* to = m + k * tiles + t * kPanel;
                const auto run = [&](auto rows) {
                    multiply_rows<rows>(from, panels, tiles * kPanel, weights, to, c > 0);
                };
                switch (std::min(kRows, tiles - t)) {
                    case 1:
                        run(std::integral_constant<int64_t, 1>{});
                        break;
                    case 2:
                        run(std::integral_constant<int64_t, 2>{});
                        break;
                    case 3:
                        run(std::integral_constant<int64_t, 3>{});
                        break;
                    case 4:
                        run(std::integral_constant<int64_t, 4>{});
                        break;
                    case 5:
                        run(std::integral_constant<int64_t, 5>{});
                        break;
                    default:
                        run(std::integral_constant<int64_t, kRows>{});
                }
            }
    }
}

// dU[f] [C/panel][K][panel] = (dU +) the sum over tiles of Z V: 8 sums in registers.
void multiply_tiles(const float* v, const float* z, float* du, int64_t tiles, int64_t C, int64_t K,
                    bool add) {
    constexpr int64_t kCount = 4;
    for (int64_t c = 0; c < padded(C); c += kPanel)
        for (int64_t k = 0; k < padded(K); k += kCount) {
            const float* from = v + c * tiles;
            const float* grad = z + k / kPanel * kPanel * tiles + k % kPanel;
            float* to = du + c * padded(K) + k * kPanel;
            Vector sum[kCount][2] = {};
            if (add)
                for (int64_t r = 0; r < kCount; ++r)
                    for (int64_t h = 0; h < 2; ++h) load(to + r * kPanel + h * kLanes, sum[r][h]);
            for (int64_t t = 0; t < tiles; ++t, from += kPanel, grad += kPanel) {
                Vector v0, v1;
                load(from, v0);
                load(from + kLanes, v1);
                for (int64_t r = 0; r < kCount; ++r) {
                    sum[r][0] += grad[r] * v0;
                    sum[r][1] += grad[r] * v1;
                }
            }
            for (int64_t r = 0; r < kCount; ++r)
                for (int64_t h = 0; h < 2; ++h) store(to + r * kPanel + h * kLanes, sum[r][h]);
        }
}

// y [N,H,W,K] = beta y + x [N,H,W,C] convolved (+ b); `weights` fills U.
template <class Weights>
void convolve(const Exec& exec, const Tiles& in, int64_t K, const float* x, const Weights& weights,
              const float* b, float* y, float beta) {
    const Tiles out{in.N, in.H, in.W, K};
    const Batches batches(in.count(), padded(in.C), padded(K));
    const int64_t u_stride = frequency_stride(K, padded(in.C));
    const int64_t v_stride = frequency_stride(in.C, batches.size);
    const int64_t m_stride = frequency_stride(K, batches.size);
    float* u = scratch<float, Scratch::operation>(kFrequencies * u_stride);
    weights(u, u_stride);
    const auto run = [&](const Exec& inner, int64_t batch) {
        float* v = scratch<float>(kFrequencies * (v_stride + m_stride));
        float* m = v + kFrequencies * v_stride;
        const int64_t begin = batches.begin(batch), count = batches.tiles(batch);
        transform_tiles<InputAxis>(inner, in, x, begin, count, v, v_stride);
        parallel_for(inner, kFrequencies, [&](int64_t f) {
            multiply(v + f * v_stride, u + f * u_stride, m + f * m_stride, count, in.C, K);
        });
        transform_back(inner, out, m, m_stride, begin, count, b, y, beta);
    };
    if (batches.alone)
        parallel_for(exec, batches.count(), [&](int64_t batch) { run(Exec{}, batch); });
    else
        for (int64_t batch = 0; batch < batches.count(); ++batch) run(exec, batch);
}

// dw = beta dw + G^T dU G, dU the sum of `groups` partial ones.
void transform_weight_grad(const Exec& exec, const Conv2dProblem& p, const float* du,
                           int64_t stride, int64_t groups, float* dw, float beta) {
    parallel_for(exec, p.K, [&](int64_t k) {
        Vector d[kFrequencies], g[9], next;
        for (int64_t c = 0; c < p.C; c += kLanes) {
            const float* from = du + (c / kPanel * padded(p.K) + k) * kPanel + c % kPanel;
            for (int64_t f = 0; f < kFrequencies; ++f) {
                load(from + f * stride, d[f]);
                for (int64_t group = 1; group < groups; ++group) {
                    load(from + (group * kFrequencies + f) * stride, next);
                    d[f] += next;
                }
            }
            transform<WeightGradAxis>(d, g);
            for (int64_t tap = 0; tap < 9; ++tap) {
                float* to = dw + (k * 9 + tap) * p.C + c;
                if (beta != 0) {
                    load(to, p.C - c, next);
                    g[tap] += next;
                }
                store(to, p.C - c, g[tap]);
            }
        }
    });
}

}  // namespace

const char* winograd_reject(const Conv2dProblem& p) {
    if (p.dtype != DType::f32) return "needs f32";
    if (p.spec.kernel != 3) return "needs a 3x3 kernel";
    if (p.spec.stride != 1) return "needs stride 1";
    return nullptr;
}

const char* winograd_avoid(const Conv2dProblem& p) {
    // Measured: the products of a tile cost what gemm needs for 4 pixels, its transforms another,
    // the transform of the weights about 160.
    constexpr int64_t kChannels = 8, kTilePixels = 5, kWeightPixels = 160;
    if (p.C < kChannels || p.K < kChannels) return "too few channels to pay for the transforms";
    const int64_t tiles = Tiles{p.N, p.P, p.Q, p.K}.count();
    if (p.N * p.P * p.Q < kTilePixels * tiles + kWeightPixels)
        return "too few pixels to pay for the transforms";
    return nullptr;
}

void forward_winograd(const Exec& exec, const Conv2dProblem& p, const Tensor& x, const Tensor& w,
                      const Tensor& b, const Tensor& y) {
    const auto weights = [&](float* u, int64_t stride) {
        transform_weights(exec, p, w.data<float>(), u, stride);
    };
    convolve(exec, {p.N, p.H, p.W, p.C}, p.K, x.data<float>(), weights,
             b.defined() ? b.data<float>() : nullptr, y.data<float>(), 0);
}

void grad_input_winograd(const Exec& exec, const Conv2dProblem& p, const Tensor& dy,
                         const Tensor& w, const GradIn& dx) {
    const auto weights = [&](float* u, int64_t stride) {
        transform_turned_weights(exec, p, w.data<float>(), u, stride);
    };
    convolve(exec, {p.N, p.P, p.Q, p.K}, p.C, dy.data<float>(), weights, nullptr,
             dx.grad.data<float>(), dx.beta);
}

void grad_weight_winograd(const Exec& exec, const Conv2dProblem& p, const Tensor& x,
                          const Tensor& dy, const GradIn& dw) {
    const Tiles in{p.N, p.H, p.W, p.C}, out{p.N, p.P, p.Q, p.K};
    const Batches batches(in.count(), padded(p.C), padded(p.K));
    const int64_t u_stride = frequency_stride(p.C, padded(p.K));
    const int64_t v_stride = frequency_stride(p.C, batches.size);
    const int64_t z_stride = frequency_stride(p.K, batches.size);
    const auto run = [&](const Exec& inner, int64_t batch, float* du, bool add) {
        float* v = scratch<float>(kFrequencies * (v_stride + z_stride));
        float* z = v + kFrequencies * v_stride;
        const int64_t begin = batches.begin(batch), count = batches.tiles(batch);
        transform_tiles<InputAxis>(inner, in, x.data<float>(), begin, count, v, v_stride);
        transform_tiles<OutputGradAxis>(inner, out, dy.data<float>(), begin, count, z, z_stride);
        parallel_for(inner, kFrequencies, [&](int64_t f) {
            multiply_tiles(v + f * v_stride, z + f * z_stride, du + f * u_stride, count, p.C, p.K,
                           add);
        });
    };
    const int64_t per_group =
        batches.alone ? divide_up(batches.count(), kWeightGroups) : batches.count();
    const int64_t groups = divide_up(batches.count(), per_group);
    float* partial = scratch<float, Scratch::operation>(groups * kFrequencies * u_stride);
    const auto sum_group = [&](const Exec& inner, int64_t group) {
        const int64_t first = group * per_group, end = std::min(batches.count(), first + per_group);
        for (int64_t batch = first; batch < end; ++batch)
            run(inner, batch, partial + group * kFrequencies * u_stride, batch > first);
    };
    if (batches.alone)
        parallel_for(exec, groups, [&](int64_t group) { sum_group(Exec{}, group); });
    else
        sum_group(exec, 0);
    transform_weight_grad(exec, p, partial, u_stride, groups, dw.grad.data<float>(), dw.beta);
}

}  // namespace lumachrome
