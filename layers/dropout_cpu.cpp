#include "layers/dropout.hpp"
#include "tensor/dispatch.hpp"

namespace lumachrome {
namespace {

void apply(const Exec& exec, const DropoutMask& mask, const Tensor& x, const Tensor& y,
           float beta) {
    dispatch_float(x.dtype(), [&](auto t) {
        using T = decltype(t);
        const T* in = x.data<T>();
        T* out = y.data<T>();
        const int64_t first = mask.first_element(x.shape());
        parallel_chunks(exec, x.numel(), [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; ++i) {
                const T value = in[i] * static_cast<T>(mask.scale(first + i));
                out[i] = beta == 0 ? value : out[i] + value;
            }
        });
    });
}

constexpr DropoutImpl kImplementations[] = {{"philox", accepts_all, {apply}}};

const DropoutKernel& kernel(const Exec& exec, const Shape& shape) {
    return choose("dropout", implementations(exec.device, dropout_cpu, dropout_cuda), shape);
}

}  // namespace

std::span<const DropoutImpl> dropout_cpu() {
    return kImplementations;
}

void DropoutOp::forward(const Exec& exec, std::span<const Tensor> in, Tensor& y, Saved*) const {
    kernel(exec, y.shape()).apply(exec, mask, in[0], y, 0);
}

void DropoutOp::backward(const Exec& exec, const Tensor& dy, const Saved&,
                         std::span<const GradIn> din) const {
    if (din[0]) kernel(exec, dy.shape()).apply(exec, mask, dy, din[0].grad, din[0].beta);
}

}  // namespace lumachrome
