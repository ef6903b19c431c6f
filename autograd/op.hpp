// The contract of a differentiable operation y = f(x0, x1, ...). The same object serves the eager
// run, the tape, shape inference on the meta device and the gradient checks.
// Walk 2, stop 2: loss -> gradients -> optimizer.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "autograd/dual.hpp"
#include "tensor/exec.hpp"
#include "tensor/tensor.hpp"

namespace lumachrome {

// What forward keeps for backward; empty in evaluation.
struct Saved {
    std::vector<Tensor> tensors;
};

// Where backward writes dL/dx: grad = beta * grad + J^T dy. With beta 0 the old contents are never
// read (NaN there is harmless). An undefined grad means that nobody wants it.
struct GradIn {
    Tensor grad;
    float beta = 0;
    explicit operator bool() const { return grad.defined(); }
};

// Rows [begin, end) of an image-like input.
struct Rows {
    int64_t begin, end;
};

struct Op {
    virtual ~Op() = default;
    virtual std::string name() const = 0;

    // Output shape; throws ShapeError naming op and shapes. Touches no data.
    virtual Shape infer(std::span<const Shape> in) const = 0;
    // Element type of the output.
    virtual DType result_type(std::span<const DType> in) const { return in[0]; }
    virtual void forward(const Exec& exec, std::span<const Tensor> in, Tensor& out,
                         Saved* saved) const = 0;
    virtual void backward(const Exec& exec, const Tensor& dout, const Saved& saved,
                          std::span<const GradIn> din) const = 0;

    // The executable definition, on dual numbers: the oracle of forward and backward.
    virtual void define(std::span<const View<const Dual>> in, View<Dual> out) const = 0;

    // Input rows that the output rows need; nothing: all of them.
    virtual std::optional<Rows> input_rows(Rows out) const {
        (void)out;
        return {};
    }
    // Multiply-accumulates of one forward run.
    virtual int64_t macs(std::span<const Shape> in) const {
        (void)in;
        return 0;
    }
};

// "conv2d: weight 8x3x3x4 does not fit input 1x5x5x3"
[[noreturn]] void throw_shape_error(const std::string& op, const std::string& rule,
                                    std::span<const Shape> in);

}  // namespace lumachrome
