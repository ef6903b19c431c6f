// Dropout (Srivastava et al. 2014), inverted: kept values are scaled in training, evaluation does
// nothing. The mask is a function of (seed, step, layer, element), so it survives a resume and does
// not depend on threads.
//
//   y(i) = x(i) / (1 - rate) where element i is kept, else 0;      dx likewise from dy
#pragma once
#include "autograd/tape.hpp"
#include "tensor/choose.hpp"

namespace lumachrome {

struct DropoutMask {
    double rate = 0;  // share of elements dropped, in [0, 1)
    uint64_t seed = 0;
    uint32_t step = 0, layer = 0;
    double scale(int64_t element) const;  // 0, or 1 / (1 - rate)
};

struct DropoutKernel {
    // y = beta y + mask * x; forward with (x, y), backward with (dy, dx).
    void (*apply)(const Exec&, const DropoutMask&, const Tensor& x, const Tensor& y, float beta);
};
using DropoutImpl = Implementation<Shape, DropoutKernel>;
std::span<const DropoutImpl> dropout_cpu();

struct DropoutOp : Op {
    explicit DropoutOp(DropoutMask m) : mask(m) {}
    DropoutMask mask;

    std::string name() const override { return "dropout"; }
    Shape infer(std::span<const Shape> in) const override { return in[0]; }
    void forward(const Exec&, std::span<const Tensor> in, Tensor& y, Saved*) const override;
    void backward(const Exec&, const Tensor& dy, const Saved&,
                  std::span<const GradIn> din) const override;
    void define(std::span<const View<const Dual>> in, View<Dual> y) const override {
        for (int64_t i = 0; i < y.numel(); ++i) y.data[i] = in[0].data[i] * Dual(mask.scale(i));
    }
    std::optional<Rows> input_rows(Rows out) const override { return out; }
};

// Identity unless the tape trains and the rate is positive.
inline Var dropout(const Var& x, const DropoutMask& mask) {
    if (x.tape->phase() != Phase::train || mask.rate <= 0) return x;
    return x.tape->apply(std::make_shared<DropoutOp>(mask), {x});
}

}  // namespace lumachrome
