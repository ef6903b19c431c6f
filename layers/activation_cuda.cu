#include "layers/activation.hpp"
#include "tensor/cuda/elementwise.cuh"

namespace lumachrome {
namespace {

using cuda::Values, cuda::Wider;

// The quick exponential and division err in the 22nd bit: enough for bf16, which has 8.
template <class T>
__device__ __forceinline__ Wider<T> activated(Activation activation, Wider<T> x) {
    if constexpr (std::is_same_v<T, bf16>)
        if (activation == Activation::sigmoid) return __fdividef(1.0f, 1.0f + __expf(-x));
    return activate_reference(activation, x);
}

template <class T>
struct Forward {
    static constexpr int kWidth = cuda::kPackOf<T>;
    Activation activation;
    const T* x;
    T* y;

    bool aligned() const { return cuda::aligned_16({x, y}); }
    template <int kCount>
    __device__ Values<T, kCount> load(int64_t i) const {
        return cuda::load_pack<kCount>(x + i);
    }
    template <int kCount>
    __device__ void store(int64_t i, Values<T, kCount> v) const {
#pragma unroll
        for (int k = 0; k < kCount; ++k) v.at[k] = activated<T>(activation, v.at[k]);
        cuda::store_pack<kCount>(y + i, v);
    }
};

template <class T>
struct Backward {
    static constexpr int kWidth = cuda::kPackOf<T>;
    Activation activation;
    bool add;
    const T *y, *dy;
    T* dx;

    template <int kCount>
    struct Loaded {
        Values<T, kCount> y, dy;
    };
    bool aligned() const { return cuda::aligned_16({y, dy, dx}); }
    template <int kCount>
    __device__ Loaded<kCount> load(int64_t i) const {
        return {cuda::load_pack<kCount>(y + i), cuda::load_pack<kCount>(dy + i)};
    }
    template <int kCount>
    __device__ void store(int64_t i, const Loaded<kCount>& from) const {
        Values<T, kCount> out;
#pragma unroll
        for (int k = 0; k < kCount; ++k) {
            const Wider<T> v = from.y.at[k];
            const Wider<T> slope = activation == Activation::relu ? Wider<T>(v > 0) : v * (1 - v);
            out.at[k] = from.dy.at[k] * slope;
        }
        cuda::store_or_add<kCount>(dx + i, out, add);
    }
};

void forward(const Exec& exec, Activation activation, const Tensor& x, const Tensor& y) {
    cuda::dispatch_activations(x.dtype(), [&](auto t) {
        using T = decltype(t);
        cuda::elementwise(exec.device, Forward<T>{activation, x.data<T>(), y.data<T>()}, x.numel());
    });
}

void backward(const Exec& exec, Activation activation, const Tensor& y, const Tensor& dy,
              const GradIn& dx) {
    cuda::dispatch_activations(y.dtype(), [&](auto t) {
        using T = decltype(t);
        cuda::elementwise(
            exec.device,
            Backward<T>{activation, dx.beta != 0, y.data<T>(), dy.data<T>(), dx.grad.data<T>()},
            y.numel());
    });
}

constexpr ActivationImpl kImplementations[] = {{"packs", accepts_all, {forward, backward}}};

}  // namespace

std::span<const ActivationImpl> activation_cuda() {
    return kImplementations;
}

}  // namespace lumachrome
