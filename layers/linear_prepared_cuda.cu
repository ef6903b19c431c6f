// `rows` for weights that are read once, and `naive`.
#include "layers/cuda/epilogue.cuh"
#include "layers/linear_prepared_cuda.hpp"
#include "tensor/cuda/pack.cuh"

namespace lumachrome {
namespace {

constexpr int kAtOnce = 8;   // elements: 16 bytes of bf16
constexpr int kOutputs = 4;  // of a block
constexpr int kPhotos = 8;   // at most, of a block
constexpr int kWarp = 32;
// Of a block; with kPhotos photos a thread has too many sums for more.
template <int kN>
constexpr int kMostThreads = kN < kPhotos ? 512 : 256;

// A block computes kOutputs outputs of kN photos. Its threads stride over the inputs, 8 at a time:
// kOutputs pieces of w are on their way together, and each piece of x serves kOutputs products. The
// partial sums are joined in a fixed order: lanes of a warp, then warps. Rows beyond O and photos
// beyond N are computed from the last one and not written.
template <class X, class W, int kN>
__global__ void __launch_bounds__(kMostThreads<kN>)
    rows_kernel(const X* x, const W* w, const float* b, float* y, int64_t N, int64_t I, int64_t O,
                Epilogue epilogue) {
    const int64_t first = int64_t{blockIdx.x} * kOutputs, photo = int64_t{blockIdx.y} * kN;
    const W* rows[kOutputs];
    const X* photos[kN];
    float sums[kOutputs][kN] = {};
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) rows[o] = w + (first + o < O ? first + o : O - 1) * I;
#pragma unroll
    for (int n = 0; n < kN; ++n) photos[n] = x + (photo + n < N ? photo + n : N - 1) * I;
    for (int64_t i = int64_t{threadIdx.x} * kAtOnce; i < I; i += int64_t{blockDim.x} * kAtOnce) {
        float taps[kOutputs][kAtOnce];
#pragma unroll
        for (int o = 0; o < kOutputs; ++o) cuda::load<kAtOnce>(rows[o] + i, taps[o]);
#pragma unroll
        for (int n = 0; n < kN; ++n) {
            float in[kAtOnce];
            cuda::load<kAtOnce>(photos[n] + i, in);
#pragma unroll
            for (int o = 0; o < kOutputs; ++o)
#pragma unroll
                for (int j = 0; j < kAtOnce; ++j) sums[o][n] += taps[o][j] * in[j];
        }
    }
    __shared__ float parts[kMostThreads<kN> / kWarp][kOutputs * kN];
    const int warp = static_cast<int>(threadIdx.x) / kWarp,
              lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
    for (int o = 0; o < kOutputs; ++o)
#pragma unroll
        for (int n = 0; n < kN; ++n) {
            float sum = sums[o][n];
#pragma unroll
            for (int step = kWarp / 2; step > 0; step /= 2)
                sum += __shfl_xor_sync(0xffffffffu, sum, step);
            if (lane == 0) parts[warp][o * kN + n] = sum;
        }
    __syncthreads();
    const int cell = static_cast<int>(threadIdx.x);
    if (cell >= kOutputs * kN || first + cell / kN >= O || photo + cell % kN >= N) return;
    float sum = b[first + cell / kN];
    for (int i = 0; i < static_cast<int>(blockDim.x) / kWarp; ++i) sum += parts[i][cell];
    y[(photo + cell % kN) * O + first + cell / kN] = finish(epilogue, sum);
}

// A thread per y(n,o).
template <class X, class W>
__global__ void naive_kernel(const X* x, const W* w, const float* b, float* y, int64_t N, int64_t I,
                             int64_t O, Epilogue epilogue) {
    for (int64_t cell = cuda::first_index(); cell < N * O; cell += cuda::index_step()) {
        const int64_t o = cell % O, n = cell / O;
        float sum = b[o];
        for (int64_t i = 0; i < I; ++i)
            sum += static_cast<float>(w[o * I + i]) * static_cast<float>(x[n * I + i]);
        y[cell] = finish(epilogue, sum);
    }
}

Tensor pack(const Exec& exec, const PreparedLinearGpuProblem& p, const Tensor& w) {
    return w.to(p.weights).to(exec.device);
}

const char* reject_rows(const PreparedLinearGpuProblem& p) {
    return p.I % kAtOnce != 0 ? "reads inputs 8 at a time" : nullptr;
}

// Calls f with values of the types of x and w.
template <class F>
void dispatch_types(const PreparedLinearGpuProblem& p, F&& f) {
    const bool x = p.in == DType::bf16, w = p.weights == DType::bf16;
    if (x && w)
        f(bf16{}, bf16{});
    else if (x)
        f(bf16{}, float{});
    else if (w)
        f(float{}, bf16{});
    else
        f(float{}, float{});
}

void run_rows(const Exec& exec, const PreparedLinearGpuProblem& p, const Tensor& x,
              const Tensor& packed, const Tensor& bias, const Tensor& y) {
    // As many threads as have work, in whole warps.
    const int64_t pieces = cuda::ceil_div(p.I / kAtOnce, kWarp) * kWarp;
    dispatch_types(p, [&](auto in, auto weight) {
        using X = decltype(in);
        using W = decltype(weight);
        const auto start = [&]<int kN>(std::integral_constant<int, kN>) {
            const auto threads =
                static_cast<unsigned>(pieces < kMostThreads<kN> ? pieces : kMostThreads<kN>);
            const dim3 grid(static_cast<unsigned>(cuda::ceil_div(p.O, kOutputs)),
                            static_cast<unsigned>(cuda::ceil_div(p.N, kN)));
            cuda::launch<rows_kernel<X, W, kN>>(
                exec.device, grid, threads, 0, x.data<X>(), packed.data<W>(), bias.data<float>(),
                y.data<float>(), p.N, p.I, p.O, epilogue_of(p.activation));
        };
        if (p.N == 1)
            start(std::integral_constant<int, 1>{});
        else if (p.N == 2)
            start(std::integral_constant<int, 2>{});
        else if (p.N <= 4)
            start(std::integral_constant<int, 4>{});
        else
            start(std::integral_constant<int, kPhotos>{});
    });
}

void run_naive(const Exec& exec, const PreparedLinearGpuProblem& p, const Tensor& x,
               const Tensor& packed, const Tensor& bias, const Tensor& y) {
    dispatch_types(p, [&](auto in, auto weight) {
        using X = decltype(in);
        using W = decltype(weight);
        cuda::launch<naive_kernel<X, W>>(exec.device, cuda::blocks_for(y.numel()), cuda::kThreads,
                                         0, x.data<X>(), packed.data<W>(), bias.data<float>(),
                                         y.data<float>(), p.N, p.I, p.O, epilogue_of(p.activation));
    });
}

constexpr PreparedLinearGpuImpl kImplementations[] = {
    {"rows", reject_rows, {pack, run_rows}},
    {"naive", accepts_all, {pack, run_naive}},
};

}  // namespace

std::span<const PreparedLinearGpuImpl> linear_prepared_cuda() {
    return kImplementations;
}

}  // namespace lumachrome
