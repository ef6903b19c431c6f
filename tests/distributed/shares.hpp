// One batch of the small two-branch network, and what a rank computes from its share of it.
#pragma once
#include "model/colornet.hpp"
#include "support/random_tensor.hpp"
#include "tensor/larger_or_nan.hpp"
#include "train/distributed/gradient_reducer.hpp"
#include "train/joint_loss.hpp"

namespace lumachrome {

constexpr int64_t kBatch = 8;

inline Spec small_spec() {
    Spec spec = preset("tiny");
    spec.classes = 3;
    spec.global_size = 32;
    spec.dropout = 0.5;
    return spec;
}

// Samples [first, first + count).
inline Tensor share(const Tensor& whole, int64_t first, int64_t count) {
    const int64_t sample = whole.numel() / whole.shape()[0];
    const Shape s = whole.shape();
    const Tensor part = Tensor::empty({count, s[1], s[2], s[3]}, whole.dtype());
    dispatch_float(whole.dtype(), [&](auto t) {
        std::copy_n(whole.data<decltype(t)>() + first * sample, count * sample,
                    part.data<decltype(t)>());
    });
    return part;
}

struct Outcome {
    std::vector<std::string> names;
    std::vector<Tensor> gradients, statistics;  // statistics: what is not trained
    double color = 0, classes = 0;              // losses of the whole batch
};

struct ShareOptions {
    DType dtype = DType::f64;
    bool synchronised = true;  // batch norm
    int64_t bucket_bytes = 1 << 16;
    uint32_t step = 3;
    Activation activation = Activation::relu;
};

// Gradients of the whole batch, whichever part of it this rank computes.
inline Outcome outcome(const PeerGroup& peers, const ShareOptions& options) {
    const Labels labels{0, -1, 2, 1, -1, -1, -1, 2};  // the halves have 3 and 1 of them
    const int64_t count = kBatch / peers.count(), first = peers.rank() * count;
    const auto input = [&](Shape shape, uint32_t stream, double low, double high) {
        return share(random_tensor(shape, stream, DType::f64, low, high), first, count)
            .to(options.dtype);
    };
    Spec spec = small_spec();
    spec.activation = options.activation;
    ColorNet net(spec, 1);
    net.cast(options.dtype);
    net.dropout_seed = 5;
    net.dropout_step = options.step;
    net.dropout_first_sample = first;
    Exec exec;
    exec.peers = options.synchronised && peers.count() > 1 ? &peers : nullptr;
    Tape tape(Phase::train, exec);
    const Var x = tape.input(input({kBatch, 16, 24, 1}, 1, -0.5, 0.5));
    const Var copy = tape.input(input({kBatch, 32, 32, 1}, 2, -0.5, 0.5));
    const ColorNet::Output output = net(x, copy);
    const Labels mine(labels.begin() + first, labels.begin() + first + count);
    const auto labelled = std::count_if(mine.begin(), mine.end(), [](int64_t l) { return l >= 0; });
    const double weight = peers.share_of(double(labelled));
    const JointLoss loss(output, input({kBatch, 8, 12, 2}, 3, 0, 1), mine, {.alpha = 0.1}, weight);

    std::vector<Parameter*> trained;
    net.visit([&](const std::string&, Parameter& p) {
        if (p.trainable) trained.push_back(&p);
    });
    GradientReducer reducer(peers, trained, options.bucket_bytes);
    loss.backward([&](Parameter& p) { reducer.ready(p); });
    reducer.finish();

    Outcome result;
    net.visit([&](const std::string& name, Parameter& p) {
        if (p.trainable) result.names.push_back(name);
        (p.trainable ? result.gradients : result.statistics)
            .push_back(p.trainable ? p.grad : p.value);
    });
    peers.mean(result.statistics);
    const std::vector<double> sums =
        peers.sum_scalars({loss.color.value.item(), loss.classes->value.item() * weight});
    result.color = sums[0] / peers.count();
    result.classes = sums[1] / peers.count();
    return result;
}

// Largest difference in any tensor, relative to the largest value of that tensor; `worst`: whose.
// Biases before batch norm have no gradient but rounding: theirs is relative to that of the weights
// before them.
inline double difference(const Outcome& a, const Outcome& b, std::string& worst) {
    double most = 0, largest = 0;
    for (size_t k = 0; k < a.gradients.size(); ++k) {
        const bool useless = a.names[k].ends_with("conv.bias") ||
                             a.names[k].ends_with("linear.bias") ||
                             a.names[k].ends_with("fusion.bias");
        double apart = 0;
        if (!useless) largest = 0;
        for (int64_t i = 0; i < a.gradients[k].numel(); ++i) {
            const double value = a.gradients[k].item(i);
            apart = larger_or_nan(apart, std::abs(value - b.gradients[k].item(i)));
            largest = std::max(largest, std::abs(value));
        }
        const double relative = apart == 0 ? 0 : apart / largest;
        if (std::isnan(relative) || relative >= most) worst = a.names[k];
        most = larger_or_nan(most, relative);
    }
    return most;
}

// Largest difference of the running statistics, which are of the order of 1.
inline double statistics_difference(const Outcome& a, const Outcome& b) {
    double most = 0;
    for (size_t k = 0; k < a.statistics.size(); ++k)
        for (int64_t i = 0; i < a.statistics[k].numel(); ++i)
            most = larger_or_nan(most, std::abs(a.statistics[k].item(i) - b.statistics[k].item(i)));
    return most;
}

}  // namespace lumachrome
