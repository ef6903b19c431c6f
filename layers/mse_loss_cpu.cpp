#include <cmath>
#include <vector>

#include "layers/mse_loss.hpp"
#include "tensor/dispatch.hpp"
#include "tensor/error.hpp"

namespace lumachrome {
namespace {

template <class T>
T weight(double chroma_weight, T target) {
    return 1 + static_cast<T>(chroma_weight) * std::abs(2 * target - 1);
}

void forward(const Exec& exec, double chroma_weight, const Tensor& y, const Tensor& target,
             const Tensor& loss) {
    constexpr int64_t kChunk = 4096;
    dispatch_float(y.dtype(), [&](auto t) {
        using T = decltype(t);
        std::vector<double> partial(static_cast<size_t>((y.numel() + kChunk - 1) / kChunk));
        parallel_chunks(
            exec, y.numel(),
            [&](int64_t begin, int64_t end) {
                double sum = 0;
                for (int64_t i = begin; i < end; ++i) {
                    const double t_i = double(target.data<T>()[i]);
                    const double difference = double(y.data<T>()[i]) - t_i;
                    sum += weight(chroma_weight, t_i) * difference * difference;
                }
                partial[static_cast<size_t>(begin / kChunk)] = sum;
            },
            kChunk);
        double sum = 0;
        for (double part : partial) sum += part;
        loss.data<T>()[0] = static_cast<T>(sum / double(y.numel()));
    });
}

void backward(const Exec& exec, double chroma_weight, const Tensor& y, const Tensor& target,
              const Tensor& dloss, const GradIn& dy) {
    dispatch_float(y.dtype(), [&](auto t) {
        using T = decltype(t);
        const T factor = static_cast<T>(2 * dloss.item() / double(y.numel()));
        T* out = dy.grad.data<T>();
        parallel_chunks(exec, y.numel(), [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; ++i) {
                const T t_i = target.data<T>()[i];
                const T value = factor * weight(chroma_weight, t_i) * (y.data<T>()[i] - t_i);
                out[i] = dy.beta == 0 ? value : out[i] + value;
            }
        });
    });
}

constexpr MseLossImpl kImplementations[] = {{"loop", accepts_all, {forward, backward}}};

const MseLossKernel& kernel(const Exec& exec, const Shape& shape) {
    return choose("mse_loss", implementations(exec.device, mse_loss_cpu, mse_loss_cuda), shape);
}

}  // namespace

std::span<const MseLossImpl> mse_loss_cpu() {
    return kImplementations;
}

Shape MseLossOp::infer(std::span<const Shape> in) const {
    if (in[0] != in[1] || in[0].numel() == 0)
        throw_shape_error("mse_loss", "needs output and target of one shape", in);
    return {};
}

void MseLossOp::forward(const Exec& exec, std::span<const Tensor> in, Tensor& loss,
                        Saved* saved) const {
    kernel(exec, in[0].shape()).forward(exec, chroma_weight, in[0], in[1], loss);
    if (saved) saved->tensors = {in[0], in[1]};
}

void MseLossOp::backward(const Exec& exec, const Tensor& dloss, const Saved& saved,
                         std::span<const GradIn> din) const {
    if (din[1]) throw Error("mse_loss: the target is data, it has no gradient");
    const Tensor& y = saved.tensors[0];
    if (din[0])
        kernel(exec, y.shape()).backward(exec, chroma_weight, y, saved.tensors[1], dloss, din[0]);
}

}  // namespace lumachrome
