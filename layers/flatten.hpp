// [N,H,W,C] -> [N, C*H*W], in the order C,H,W, which is PyTorch's and Torch's: the columns of the
// first fully connected layer's weight then mean the same in every checkpoint.
#pragma once
#include "autograd/tape.hpp"
#include "tensor/choose.hpp"

namespace lumachrome {

template <class T>
void flatten_reference(View<const T> x, View<T> y) {
    const int64_t H = x.shape[1], W = x.shape[2], C = x.shape[3];
    for (int64_t n = 0; n < x.shape[0]; ++n)
        for (int64_t c = 0; c < C; ++c)
            for (int64_t h = 0; h < H; ++h)
                for (int64_t w = 0; w < W; ++w) y(n, (c * H + h) * W + w) = x(n, h, w, c);
}

struct FlattenKernel {
    void (*forward)(const Exec&, const Tensor& x, const Tensor& y);
    void (*backward)(const Exec&, const Tensor& dy, const GradIn& dx);
};
using FlattenImpl = Implementation<Shape, FlattenKernel>;
std::span<const FlattenImpl> flatten_cpu();
std::span<const FlattenImpl> flatten_cuda();

struct FlattenOp : Op {
    std::string name() const override { return "flatten"; }
    Shape infer(std::span<const Shape> in) const override;
    void forward(const Exec&, std::span<const Tensor> in, Tensor& y, Saved*) const override;
    void backward(const Exec&, const Tensor& dy, const Saved&,
                  std::span<const GradIn> din) const override;
    void define(std::span<const View<const Dual>> in, View<Dual> y) const override {
        flatten_reference<Dual>(in[0], y);
    }
};

inline Var flatten(const Var& x) {
    return x.tape->apply(std::make_shared<FlattenOp>(), {x});
}

}  // namespace lumachrome
