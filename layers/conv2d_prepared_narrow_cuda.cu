// The first and the last layer: one channel in, or few out. They make few products for the bytes of
// their wide map, so that memory bounds them, and each has its wide map move once.
#include "layers/conv2d_prepared_narrow_cuda.hpp"
#include "layers/cuda/epilogue.cuh"
#include "tensor/cuda/pack.cuh"

namespace lumachrome {
namespace {

constexpr int kAtOnce = 8;  // channels of a thread: 16 bytes of bf16
constexpr int kThreads = 256;

// x [N,H,W,1], w [K,3,3,1], y [N,P,Q,K]. A thread has 8 output channels, their 72 weights in
// registers, and goes from pixel to pixel; neighbouring threads have neighbouring channels, so that
// a pixel is written in one piece and its nine inputs are read once for all of them (L1).
template <class X, class Y>
__global__ void __launch_bounds__(kThreads)
    one_in_kernel(const X* x, const float* w, const float* b, Y* y, int H, int W, int64_t pixels,
                  int P, int Q, int K, int stride, Epilogue epilogue) {
    const int groups = K / kAtOnce, lanes = kThreads / groups;
    const int k = static_cast<int>(threadIdx.x) % groups * kAtOnce;
    const int lane = static_cast<int>(threadIdx.x) / groups;
    if (lane >= lanes) return;
    float taps[9][kAtOnce], bias[kAtOnce];
#pragma unroll
    for (int c = 0; c < kAtOnce; ++c) {
        bias[c] = b[k + c];
#pragma unroll
        for (int t = 0; t < 9; ++t) taps[t][c] = w[(k + c) * 9 + t];
    }
    for (int64_t i = int64_t{blockIdx.x} * lanes + lane; i < pixels;
         i += int64_t{gridDim.x} * lanes) {
        const int64_t row = i / Q;
        const int q = static_cast<int>(i - row * Q), p = static_cast<int>(row % P);
        const X* const photo = x + row / P * H * W;
        float sums[kAtOnce];
#pragma unroll
        for (int c = 0; c < kAtOnce; ++c) sums[c] = bias[c];
#pragma unroll
        for (int t = 0; t < 9; ++t) {
            const int h = p * stride + t / 3 - 1, v = q * stride + t % 3 - 1;
            const bool inside = h >= 0 && h < H && v >= 0 && v < W;
            const float in = inside ? static_cast<float>(photo[int64_t{h} * W + v]) : 0.0f;
#pragma unroll
            for (int c = 0; c < kAtOnce; ++c) sums[c] += taps[t][c] * in;
        }
#pragma unroll
        for (int c = 0; c < kAtOnce; ++c) sums[c] = finish(epilogue, sums[c]);
        cuda::store<kAtOnce>(y + i * K + k, sums);
    }
}

// x [N,H,W,C], w [2,3,3,C], y [N,H,W,2]. A block makes 13x32 outputs, for which its 256 threads
// read 15x34 = 510 pixels of x, each once, two a thread: a weight from shared memory, the same for
// all threads, serves both. What each pixel contributes to its nine neighbours, 18 inner products,
// waits in shared memory until the outputs collect it.
constexpr int kRows = 13, kColumns = 32, kSeenColumns = kColumns + 2,
              kSeen = (kRows + 2) * kSeenColumns, kProducts = 18, kTogether = 2;
constexpr int kMostIn = 64;  // channels of x: their weights share 48 KiB with the products
constexpr int kPlace = kProducts + 1;  // odd: no two lanes meet in a bank

template <class X, class Y>
__global__ void __launch_bounds__(kThreads)
    two_out_kernel(const X* x, const float* w, const float* b, Y* y, int H, int W, int C,
                   Epilogue epilogue) {
    __shared__ __align__(16) float weights[kProducts * kMostIn];
    __shared__ float products[kSeen * kPlace];
    const int tiles = (W + kColumns - 1) / kColumns;
    const int row = static_cast<int>(blockIdx.x) / tiles * kRows,
              column = static_cast<int>(blockIdx.x) % tiles * kColumns;
    const X* const photo = x + int64_t{blockIdx.y} * H * W * C;
    for (int i = static_cast<int>(threadIdx.x); i < kProducts * C; i += kThreads) weights[i] = w[i];
    __syncthreads();
    const X* from[kTogether];
    float sums[kTogether][kProducts] = {};
#pragma unroll
    for (int j = 0; j < kTogether; ++j) {
        const int i = static_cast<int>(threadIdx.x) + j * kThreads;
        const int h = row + i / kSeenColumns - 1, v = column + i % kSeenColumns - 1;
        const bool inside = i < kSeen && h >= 0 && h < H && v >= 0 && v < W;
        from[j] = inside ? photo + (int64_t{h} * W + v) * C : nullptr;
    }
    for (int c = 0; c < C; c += kAtOnce) {
        float in[kTogether][kAtOnce] = {};
#pragma unroll
        for (int j = 0; j < kTogether; ++j)
            if (from[j]) cuda::load<kAtOnce>(from[j] + c, in[j]);
#pragma unroll
        for (int t = 0; t < kProducts; ++t) {
            float factors[kAtOnce];
            cuda::load<kAtOnce>(weights + t * C + c, factors);
#pragma unroll
            for (int j = 0; j < kTogether; ++j)
#pragma unroll
                for (int e = 0; e < kAtOnce; ++e) sums[j][t] += factors[e] * in[j][e];
        }
    }
#pragma unroll
    for (int j = 0; j < kTogether; ++j)
        if (const int i = static_cast<int>(threadIdx.x) + j * kThreads; i < kSeen)
#pragma unroll
            for (int t = 0; t < kProducts; ++t) products[i * kPlace + t] = sums[j][t];
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < kRows * kColumns; i += kThreads) {
        const int p = i / kColumns, q = i % kColumns;
        if (row + p >= H || column + q >= W) continue;
        Y* const to = y + ((int64_t{blockIdx.y} * H + row + p) * W + column + q) * 2;
#pragma unroll
        for (int k = 0; k < 2; ++k) {
            float sum = b[k];
#pragma unroll
            for (int t = 0; t < 9; ++t)
                sum += products[((p + t / 3) * kSeenColumns + q + t % 3) * kPlace + k * 9 + t];
            to[k] = static_cast<Y>(finish(epilogue, sum));
        }
    }
}
static_assert(kSeen <= kTogether * kThreads);

template <class F>
void dispatch_types(const PreparedConv2dGpuProblem& p, F&& f) {
    const bool x = p.in == DType::bf16, y = p.out == DType::bf16;
    if (x && y)
        f(bf16{}, bf16{});
    else if (x)
        f(bf16{}, float{});
    else if (y)
        f(float{}, bf16{});
    else
        f(float{}, float{});
}

const char* reject_common(const PreparedConv2dGpuProblem& p) {
    if (p.spec.kernel != 3) return "3x3 only";
    if (p.upsample) return "the map is doubled first";
    if (p.border_bias) return "has one bias";
    constexpr int64_t kMost = int64_t{1} << 30;
    return p.H * p.W >= kMost ? "more than 2^30 pixels" : nullptr;
}

}  // namespace

const char* reject_one_in(const PreparedConv2dGpuProblem& p) {
    if (p.C != 1) return "more than one channel";
    if (p.K % kAtOnce != 0 || p.K / kAtOnce > kThreads) return "writes 8 channels at a time";
    return reject_common(p);
}

const char* reject_two_out(const PreparedConv2dGpuProblem& p) {
    if (p.K != 2 || p.spec.stride != 1) return "not two channels out, stride 1";
    if (p.N > 65535) return "more photos than a grid is high";
    if (p.C % kAtOnce != 0 || p.C > kMostIn) return "reads 8 channels at a time, 64 at most";
    return reject_common(p);
}

Tensor pack_narrow(const Exec& exec, const PreparedConv2dGpuProblem&, const Tensor& w) {
    return w.to(exec.device);
}

void run_one_in(const Exec& exec, const PreparedConv2dGpuProblem& p, const Tensor& x,
                const Tensor& packed, const Tensor& bias, const Tensor& y) {
    // A thread has its weights loaded once, so there are no more blocks than keep the device busy.
    const int64_t lanes = kThreads / (p.K / kAtOnce), pixels = p.N * p.P * p.Q;
    const int64_t blocks = cuda::ceil_div(pixels, lanes);
    const int64_t busy = int64_t{8} * cuda::properties(exec.device.index).multiprocessors;
    const auto grid = static_cast<unsigned>(blocks < busy ? blocks : busy);
    dispatch_types(p, [&](auto in, auto out) {
        using X = decltype(in);
        using Y = decltype(out);
        cuda::launch<one_in_kernel<X, Y>>(
            exec.device, grid, kThreads, 0, x.data<X>(), packed.data<float>(), bias.data<float>(),
            y.data<Y>(), static_cast<int>(p.H), static_cast<int>(p.W), pixels,
            static_cast<int>(p.P), static_cast<int>(p.Q), static_cast<int>(p.K),
            static_cast<int>(p.spec.stride), epilogue_of(p.activation));
    });
}

void run_two_out(const Exec& exec, const PreparedConv2dGpuProblem& p, const Tensor& x,
                 const Tensor& packed, const Tensor& bias, const Tensor& y) {
    const dim3 grid(
        static_cast<unsigned>(cuda::ceil_div(p.H, kRows) * cuda::ceil_div(p.W, kColumns)),
        static_cast<unsigned>(p.N));
    dispatch_types(p, [&](auto in, auto out) {
        using X = decltype(in);
        using Y = decltype(out);
        cuda::launch<two_out_kernel<X, Y>>(exec.device, grid, kThreads, 0, x.data<X>(),
                                           packed.data<float>(), bias.data<float>(), y.data<Y>(),
                                           static_cast<int>(p.H), static_cast<int>(p.W),
                                           static_cast<int>(p.C), epilogue_of(p.activation));
    });
}

}  // namespace lumachrome
