#include "layers/conv2d.hpp"

#include "tensor/dispatch.hpp"

namespace lumachrome {

Conv2dProblem conv2d_problem(const Conv2dSpec& spec, const Shape& x, const Shape& w, DType dtype) {
    const Shape in[] = {x, w};
    if (x.rank() != 4 || w.rank() != 4 || w[3] != x[3] || w[1] != spec.kernel ||
        w[2] != spec.kernel)
        throw_shape_error(
            "conv2d",
            "needs x [N,H,W,C] and w [K,R,S,C] with kernel " + std::to_string(spec.kernel), in);
    const auto extent = [&](int64_t size) {
        return (size + 2 * spec.pad() - spec.kernel) / spec.stride + 1;
    };
    if (x[1] < 1 || x[2] < 1) throw_shape_error("conv2d", "needs at least one pixel", in);
    return {spec, x[0], x[1], x[2], x[3], w[0], extent(x[1]), extent(x[2]), dtype};
}

const Conv2dKernel& choose_conv2d(const Exec& exec, const Conv2dProblem& problem) {
    return choose("conv2d", implementations(exec.device, conv2d_cpu, conv2d_cuda), problem);
}

void grad_bias(const Exec& exec, const Tensor& dy, const GradIn& db) {
    choose("grad_bias", implementations(exec.device, grad_bias_cpu, grad_bias_cuda), dy.shape())
        .run(exec, dy, db);
}

Shape Conv2dOp::infer(std::span<const Shape> in) const {
    const Conv2dProblem p = conv2d_problem(spec, in[0], in[1]);
    if (in[2] != Shape{p.K}) throw_shape_error("conv2d", "needs b [K]", in);
    return {p.N, p.P, p.Q, p.K};
}

void Conv2dOp::forward(const Exec& exec, std::span<const Tensor> in, Tensor& y,
                       Saved* saved) const {
    const Conv2dProblem problem = conv2d_problem(spec, in[0].shape(), in[1].shape(), in[0].dtype());
    choose_conv2d(exec, problem).forward(exec, problem, in[0], in[1], in[2], y);
    if (saved) saved->tensors = {in[0], in[1]};
}

void Conv2dOp::backward(const Exec& exec, const Tensor& dy, const Saved& saved,
                        std::span<const GradIn> din) const {
    const Tensor &x = saved.tensors[0], &w = saved.tensors[1];
    const Conv2dProblem problem = conv2d_problem(spec, x.shape(), w.shape(), x.dtype());
    const Conv2dKernel& kernel = choose_conv2d(exec, problem);
    if (din[0]) kernel.grad_input(exec, problem, dy, w, din[0]);
    if (din[1]) kernel.grad_weight(exec, problem, x, dy, din[1]);
    if (din[2]) grad_bias(exec, dy, din[2]);
}

int64_t Conv2dOp::macs(std::span<const Shape> in) const {
    const Conv2dProblem p = conv2d_problem(spec, in[0], in[1]);
    return p.N * p.P * p.Q * p.K * p.taps();
}

Conv2d::Conv2d(int64_t in_channels, int64_t out_channels, Conv2dSpec s) : spec(s) {
    weight.value = Tensor::zeros({out_channels, s.kernel, s.kernel, in_channels});
    bias.value = Tensor::zeros({out_channels});
}

}  // namespace lumachrome
