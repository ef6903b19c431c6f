#include "layers/activation.hpp"
#include "tensor/cuda/launch.cuh"

namespace lumachrome {
namespace {

using cuda::Wider;

template <class T>
__global__ void forward_kernel(const T* x, T* y, int64_t count, Activation activation) {
    for (int64_t i = cuda::first_index(); i < count; i += cuda::index_step())
        y[i] = static_cast<T>(activate_reference(activation, static_cast<Wider<T>>(x[i])));
}

template <class T>
__global__ void backward_kernel(const T* y, const T* dy, T* dx, int64_t count,
                                Activation activation, float beta) {
    for (int64_t i = cuda::first_index(); i < count; i += cuda::index_step()) {
        const auto v = static_cast<Wider<T>>(y[i]), up = static_cast<Wider<T>>(dy[i]);
        const Wider<T> slope = activation == Activation::relu ? Wider<T>(v > 0) : v * (1 - v);
        const Wider<T> before = beta == 0 ? 0 : static_cast<Wider<T>>(dx[i]);
        dx[i] = static_cast<T>(before + up * slope);
    }
}

void forward(const Exec& exec, Activation activation, const Tensor& x, const Tensor& y) {
    cuda::dispatch_activations(x.dtype(), [&](auto t) {
        using T = decltype(t);
        cuda::launch<forward_kernel<T>>(exec.device, cuda::blocks_for(x.numel()), cuda::kThreads, 0,
                                        x.data<T>(), y.data<T>(), x.numel(), activation);
    });
}

void backward(const Exec& exec, Activation activation, const Tensor& y, const Tensor& dy,
              const GradIn& dx) {
    cuda::dispatch_activations(y.dtype(), [&](auto t) {
        using T = decltype(t);
        cuda::launch<backward_kernel<T>>(exec.device, cuda::blocks_for(y.numel()), cuda::kThreads,
                                         0, y.data<T>(), dy.data<T>(), dx.grad.data<T>(), y.numel(),
                                         activation, dx.beta);
    });
}

constexpr ActivationImpl kImplementations[] = {{"loop", accepts_all, {forward, backward}}};

}  // namespace

std::span<const ActivationImpl> activation_cuda() {
    return kImplementations;
}

}  // namespace lumachrome
