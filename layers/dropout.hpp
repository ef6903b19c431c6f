// Dropout (Srivastava et al. 2014), inverted: kept values are scaled in training, evaluation does
// nothing. The mask is a function of (seed, step, layer, element of the batch), so it survives a
// resume and depends neither on threads nor on how a batch is shared between processes.
//
//   y(i) = x(i) / (1 - rate) where element i is kept, else 0;      dx likewise from dy
#pragma once
#include "autograd/tape.hpp"
#include "tensor/choose.hpp"
#include "tensor/random.hpp"

namespace lumachrome {

struct DropoutMask {
    double rate = 0;  // share of elements dropped, in [0, 1)
    uint64_t seed = 0;
    uint32_t step = 0, layer = 0;
    int64_t first_sample = 0;  // place of x's first sample in the whole batch, where x is a share
    // Where the step's number lies in a GPU's memory: a captured step is replayed with the
    // arguments it was captured with. Kernels then read it instead of `step`; forward and backward
    // of one step must find the same. Null: `step`.
    const uint32_t* device_step = nullptr;

    // Element of the whole batch.
    constexpr bool drops(int64_t element, uint32_t at_step) const {
        const auto bits =
            philox4x32({uint32_t(element), uint32_t(element >> 32), at_step, layer},
                       {uint32_t(seed), uint32_t(seed >> 32) ^ uint32_t(Random::Purpose::dropout)});
        return bits[0] * 0x1p-32 < rate;
    }
    constexpr double kept_scale() const { return 1 / (1 - rate); }
    constexpr double scale(int64_t element) const {
        return drops(element, step) ? 0 : kept_scale();
    }
    int64_t first_element(const Shape& x) const {
        return first_sample == 0 ? 0 : first_sample * (x.numel() / x[0]);
    }
};

struct DropoutKernel {
    // y = beta y + mask * x; forward with (x, y), backward with (dy, dx).
    void (*apply)(const Exec&, const DropoutMask&, const Tensor& x, const Tensor& y, float beta);
};
using DropoutImpl = Implementation<Shape, DropoutKernel>;
std::span<const DropoutImpl> dropout_cpu();
std::span<const DropoutImpl> dropout_cuda();

struct DropoutOp : Op {
    explicit DropoutOp(DropoutMask m) : mask(m) {}
    DropoutMask mask;

    std::string name() const override { return "dropout"; }
    Shape infer(std::span<const Shape> in) const override { return in[0]; }
    void forward(const Exec&, std::span<const Tensor> in, Tensor& y, Saved*) const override;
    void backward(const Exec&, const Tensor& dy, const Saved&,
                  std::span<const GradIn> din) const override;
    void define(std::span<const View<const Dual>> in, View<Dual> y) const override {
        const int64_t first = mask.first_element(y.shape);
        for (int64_t i = 0; i < y.numel(); ++i)
            y.data[i] = in[0].data[i] * Dual(mask.scale(first + i));
    }
    std::optional<Rows> input_rows(Rows out) const override { return out; }
};

// Identity unless the tape trains and the rate is positive.
inline Var dropout(const Var& x, const DropoutMask& mask) {
    if (x.tape->phase() != Phase::train || mask.rate <= 0) return x;
    return x.tape->apply(std::make_shared<DropoutOp>(mask), {x});
}

}  // namespace lumachrome
