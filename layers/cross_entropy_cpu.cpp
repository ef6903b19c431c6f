#include <algorithm>

#include "layers/cross_entropy.hpp"
#include "tensor/dispatch.hpp"

namespace lumachrome {
namespace {

// A batch of logits is small; one thread, in double where it matters.
void forward(const Exec&, const Labels& labels, const Tensor&, const Tensor& z,
             const Tensor& loss) {
    const Tensor wide = z.to(DType::f64);
    loss.fill(cross_entropy_reference<double>(wide.view<const double>(), labels));
}

void backward(const Exec&, const Labels& labels, const Tensor&, const Tensor& z,
              const Tensor& dloss, const GradIn& dz) {
    const auto labelled =
        std::count_if(labels.begin(), labels.end(), [](int64_t l) { return l >= 0; });
    if (dz.beta == 0) dz.grad.fill(0);
    if (labelled == 0) return;
    dispatch_float(z.dtype(), [&](auto t) {
        using T = decltype(t);
        const auto logits = z.view<const T>();
        const auto grad = dz.grad.view<T>();
        const double factor = dloss.item() / double(labelled);
        for (int64_t i = 0; i < logits.shape[0]; ++i) {
            const int64_t label = labels[static_cast<size_t>(i)], classes = logits.shape[1];
            if (label < 0) continue;
            const double largest = *std::max_element(&logits(i, 0), &logits(i, 0) + classes);
            double sum = 0;
            for (int64_t c = 0; c < classes; ++c) sum += std::exp(double(logits(i, c)) - largest);
            for (int64_t c = 0; c < classes; ++c) {
                const double softmax = std::exp(double(logits(i, c)) - largest) / sum;
                grad(i, c) += static_cast<T>(factor * (softmax - (c == label ? 1 : 0)));
            }
        }
    });
}

constexpr CrossEntropyImpl kImplementations[] = {{"loop", accepts_all, {forward, backward}}};

const CrossEntropyKernel& kernel(const Exec& exec, const Shape& shape) {
    return choose("cross_entropy",
                  implementations(exec.device, cross_entropy_cpu, cross_entropy_cuda), shape);
}

}  // namespace

std::span<const CrossEntropyImpl> cross_entropy_cpu() {
    return kImplementations;
}

Shape CrossEntropyOp::infer(std::span<const Shape> in) const {
    const int64_t count =
        on_device.defined() ? on_device.numel() : static_cast<int64_t>(labels.size());
    if (in[0].rank() != 2 || in[0][0] != count)
        throw_shape_error("cross_entropy",
                          "needs logits [N,classes] for " + std::to_string(count) + " labels", in);
    for (int64_t label : labels)
        if (label >= in[0][1])
            throw_shape_error("cross_entropy", "label " + std::to_string(label) + " is no class",
                              in);
    return {};
}

void CrossEntropyOp::forward(const Exec& exec, std::span<const Tensor> in, Tensor& loss,
                             Saved* saved) const {
    Tensor there = on_device;
    if (exec.device.kind == Device::cuda && !there.defined()) {
        const Tensor here = Tensor::empty({in[0].shape()[0]});
        std::copy(labels.begin(), labels.end(), here.data<float>());
        there = here.to(exec.device);
    }
    kernel(exec, in[0].shape()).forward(exec, labels, there, in[0], loss);
    if (saved) saved->tensors = {in[0], there};
}

void CrossEntropyOp::backward(const Exec& exec, const Tensor& dloss, const Saved& saved,
                              std::span<const GradIn> din) const {
    if (din[0])
        kernel(exec, saved.tensors[0].shape())
            .backward(exec, labels, saved.tensors[1], saved.tensors[0], dloss, din[0]);
}

}  // namespace lumachrome
