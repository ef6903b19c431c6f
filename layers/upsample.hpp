// Nearest-neighbour upsampling by 2 (paper, section 3.1.4: "upsampling layer that consists of the
// nearest neighbour technique"; the talk calls it deconvolution, which it is not).
//
//   y(n,p,q,c) = x(n, p/2, q/2, c)        x [N,H,W,C]  y [N,2H,2W,C]
//   dx(n,h,w,c) = sum of dy over the 2x2 block
#pragma once
#include "autograd/tape.hpp"
#include "tensor/choose.hpp"

namespace lumachrome {

template <class T>
void upsample_reference(View<const T> x, View<T> y) {
    for (int64_t n = 0; n < y.shape[0]; ++n)
        for (int64_t p = 0; p < y.shape[1]; ++p)
            for (int64_t q = 0; q < y.shape[2]; ++q)
                for (int64_t c = 0; c < y.shape[3]; ++c) y(n, p, q, c) = x(n, p / 2, q / 2, c);
}

struct UpsampleKernel {
    void (*forward)(const Exec&, const Tensor& x, const Tensor& y);
    void (*backward)(const Exec&, const Tensor& dy, const GradIn& dx);
};
using UpsampleImpl = Implementation<Shape, UpsampleKernel>;
std::span<const UpsampleImpl> upsample_cpu();
std::span<const UpsampleImpl> upsample_cuda();

struct UpsampleOp : Op {
    std::string name() const override { return "upsample"; }
    Shape infer(std::span<const Shape> in) const override;
    void forward(const Exec&, std::span<const Tensor> in, Tensor& y, Saved*) const override;
    void backward(const Exec&, const Tensor& dy, const Saved&,
                  std::span<const GradIn> din) const override;
    void define(std::span<const View<const Dual>> in, View<Dual> y) const override {
        upsample_reference<Dual>(in[0], y);
    }
    std::optional<Rows> input_rows(Rows out) const override {
        return Rows{out.begin / 2, (out.end + 1) / 2};
    }
};

inline Var upsample(const Var& x) {
    return x.tape->apply(std::make_shared<UpsampleOp>(), {x});
}

}  // namespace lumachrome
