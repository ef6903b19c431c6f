// Changes the element type: between the f32 of losses and statistics and the bf16 of activations on
// a GPU, or from f32 to f64 and back.
//
//   y(i) = x(i), rounded to nearest        dx(i) = dy(i), rounded likewise
#pragma once
#include "autograd/tape.hpp"
#include "tensor/choose.hpp"

namespace lumachrome {

struct CastKernel {
    // y = beta y + x; the two may differ in type. f32, f64, bf16.
    void (*apply)(const Exec&, const Tensor& x, const GradIn& y);
};
using CastImpl = Implementation<Shape, CastKernel>;
std::span<const CastImpl> cast_cpu();
std::span<const CastImpl> cast_cuda();

// The same as a part of other ops.
void cast_into(const Exec& exec, const Tensor& x, const GradIn& y);

struct CastOp : Op {
    explicit CastOp(DType d) : dtype(d) {}
    DType dtype;

    std::string name() const override { return "cast"; }
    Shape infer(std::span<const Shape> in) const override { return in[0]; }
    DType result_type(std::span<const DType>) const override { return dtype; }
    void forward(const Exec& exec, std::span<const Tensor> in, Tensor& y, Saved*) const override {
        cast_into(exec, in[0], {y, 0});
    }
    void backward(const Exec& exec, const Tensor& dy, const Saved&,
                  std::span<const GradIn> din) const override {
        if (din[0]) cast_into(exec, dy, din[0]);
    }
    void define(std::span<const View<const Dual>> in, View<Dual> y) const override {
        for (int64_t i = 0; i < y.numel(); ++i) y.data[i] = in[0].data[i];
    }
    std::optional<Rows> input_rows(Rows out) const override { return out; }
};

// x itself where it has the type already.
inline Var cast(const Var& x, DType dtype) {
    if (x.value.dtype() == dtype) return x;
    return x.tape->apply(std::make_shared<CastOp>(dtype), {x});
}

}  // namespace lumachrome
