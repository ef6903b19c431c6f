// Classification loss (paper, eq. 4, second term): softmax cross-entropy on logits, averaged over
// the labelled samples; label -1 means unlabelled and is skipped (0 if there is none at all).
//
//   L = -1/n sum_{labelled i} (z(i, l_i) - log sum_c e^z(i,c))      z [N,classes], L a scalar
//   dz(i,c) = (softmax(z_i)(c) - [c = l_i]) / n dL,  0 for the unlabelled
#pragma once
#include <vector>

#include "autograd/tape.hpp"
#include "tensor/choose.hpp"

namespace lumachrome {

using Labels = std::vector<int64_t>;

template <class T>
T cross_entropy_reference(View<const T> z, const Labels& labels) {
    using std::exp, std::log;
    T total = 0;
    double count = 0;
    for (int64_t i = 0; i < z.shape[0]; ++i) {
        if (labels[static_cast<size_t>(i)] < 0) continue;
        T largest = z(i, 0), sum = 0;
        for (int64_t c = 1; c < z.shape[1]; ++c)
            if (z(i, c) > largest) largest = z(i, c);
        for (int64_t c = 0; c < z.shape[1]; ++c) sum += exp(z(i, c) - largest);
        total += log(sum) + largest - z(i, labels[static_cast<size_t>(i)]);
        count += 1;
    }
    return count > 0 ? total / T(count) : T(0);
}

// `on_device` [N] f32 is what a GPU reads: whole numbers, -1 for the unlabelled; undefined for the
// CPU, which reads `labels`.
struct CrossEntropyKernel {
    void (*forward)(const Exec&, const Labels& labels, const Tensor& on_device, const Tensor& z,
                    const Tensor& loss);
    void (*backward)(const Exec&, const Labels& labels, const Tensor& on_device, const Tensor& z,
                     const Tensor& dloss, const GradIn& dz);
};
using CrossEntropyImpl = Implementation<Shape, CrossEntropyKernel>;
std::span<const CrossEntropyImpl> cross_entropy_cpu();
std::span<const CrossEntropyImpl> cross_entropy_cuda();

// On a GPU the labels are uploaded, which waits, unless they lie there already: then a captured
// step reads what is written into that memory before each run. Labels that exist only there are not
// checked against the number of classes; one beyond it makes the loss NaN.
struct CrossEntropyOp : Op {
    explicit CrossEntropyOp(Labels l) : labels(std::move(l)) {}
    explicit CrossEntropyOp(Tensor labels_on_device) : on_device(std::move(labels_on_device)) {}
    Labels labels;
    Tensor on_device;

    std::string name() const override { return "cross_entropy"; }
    Shape infer(std::span<const Shape> in) const override;
    void forward(const Exec&, std::span<const Tensor> in, Tensor& loss, Saved*) const override;
    void backward(const Exec&, const Tensor& dloss, const Saved&,
                  std::span<const GradIn> din) const override;
    void define(std::span<const View<const Dual>> in, View<Dual> loss) const override {
        loss.data[0] = cross_entropy_reference<Dual>(in[0], labels);
    }
};

inline Var cross_entropy(const Var& logits, Labels labels) {
    return logits.tape->apply(std::make_shared<CrossEntropyOp>(std::move(labels)), {logits});
}
// `labels` [N] f32 on the GPU of the logits.
inline Var cross_entropy(const Var& logits, Tensor labels) {
    return logits.tape->apply(std::make_shared<CrossEntropyOp>(std::move(labels)), {logits});
}

}  // namespace lumachrome
