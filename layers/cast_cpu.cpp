#include "layers/cast.hpp"
#include "tensor/dispatch.hpp"

namespace lumachrome {
namespace {

void apply(const Exec& exec, const Tensor& x, const GradIn& y) {
    // bf16 is a storage format here: widened first, rounded at the end.
    if (x.dtype() == DType::bf16) return apply(exec, x.to(DType::f32), y);
    if (y.grad.dtype() == DType::bf16) {
        const Tensor wide = y.beta == 0 ? Tensor::empty(x.shape()) : y.grad.to(DType::f32);
        apply(exec, x, {wide, y.beta});
        return y.grad.copy_from(wide);
    }
    dispatch_float(x.dtype(), [&](auto f) {
        dispatch_float(y.grad.dtype(), [&](auto t) {
            using From = decltype(f);
            using To = decltype(t);
            const From* in = x.data<From>();
            To* out = y.grad.data<To>();
            parallel_chunks(exec, x.numel(), [&](int64_t begin, int64_t end) {
                for (int64_t i = begin; i < end; ++i) {
                    const To value = static_cast<To>(in[i]);
                    out[i] = y.beta == 0 ? value : out[i] + value;
                }
            });
        });
    });
}

constexpr CastImpl kImplementations[] = {{"loop", accepts_all, {apply}}};

}  // namespace

std::span<const CastImpl> cast_cpu() {
    return kImplementations;
}

void cast_into(const Exec& exec, const Tensor& x, const GradIn& y) {
    choose("cast", implementations(exec.device, cast_cpu, cast_cuda), x.shape()).apply(exec, x, y);
}

}  // namespace lumachrome
