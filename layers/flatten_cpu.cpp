#include "layers/flatten.hpp"
#include "tensor/dispatch.hpp"

namespace lumachrome {
namespace {

void forward(const Exec& exec, const Tensor& x, const Tensor& y) {
    dispatch_float(x.dtype(), [&](auto t) {
        using T = decltype(t);
        parallel_for(exec, x.shape()[0], [&](int64_t n) {
            flatten_reference<T>(x.batch(n).view<const T>(), y.batch(n).view<T>());
        });
    });
}

void backward(const Exec& exec, const Tensor& dy, const GradIn& dx) {
    dispatch_float(dy.dtype(), [&](auto t) {
        using T = decltype(t);
        const auto grad = dx.grad.view<T>();
        const auto up = dy.view<const T>();
        const int64_t H = grad.shape[1], W = grad.shape[2], C = grad.shape[3];
        parallel_for(exec, grad.shape[0], [&](int64_t n) {
            for (int64_t h = 0; h < H; ++h)
                for (int64_t w = 0; w < W; ++w)
                    for (int64_t c = 0; c < C; ++c) {
                        const T value = up(n, (c * H + h) * W + w);
                        grad(n, h, w, c) = dx.beta == 0 ? value : grad(n, h, w, c) + value;
                    }
        });
    });
}

constexpr FlattenImpl kImplementations[] = {{"loop", accepts_all, {forward, backward}}};

const FlattenKernel& kernel(const Exec& exec, const Shape& shape) {
    return choose("flatten", implementations(exec.device, flatten_cpu, flatten_cuda), shape);
}

}  // namespace

std::span<const FlattenImpl> flatten_cpu() {
    return kImplementations;
}

Shape FlattenOp::infer(std::span<const Shape> in) const {
    if (in[0].rank() != 4) throw_shape_error("flatten", "needs x [N,H,W,C]", in);
    return {in[0][0], in[0][1] * in[0][2] * in[0][3]};
}

void FlattenOp::forward(const Exec& exec, std::span<const Tensor> in, Tensor& y, Saved*) const {
    kernel(exec, y.shape()).forward(exec, in[0], y);
}

void FlattenOp::backward(const Exec& exec, const Tensor& dy, const Saved&,
                         std::span<const GradIn> din) const {
    if (din[0]) kernel(exec, dy.shape()).backward(exec, dy, din[0]);
}

}  // namespace lumachrome
