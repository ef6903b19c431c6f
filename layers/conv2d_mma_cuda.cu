// The host's half of conv2d_gemm.cuh: which taps each pass has, how large tiles are, and into how
// many parts the depth is cut.
#include "layers/conv2d_mma_cuda.hpp"

#include "layers/cuda/pack_weights.cuh"

namespace lumachrome {
namespace {

using namespace cuda;

// --- taps

// Weight taps [first, last) that read input `offset` cells away, along one axis.
struct AxisTap {
    int offset, first, last;
};
struct Axis {
    int count = 0;
    AxisTap tap[5];
    void add(int64_t offset, int64_t first, int64_t last) {
        tap[count++] = {static_cast<int>(offset), static_cast<int>(first), static_cast<int>(last)};
    }
};

Axis forward_axis(const Conv2dSpec& spec) {
    Axis axis;
    for (int64_t r = 0; r < spec.kernel; ++r) axis.add(r - spec.pad(), r, r + 1);
    return axis;
}
// dx(a stride + i) = sum of w(r) dy((a stride + i + pad - r) / stride) over the r that divide.
Axis backward_axis(const Conv2dSpec& spec, int64_t i) {
    Axis axis;
    for (int64_t r = 0; r < spec.kernel; ++r) {
        const int64_t distance = i + spec.pad() - r;
        if (distance % spec.stride == 0) axis.add(distance / spec.stride, r, r + 1);
    }
    return axis;
}
// Output 2a + i reads rows 2a + i - 1 .. 2a + i + 1 of the doubled map: two rows of x, one of them
// twice, whose weights add up.
Axis upsampled_axis(int64_t i) {
    Axis axis;
    axis.add(i - 1, 0, i == 0 ? 1 : 2);
    axis.add(i, i == 0 ? 1 : 2, 3);
    return axis;
}

// Appends a phase, and its taps to the plan of the packing. `columns`, `channels`: of the packed
// weights.
void add_phase(ConvGemm& gemm, PackPlan& plan, const Axis& rows, const Axis& columns_axis,
               int64_t columns, int64_t channels, int64_t N, int64_t P, int64_t Q, int oh, int ow,
               int64_t& weights) {
    ConvPhase& phase = gemm.phase[gemm.phases++];
    phase.taps = rows.count * columns_axis.count;
    phase.P = static_cast<int>(P);
    phase.Q = static_cast<int>(Q);
    phase.rows = N * P * Q;
    phase.oh = oh;
    phase.ow = ow;
    phase.weights = weights;
    int t = 0;
    for (int a = 0; a < rows.count; ++a)
        for (int b = 0; b < columns_axis.count; ++b, ++t) {
            const AxisTap &r = rows.tap[a], &s = columns_axis.tap[b];
            phase.dh[t] = static_cast<int8_t>(r.offset);
            phase.dw[t] = static_cast<int8_t>(s.offset);
            phase.delta[t] = r.offset * gemm.W + s.offset;
            plan.tap[plan.count++] = {static_cast<int8_t>(r.first),
                                      static_cast<int8_t>(r.last),
                                      static_cast<int8_t>(s.first),
                                      static_cast<int8_t>(s.last),
                                      t,
                                      phase.taps,
                                      weights};
        }
    weights += columns * phase.taps * channels;
}

enum class Pass { forward, backward, upsampled };

struct Prepared {
    ConvGemm gemm{};
    PackPlan plan{};
    int64_t weights = 0;  // elements of the packed form
};

// x [N,H,W,C] and y [N,P,Q,K] are those of the product: in a backward pass dy and dx.
Prepared prepare(const Conv2dSpec& spec, Pass pass, int64_t N, int64_t H, int64_t W, int64_t C,
                 int64_t P, int64_t Q, int64_t K, DType maps) {
    Prepared p;
    const int64_t channels = padded_channels(C, maps);
    ConvGemm& gemm = p.gemm;
    gemm.H = static_cast<int>(H);
    gemm.W = static_cast<int>(W);
    gemm.C = static_cast<int>(channels);
    gemm.numel = N * P * Q * K;
    gemm.out.P = static_cast<int>(P);
    gemm.out.Q = static_cast<int>(Q);
    gemm.out.K = static_cast<int>(K);
    p.plan.R = static_cast<int>(spec.kernel);
    p.plan.K = static_cast<int>(pass == Pass::backward ? C : K);
    p.plan.C = static_cast<int>(pass == Pass::backward ? K : C);
    p.plan.padded = static_cast<int>(channels);
    gemm.in_step = pass == Pass::forward ? static_cast<int>(spec.stride) : 1;
    gemm.out_step = pass == Pass::forward     ? 1
                    : pass == Pass::upsampled ? 2
                                              : static_cast<int>(spec.stride);
    // The phase with the most taps first: what is left over at the end is then short.
    for (int i = gemm.out_step - 1; i >= 0; --i)
        for (int j = gemm.out_step - 1; j >= 0; --j) {
            const auto axis = [&](int at) {
                return pass == Pass::forward    ? forward_axis(spec)
                       : pass == Pass::backward ? backward_axis(spec, at)
                                                : upsampled_axis(at);
            };
            const auto extent = [&](int64_t size, int at) {
                return ceil_div(size - at, gemm.out_step);
            };
            add_phase(gemm, p.plan, axis(i), axis(j), K, channels, N, extent(P, i), extent(Q, j), i,
                      j, p.weights);
        }
    return p;
}

// --- sums over parts of the depth

// A thread per eight channels of a pixel: adds up the partial sums in their order, and finishes.
__global__ void finish_kernel(const __grid_constant__ ConvOutput out, int64_t pixels, int splits) {
    const int groups = static_cast<int>(ceil_div(out.K, kColumns));
    const int64_t numel = pixels * out.K;
    for (int64_t i = first_index(); i < pixels * groups; i += index_step()) {
        const int64_t pixel = i / groups;
        const int k = static_cast<int>(i % groups) * kColumns;
        const float* from = out.partial + pixel * out.K + k;
        float v[kColumns] = {};
        for (int s = 0; s < splits; ++s, from += numel)
            if (out.K % kColumns == 0) {
                const float4 low = reinterpret_cast<const float4*>(from)[0];
                const float4 high = reinterpret_cast<const float4*>(from)[1];
                v[0] += low.x, v[1] += low.y, v[2] += low.z, v[3] += low.w;
                v[4] += high.x, v[5] += high.y, v[6] += high.z, v[7] += high.w;
            } else {
#pragma unroll
                for (int c = 0; c < kColumns; ++c)
                    if (c < out.K - k) v[c] += from[c];
            }
        finish(out, v, pixel, k);
    }
}

// --- tiles

// 64x64 sums to a warp need 8 ldmatrix for 32 products, which leaves shared memory half idle; 64x32
// need 6 for 16. Three products a pair of factors leave it idle anyway, and want registers: fewer
// blocks to a multiprocessor.
using Tile256x128 = MmaTile<4, 2, 64, 64, 3, 1>;
using Tile128x128 = MmaTile<2, 2, 64, 64, 3, 2>;
using Tile128x64 = MmaTile<2, 2, 64, 32, 3, 3>;
template <int kResident>
using Tile64x64 = MmaTile<2, 2, 32, 32, 3, kResident>;
using Tall128x64 = MmaTile<4, 2, 32, 32, 3, 1>;

struct Candidate {
    void (*run)(Device, dim3 grid, const ConvGemm&);
    int M, N, resident, shared_bytes;
    double slowness;  // of a product in it, relative to the best: reads of shared memory and L2
};
template <class Product, class Tile>
constexpr Candidate candidate(double slowness) {
    return {[](Device device, dim3 grid, const ConvGemm& gemm) {
                launch<conv_gemm_kernel<Product, Tile>>(device, grid, Tile::kThreads,
                                                        Tile::kSharedBytes, gemm);
            },
            Tile::kM,
            Tile::kN,
            Tile::kResident,
            Tile::kSharedBytes,
            slowness};
}
template <class Product>
constexpr Candidate kWide[] = {
    candidate<Product, Tile256x128>(1), candidate<Product, Tile128x128>(1.05),
    candidate<Product, Tile128x64>(1.2), candidate<Product, Tile64x64<4>>(1.5)};
template <class Product>
constexpr Candidate kNarrow[] = {candidate<Product, Tall128x64>(1),
                                 candidate<Product, Tile64x64<3>>(1.1)};

std::span<const Candidate> candidates(DType maps, bool tf32) {
    if (maps == DType::bf16) return kWide<Bf16Product>;
    if (tf32) return kWide<Tf32Product>;
    return kNarrow<Tf32x3Product>;
}

int64_t tiles_of(const ConvPhase& phase, int M) {
    return ceil_div(phase.rows, M);
}

struct Choice {
    const Candidate* tile;
    int splits;
};

// The cheapest by an estimate in cycles of a multiprocessor, which multiplies 1024 pairs of bf16 a
// cycle, or 512 of tf32: a stage of M x N takes M N / 16.
Choice choose_tile(const Exec& exec, const ConvGemm& gemm, DType maps) {
    constexpr double kStageOverhead = 3;     // stages' worth of start, end and epilogue
    constexpr double kStageLatency = 300;    // a stage alone on a multiprocessor takes this long
    constexpr double kSecondKernel = 4000;   // its start
    constexpr double kBytesPerCycle = 2000;  // of memory, for partial sums
    constexpr int kMaxSplits = 64, kMinStages = 4;
    const bool tf32 = maps == DType::f32 && exec.tf32;
    const double passes = maps == DType::f32 && !tf32 ? 3 : 1;
    const Properties& gpu = properties(exec.device.index);
    Choice best{nullptr, 1};
    double least = 0;
    for (const Candidate& c : candidates(maps, tf32)) {
        if (c.shared_bytes > gpu.shared_bytes) continue;
        double tiles = 0, stages = 0;
        for (int i = 0; i < gemm.phases; ++i) {
            const auto n = static_cast<double>(tiles_of(gemm.phase[i], c.M));
            tiles += n;
            stages +=
                n * static_cast<double>(ceil_div(
                        int64_t{gemm.phase[i].taps} * gemm.C * size_in_bytes(maps), kDepthBytes));
        }
        stages = tiles > 0 ? stages / tiles : 0;
        tiles *= static_cast<double>(ceil_div(gemm.out.K, c.N));
        for (int splits = 1; splits <= kMaxSplits; ++splits) {
            if (splits > 1 && stages < splits * kMinStages) break;
            const double depth = std::ceil(stages / splits) + kStageOverhead;
            const double each = std::ceil(tiles * splits / gpu.multiprocessors);
            const double busy = each * c.M * c.N / 16 * passes * c.slowness;
            const double idle = std::ceil(each / c.resident) * kStageLatency;
            double cycles = depth * std::max(busy, idle);
            if (splits > 1)
                cycles +=
                    kSecondKernel + splits * 8.0 * static_cast<double>(gemm.numel) / kBytesPerCycle;
            if (best.tile && cycles >= least) continue;
            best = {&c, splits};
            least = cycles;
        }
    }
    return best;
}

// x, weights and epilogue are in place.
void run(const Exec& exec, ConvGemm gemm, const Tensor& x, const Tensor& packed, const Tensor& y) {
    const Tensor map = padded_map(exec, x);
    gemm.x = map.raw();
    gemm.w = packed.raw();
    gemm.out.y = y.raw();
    gemm.out.is_bf16 = y.dtype() == DType::bf16;
    gemm.out.vectors = gemm.out.K % kColumns == 0 && reinterpret_cast<uintptr_t>(y.raw()) % 16 == 0;
    const Choice choice = choose_tile(exec, gemm, x.dtype());
    gemm.column_tiles = static_cast<int>(ceil_div(gemm.out.K, choice.tile->N));
    int64_t tiles = 0;
    for (int i = 0; i < gemm.phases; ++i) {
        gemm.phase[i].first_tile = static_cast<unsigned>(tiles);
        tiles += tiles_of(gemm.phase[i], choice.tile->M) * gemm.column_tiles;
    }
    const dim3 grid(static_cast<unsigned>(tiles), static_cast<unsigned>(choice.splits));
    if (choice.splits == 1) {
        choice.tile->run(exec.device, grid, gemm);
        return;
    }
    const Tensor partial = Tensor::empty({choice.splits, gemm.numel}, DType::f32, exec.device);
    gemm.out.partial = partial.data<float>();
    choice.tile->run(exec.device, grid, gemm);
    const int64_t pixels = gemm.numel / gemm.out.K;
    launch<finish_kernel>(exec.device, blocks_for(pixels * ceil_div(gemm.out.K, kColumns)),
                          kThreads, 0, gemm.out, pixels, choice.splits);
}

Tensor pack(const Exec& exec, Prepared& prepared, bool transposed, const Tensor& w, DType maps) {
    prepared.plan.tf32 = exec.tf32;
    const Tensor packed = Tensor::empty({prepared.weights}, maps, exec.device);
    pack_weights(exec, prepared.plan, transposed, w, packed);
    return packed;
}

Prepared prepare_forward(const Conv2dProblem& z, bool upsample_input) {
    return prepare(z.spec, upsample_input ? Pass::upsampled : Pass::forward, z.N, z.H, z.W, z.C,
                   z.P, z.Q, z.K, z.dtype);
}

void forward(const Exec& exec, const Conv2dProblem& problem, const Tensor& x, const Tensor& w,
             const Tensor& b, const Tensor& y) {
    Prepared prepared = prepare_forward(problem, false);
    const Tensor packed = pack(exec, prepared, false, w, problem.dtype);
    prepared.gemm.out.bias = b.defined() ? b.data<float>() : nullptr;
    run(exec, prepared.gemm, x, packed, y);
}

void grad_input(const Exec& exec, const Conv2dProblem& z, const Tensor& dy, const Tensor& w,
                const GradIn& dx) {
    Prepared prepared = prepare(z.spec, Pass::backward, z.N, z.P, z.Q, z.K, z.H, z.W, z.C, z.dtype);
    const Tensor packed = pack(exec, prepared, true, w, z.dtype);
    prepared.gemm.out.beta = dx.beta;
    run(exec, prepared.gemm, dy, packed, dx.grad);
}

}  // namespace

const char* reject_conv2d_mma(const Conv2dProblem& z) {
    constexpr int64_t kMost = int64_t{1} << 31;
    if (z.dtype != DType::bf16 && z.dtype != DType::f32) return "tensor cores take bf16 and f32";
    if (z.spec.kernel > 5) return "more taps than it keeps a bit for";
    if (z.spec.stride > 2) return "stride above 2";
    if (z.N * z.H * z.W >= kMost || z.N * z.P * z.Q >= kMost) return "2^31 pixels or more";
    return nullptr;
}

Tensor pack_conv2d_weights_cuda(const Exec& exec, const Tensor& w, DType maps,
                                bool upsample_input) {
    const Conv2dSpec spec{w.shape()[1], 1};
    if (upsample_input && spec.kernel != 3)
        throw ShapeError("conv2d: only 3x3 weights are packed for a doubled map, not " +
                         w.shape().str());
    // The packed form depends on the weights' shape alone.
    Prepared prepared =
        prepare_forward({spec, 1, 1, 1, w.shape()[3], w.shape()[0], 2, 2, maps}, upsample_input);
    return pack(exec, prepared, false, w, maps);
}

void conv2d_packed_cuda(const Exec& exec, const Conv2dProblem& problem, bool upsample_input,
                        const Tensor& x, const Tensor& packed, const ConvEpilogue& epilogue,
                        const Tensor& y) {
    Prepared prepared = prepare_forward(problem, upsample_input);
    if (packed.numel() != prepared.weights || packed.dtype() != problem.dtype)
        throw ShapeError("conv2d: weights packed for another problem, " + packed.shape().str() +
                         " instead of [" + std::to_string(prepared.weights) + "]");
    ConvOutput& out = prepared.gemm.out;
    if (epilogue.bias) {
        out.bias = epilogue.bias->data<float>();
        out.border = epilogue.border_bias;
        if (out.border && epilogue.bias->shape()[0] > 1) out.bias_step = 16 * problem.K;
    }
    if (epilogue.activation) {
        out.activated = true;
        out.activation = *epilogue.activation;
    }
    run(exec, prepared.gemm, x, packed, y);
}

const Conv2dKernel kConv2dMmaCuda{forward, grad_input, conv2d_grad_weight_mma_cuda};

}  // namespace lumachrome
