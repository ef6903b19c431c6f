#include "layers/activation.hpp"
#include "tensor/dispatch.hpp"

namespace lumachrome {
namespace {

void forward(const Exec& exec, Activation activation, const Tensor& x, const Tensor& y) {
    dispatch_float(x.dtype(), [&](auto t) {
        using T = decltype(t);
        const T* in = x.data<T>();
        T* out = y.data<T>();
        parallel_chunks(exec, x.numel(), [&](int64_t begin, int64_t end) {
            if (activation == Activation::relu)  // NaN passes, so that the loss shows it
                for (int64_t i = begin; i < end; ++i) out[i] = in[i] < 0 ? T{0} : in[i];
            else
                for (int64_t i = begin; i < end; ++i) out[i] = 1 / (1 + std::exp(-in[i]));
        });
    });
}

void backward(const Exec& exec, Activation activation, const Tensor& y, const Tensor& dy,
              const GradIn& dx) {
    dispatch_float(y.dtype(), [&](auto t) {
        using T = decltype(t);
        const T *out = y.data<T>(), *up = dy.data<T>();
        T* grad = dx.grad.data<T>();
        const auto slope = [activation](T v) {
            return activation == Activation::relu ? T(v > 0) : v * (1 - v);
        };
        parallel_chunks(exec, y.numel(), [&](int64_t begin, int64_t end) {
            if (dx.beta == 0)
                for (int64_t i = begin; i < end; ++i) grad[i] = up[i] * slope(out[i]);
            else
                for (int64_t i = begin; i < end; ++i) grad[i] += up[i] * slope(out[i]);
        });
    });
}

constexpr ActivationImpl kImplementations[] = {{"loop", accepts_all, {forward, backward}}};

const ActivationKernel& kernel(const Exec& exec, const Shape& shape) {
    return choose("activation", implementations(exec.device, activation_cpu, activation_cuda),
                  shape);
}

}  // namespace

std::span<const ActivationImpl> activation_cpu() {
    return kImplementations;
}

void ActivationOp::forward(const Exec& exec, std::span<const Tensor> in, Tensor& y,
                           Saved* saved) const {
    kernel(exec, y.shape()).forward(exec, activation, in[0], y);
    if (saved) saved->tensors = {y};
}

void ActivationOp::backward(const Exec& exec, const Tensor& dy, const Saved& saved,
                            std::span<const GradIn> din) const {
    if (din[0]) kernel(exec, dy.shape()).backward(exec, activation, saved.tensors[0], dy, din[0]);
}

}  // namespace lumachrome
