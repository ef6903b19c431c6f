#include "layers/conv2d_naive_cuda.hpp"
#include "tensor/cuda/launch.cuh"

namespace lumachrome {
namespace {

using cuda::Wider;

// A thread per y(n,p,q,k).
template <class T>
__global__ void forward_kernel(Conv2dProblem z, const T* x, const Wider<T>* w, const Wider<T>* b,
                               T* y) {
    const int64_t count = z.N * z.P * z.Q * z.K, R = z.spec.kernel, pad = R / 2;
    for (int64_t i = cuda::first_index(); i < count; i += cuda::index_step()) {
        const int64_t k = i % z.K, q = i / z.K % z.Q, p = i / z.K / z.Q % z.P,
                      n = i / z.K / z.Q / z.P;
        Wider<T> sum = b ? b[k] : 0;
        for (int64_t r = 0; r < R; ++r)
            for (int64_t s = 0; s < R; ++s) {
                const int64_t h = p * z.spec.stride + r - pad, v = q * z.spec.stride + s - pad;
                if (h < 0 || h >= z.H || v < 0 || v >= z.W) continue;
                const T* in = x + ((n * z.H + h) * z.W + v) * z.C;
                const Wider<T>* taps = w + ((k * R + r) * R + s) * z.C;
                for (int64_t c = 0; c < z.C; ++c) sum += taps[c] * static_cast<Wider<T>>(in[c]);
            }
        y[i] = static_cast<T>(sum);
    }
}

// A thread per dx(n,h,v,c): all outputs that read it.
template <class T>
__global__ void grad_input_kernel(Conv2dProblem z, const T* dy, const Wider<T>* w, T* dx,
                                  float beta) {
    const int64_t count = z.N * z.H * z.W * z.C, R = z.spec.kernel, pad = R / 2;
    for (int64_t i = cuda::first_index(); i < count; i += cuda::index_step()) {
        const int64_t c = i % z.C, v = i / z.C % z.W, h = i / z.C / z.W % z.H,
                      n = i / z.C / z.W / z.H;
        Wider<T> sum = beta == 0 ? 0 : static_cast<Wider<T>>(dx[i]);
        for (int64_t r = 0; r < R; ++r)
            for (int64_t s = 0; s < R; ++s) {
                const int64_t p = h + pad - r, q = v + pad - s, stride = z.spec.stride;
                if (p < 0 || q < 0 || p % stride != 0 || q % stride != 0) continue;
                if (p / stride >= z.P || q / stride >= z.Q) continue;
                const T* up = dy + ((n * z.P + p / stride) * z.Q + q / stride) * z.K;
                for (int64_t k = 0; k < z.K; ++k)
                    sum += w[((k * R + r) * R + s) * z.C + c] * static_cast<Wider<T>>(up[k]);
            }
        dx[i] = static_cast<T>(sum);
    }
}

// A thread per dw(k,r,s,c): all pixels.
template <class T>
__global__ void grad_weight_kernel(Conv2dProblem z, const T* x, const T* dy, Wider<T>* dw,
                                   float beta) {
    const int64_t R = z.spec.kernel, count = z.K * R * R * z.C, pad = R / 2;
    for (int64_t i = cuda::first_index(); i < count; i += cuda::index_step()) {
        const int64_t c = i % z.C, s = i / z.C % R, r = i / z.C / R % R, k = i / z.C / R / R;
        Wider<T> sum = beta == 0 ? 0 : dw[i];
        for (int64_t n = 0; n < z.N; ++n)
            for (int64_t p = 0; p < z.P; ++p)
                for (int64_t q = 0; q < z.Q; ++q) {
                    const int64_t h = p * z.spec.stride + r - pad;
                    const int64_t v = q * z.spec.stride + s - pad;
                    if (h < 0 || h >= z.H || v < 0 || v >= z.W) continue;
                    sum += static_cast<Wider<T>>(dy[((n * z.P + p) * z.Q + q) * z.K + k]) *
                           static_cast<Wider<T>>(x[((n * z.H + h) * z.W + v) * z.C + c]);
                }
        dw[i] = sum;
    }
}

void forward(const Exec& exec, const Conv2dProblem& problem, const Tensor& x, const Tensor& w,
             const Tensor& b, const Tensor& y) {
    cuda::dispatch_activations(x.dtype(), [&](auto t) {
        using T = decltype(t);
        using P = Wider<T>;
        cuda::launch<forward_kernel<T>>(exec.device, cuda::blocks_for(y.numel()), cuda::kThreads, 0,
                                        problem, x.data<T>(), w.data<P>(),
                                        b.defined() ? b.data<P>() : nullptr, y.data<T>());
    });
}

void grad_input(const Exec& exec, const Conv2dProblem& problem, const Tensor& dy, const Tensor& w,
                const GradIn& dx) {
    cuda::dispatch_activations(dy.dtype(), [&](auto t) {
        using T = decltype(t);
        cuda::launch<grad_input_kernel<T>>(exec.device, cuda::blocks_for(dx.grad.numel()),
                                           cuda::kThreads, 0, problem, dy.data<T>(),
                                           w.data<Wider<T>>(), dx.grad.data<T>(), dx.beta);
    });
}

void grad_weight(const Exec& exec, const Conv2dProblem& problem, const Tensor& x, const Tensor& dy,
                 const GradIn& dw) {
    cuda::dispatch_activations(dy.dtype(), [&](auto t) {
        using T = decltype(t);
        cuda::launch<grad_weight_kernel<T>>(exec.device, cuda::blocks_for(dw.grad.numel()),
                                            cuda::kThreads, 0, problem, x.data<T>(), dy.data<T>(),
                                            dw.grad.data<Wider<T>>(), dw.beta);
    });
}

}  // namespace

const Conv2dKernel kConv2dNaiveCuda{forward, grad_input, grad_weight};

}  // namespace lumachrome
