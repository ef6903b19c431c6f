#include <algorithm>

#include "layers/upsample.hpp"
#include "tensor/dispatch.hpp"

namespace lumachrome {
namespace {

void forward(const Exec& exec, const Tensor& x, const Tensor& y) {
    dispatch_float(x.dtype(), [&](auto t) {
        using T = decltype(t);
        const int64_t W = x.shape()[2], C = x.shape()[3];
        parallel_for(exec, x.shape()[0] * x.shape()[1], [&](int64_t row) {
            const T* in = x.data<T>() + row * W * C;
            T* out = y.data<T>() + row * 4 * W * C;
            for (int64_t w = 0; w < W; ++w)
                for (int64_t q = 0; q < 2; ++q) std::copy_n(in + w * C, C, out + (2 * w + q) * C);
            std::copy_n(out, 2 * W * C, out + 2 * W * C);
        });
    });
}

void backward(const Exec& exec, const Tensor& dy, const GradIn& dx) {
    dispatch_float(dy.dtype(), [&](auto t) {
        using T = decltype(t);
        const int64_t W = dx.grad.shape()[2], C = dx.grad.shape()[3];
        parallel_for(exec, dx.grad.shape()[0] * dx.grad.shape()[1], [&](int64_t row) {
            T* out = dx.grad.data<T>() + row * W * C;
            const T* top = dy.data<T>() + row * 4 * W * C;
            const T* bottom = top + 2 * W * C;
            for (int64_t w = 0; w < W; ++w)
                for (int64_t c = 0; c < C; ++c) {
                    const int64_t left = 2 * w * C + c, right = left + C;
                    const T sum = (top[left] + top[right]) + (bottom[left] + bottom[right]);
                    T& to = out[w * C + c];
                    to = dx.beta == 0 ? sum : to + sum;
                }
        });
    });
}

constexpr UpsampleImpl kImplementations[] = {{"rows", accepts_all, {forward, backward}}};

const UpsampleKernel& kernel(const Exec& exec, const Shape& shape) {
    return choose("upsample", implementations(exec.device, upsample_cpu, upsample_cuda), shape);
}

}  // namespace

std::span<const UpsampleImpl> upsample_cpu() {
    return kImplementations;
}

Shape UpsampleOp::infer(std::span<const Shape> in) const {
    if (in[0].rank() != 4) throw_shape_error("upsample", "needs x [N,H,W,C]", in);
    return {in[0][0], 2 * in[0][1], 2 * in[0][2], in[0][3]};
}

void UpsampleOp::forward(const Exec& exec, std::span<const Tensor> in, Tensor& y, Saved*) const {
    kernel(exec, y.shape()).forward(exec, in[0], y);
}

void UpsampleOp::backward(const Exec& exec, const Tensor& dy, const Saved&,
                          std::span<const GradIn> din) const {
    if (din[0]) kernel(exec, dy.shape()).backward(exec, dy, din[0]);
}

}  // namespace lumachrome
