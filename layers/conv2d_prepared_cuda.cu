// The list, and `naive`: the definition, an output a thread.
#include "layers/conv2d_mma_cuda.hpp"
#include "layers/conv2d_prepared_cuda.hpp"
#include "layers/conv2d_prepared_narrow_cuda.hpp"
#include "layers/conv2d_wgmma.hpp"
#include "layers/cuda/epilogue.cuh"
#include "tensor/cuda/launch.cuh"

namespace lumachrome {
namespace {

// What the kernel reads of a problem.
struct Layer {
    int64_t N, H, W, C, P, Q, K, R, stride;
    int shift;  // 1: x is doubled
    bool border_bias;
    Epilogue epilogue;
};

__device__ int64_t axis_case(int64_t position, int64_t size) {
    return (position == 0) + 2 * (position == size - 1);
}

// A thread per y(n,p,q,k).
template <class X, class Y>
__global__ void naive_kernel(Layer z, const X* x, const float* w, const float* b, Y* y) {
    const int64_t count = z.N * z.P * z.Q * z.K, pad = z.R / 2;
    for (int64_t i = cuda::first_index(); i < count; i += cuda::index_step()) {
        const int64_t k = i % z.K, q = i / z.K % z.Q, p = i / z.K / z.Q % z.P,
                      n = i / z.K / z.Q / z.P;
        float sum = z.border_bias
                        ? b[(n * 16 + axis_case(p, z.P) * 4 + axis_case(q, z.Q)) * z.K + k]
                        : b[k];
        for (int64_t r = 0; r < z.R; ++r)
            for (int64_t s = 0; s < z.R; ++s) {
                const int64_t h = p * z.stride + r - pad, v = q * z.stride + s - pad;
                if (h < 0 || h >= z.H << z.shift || v < 0 || v >= z.W << z.shift) continue;
                const X* in = x + ((n * z.H + (h >> z.shift)) * z.W + (v >> z.shift)) * z.C;
                const float* taps = w + ((k * z.R + r) * z.R + s) * z.C;
                for (int64_t c = 0; c < z.C; ++c) sum += taps[c] * static_cast<float>(in[c]);
            }
        if (z.epilogue == Epilogue::relu) sum = activate_reference(Activation::relu, sum);
        if (z.epilogue == Epilogue::sigmoid) sum = activate_reference(Activation::sigmoid, sum);
        y[i] = static_cast<Y>(sum);
    }
}

Tensor pack_naive(const Exec& exec, const PreparedConv2dGpuProblem&, const Tensor& w) {
    return w.to(exec.device);
}

template <class F>
void dispatch_maps(DType dtype, F&& f) {
    if (dtype == DType::bf16)
        f(bf16{});
    else
        f(float{});
}

void run_naive(const Exec& exec, const PreparedConv2dGpuProblem& p, const Tensor& x,
               const Tensor& packed, const Tensor& bias, const Tensor& y) {
    const Layer layer{p.N,           p.H,        p.W,           p.C,
                      p.P,           p.Q,        p.K,           p.spec.kernel,
                      p.spec.stride, p.upsample, p.border_bias, epilogue_of(p.activation)};
    dispatch_maps(p.in, [&](auto in) {
        dispatch_maps(p.out, [&](auto out) {
            using X = decltype(in);
            using Y = decltype(out);
            cuda::launch<naive_kernel<X, Y>>(exec.device, cuda::blocks_for(y.numel()),
                                             cuda::kThreads, 0, layer, x.data<X>(),
                                             packed.data<float>(), bias.data<float>(), y.data<Y>());
        });
    });
}

// --- on tensor cores

Conv2dProblem as_conv2d(const PreparedConv2dGpuProblem& p) {
    return {p.spec, p.N, p.H, p.W, p.C, p.K, p.P, p.Q, p.in};
}

const char* reject_mma(const PreparedConv2dGpuProblem& p) {
    return p.upsample ? "the map is doubled first" : reject_conv2d_mma(as_conv2d(p));
}
const char* reject_mma_upsample(const PreparedConv2dGpuProblem& p) {
    if (!p.upsample) return "the map is not doubled first";
    return p.spec.kernel != 3 || p.spec.stride != 1 ? "3x3 of stride 1 only"
                                                    : reject_conv2d_mma(as_conv2d(p));
}

Exec with_precision(Exec exec, const PreparedConv2dGpuProblem& p) {
    exec.tf32 = p.tf32;
    return exec;
}

Tensor pack_mma(const Exec& exec, const PreparedConv2dGpuProblem& p, const Tensor& w) {
    return pack_conv2d_weights_cuda(with_precision(exec, p), w.to(exec.device), p.in, p.upsample);
}

void run_mma(const Exec& exec, const PreparedConv2dGpuProblem& p, const Tensor& x,
             const Tensor& packed, const Tensor& bias, const Tensor& y) {
    const Tensor b = p.border_bias ? bias.reshape({p.N, 16, p.K}) : bias;
    conv2d_packed_cuda(with_precision(exec, p), as_conv2d(p), p.upsample, x, packed,
                       {&b, p.border_bias, p.activation}, y);
}

const char* reject_wgmma_prepared(const PreparedConv2dGpuProblem& p) {
    if (p.upsample) return "the map is doubled first";
    if (p.out != DType::bf16) return "the result is not bf16";
    return reject_wgmma(as_conv2d(p));
}
// It never cuts the depth, so that a small map of one photo leaves most of the GPU idle.
const char* avoid_wgmma(const PreparedConv2dGpuProblem& p) {
    constexpr int64_t kTile = 128;
    const int64_t tiles = cuda::ceil_div(p.N * p.P * p.Q, kTile) * cuda::ceil_div(p.K, kTile);
    return 2 * tiles < cuda::properties(0).multiprocessors ? "too few tiles for this GPU" : nullptr;
}

Tensor pack_wgmma(const Exec& exec, const PreparedConv2dGpuProblem& p, const Tensor& w) {
    return w.to(exec.device).to(DType::bf16).reshape({p.K, as_conv2d(p).taps()});
}

void run_wgmma(const Exec& exec, const PreparedConv2dGpuProblem& p, const Tensor& x,
               const Tensor& packed, const Tensor& bias, const Tensor& y) {
    const Tensor border = p.border_bias ? bias.reshape({p.N, 16, p.K}) : Tensor();
    conv2d_forward_wgmma_packed(exec, as_conv2d(p), x, packed, p.border_bias ? Tensor() : bias,
                                border, p.activation, y);
}

constexpr PreparedConv2dGpuImpl kImplementations[] = {
    {"one_in", reject_one_in, {pack_narrow, run_one_in}},
    {"two_out", reject_two_out, {pack_narrow, run_two_out}},
    {"wgmma", reject_wgmma_prepared, {pack_wgmma, run_wgmma}, {avoid_wgmma}},
    {"mma_upsample", reject_mma_upsample, {pack_mma, run_mma, 16 / 36.}},
    {"mma", reject_mma, {pack_mma, run_mma}},
    {"naive", accepts_all, {pack_naive, run_naive}},
};

}  // namespace

std::span<const PreparedConv2dGpuImpl> conv2d_prepared_cuda() {
    return kImplementations;
}

}  // namespace lumachrome
