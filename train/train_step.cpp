#include "train/train_step.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>

#include "image/resize.hpp"
#include "tensor/error.hpp"
#include "train/device_samples.hpp"
#include "train/finite_check.hpp"
#include "train/step_parts.hpp"

namespace lumachrome {
namespace {

// The batch at the global branch's size.
Tensor resized(const Tensor& luma, int64_t size) {
    const Tensor out = Tensor::empty({luma.shape()[0], size, size, 1});
    for (int64_t n = 0; n < luma.shape()[0]; ++n) {
        const Tensor photo = luma.batch(n).reshape({luma.shape()[1], luma.shape()[2], 1});
        out.batch(n).copy_from(resize(photo, size, size).reshape({1, size, size, 1}));
    }
    return out;
}

Tensor minus(const Tensor& luma, double mean, DType dtype) {
    const Tensor out = luma.to(dtype).clone();
    dispatch_float(dtype, [&](auto t) {
        auto* x = out.data<decltype(t)>();
        const auto shift = static_cast<decltype(t)>(mean);
        for (int64_t i = 0; i < out.numel(); ++i) x[i] -= shift;
    });
    return out;
}

int64_t count_correct(const Tensor& logits, const Labels& labels) {
    int64_t correct = 0;
    const int64_t classes = logits.shape()[1];
    dispatch_float(logits.dtype(), [&](auto t) {
        const auto* z = logits.data<decltype(t)>();
        for (size_t n = 0; n < labels.size(); ++n) {
            const auto* row = z + static_cast<int64_t>(n) * classes;
            correct += labels[n] >= 0 && std::max_element(row, row + classes) - row == labels[n];
        }
    });
    return correct;
}

// Over all gradients together; chunks are summed in order, so threads do not change the bits.
double gradient_norm(const Exec& exec, std::vector<Optimizer::Slot>& slots) {
    constexpr int64_t kChunk = 16384;
    constexpr int64_t kLanes = 16;  // a lone sum would wait for each addition
    double square = 0;
    std::vector<double> partial;
    for (const Optimizer::Slot& slot : slots) {
        const Tensor& grad = slot.parameter->grad;
        if (!grad.defined()) continue;
        partial.assign(size_t((grad.numel() + kChunk - 1) / kChunk), 0);
        dispatch_float(grad.dtype(), [&](auto t) {
            const auto* g = grad.data<decltype(t)>();
            parallel_chunks(
                exec, grad.numel(),
                [&](int64_t begin, int64_t end) {
                    double sums[kLanes] = {};
                    const auto add = [&](int64_t lane, double value) {
                        sums[lane] += value * value;
                    };
                    int64_t i = begin;
                    for (; i + kLanes <= end; i += kLanes)
                        for (int64_t lane = 0; lane < kLanes; ++lane) add(lane, g[i + lane]);
                    for (; i < end; ++i) add(i % kLanes, g[i]);
                    partial[size_t(begin / kChunk)] =
                        std::accumulate(std::begin(sums), std::end(sums), 0.0);
                },
                kChunk);
        });
        square += std::accumulate(partial.begin(), partial.end(), 0.0);
    }
    return std::sqrt(square);
}

}  // namespace

std::string bad_gradient(Optimizer& optimizer) {
    std::string name = "all weights together";  // each finite, their norm is not
    for (const Optimizer::Slot& slot : optimizer.slots())
        if (slot.parameter->grad.defined() && !all_finite(slot.parameter->grad)) {
            name = slot.name;
            break;
        }
    return "the gradient of " + name + " is not finite";
}

std::string birthplace(ColorNet& net, Exec exec, const Batch& batch, const StepSettings& settings,
                       std::string otherwise) {
    exec.peers = nullptr;
    FiniteCheck check(net, settings.watch);
    try {
        Tape tape(Phase::train, exec, &check);
        const Tensor ab = batch.ab.to(exec.device);
        run_forward(tape, net, batch.luma, ab, batch.labels, settings.loss).loss.backward();
    } catch (const Error& found) {
        return found.what();
    }
    return otherwise;
}

void combine(const PeerGroup& peers, ColorNet& net, StepResult& result) {
    const double labelled = double(result.labelled);
    const std::vector<double> sums = peers.sum_scalars(
        {result.color_loss, result.class_loss * labelled, labelled, double(result.correct)});
    result.color_loss = sums[0] / peers.count();
    result.class_loss = sums[2] > 0 ? sums[1] / sums[2] : 0;
    result.labelled = std::llround(sums[2]);
    result.correct = std::llround(sums[3]);
    std::vector<Tensor> statistics;
    net.visit([&](const std::string& name, Parameter& p) {
        if (name.find(".running_") != name.npos) statistics.push_back(p.value);
    });
    peers.mean(statistics);
}

int64_t count_labelled(const Labels& labels) {
    return std::count_if(labels.begin(), labels.end(), [](int64_t l) { return l >= 0; });
}

void throw_non_finite(int64_t step, const std::string& what) {
    throw NonFiniteError("step " + std::to_string(step) + ": " + what +
                         "; a smaller --learning-rate, --warmup or --clip-norm may help");
}
void throw_bad_update(int64_t step, const std::string& name) {
    throw_non_finite(step, "the update made " + name + " not finite");
}

NetInput net_input(Tape& tape, const ColorNet& net, const Tensor& luma) {
    const Spec& spec = net.spec;
    const Exec& exec = tape.exec();
    const DType weights = net.output.weight.value.dtype();
    const auto made = [&](int64_t size) {
        if (exec.device.kind == Device::cpu)
            return minus(luma.shape()[1] == size ? luma : resized(luma, size), spec.luma_mean,
                         weights);
        const Tensor out =
            Tensor::empty({luma.shape()[0], size, size, 1},
                          exec.maps == DType::bf16 ? exec.maps : weights, exec.device);
        cuda::network_input(exec.device, luma.to(exec.device), spec.luma_mean, out);
        return out;
    };
    const Var x = tape.input(made(luma.shape()[1]));
    if (!spec.use_global || luma.shape()[1] == spec.global_size) return {x, x};
    return {x, tape.input(made(spec.global_size))};
}

StepResult train_step(ColorNet& net, Optimizer& optimizer, const Exec& exec, const Batch& batch,
                      const StepSettings& settings) {
    const int64_t step = optimizer.steps() + 1;
    // Old gradients would lie beside the activations of the forward pass.
    for (const Optimizer::Slot& slot : optimizer.slots()) slot.parameter->grad = {};
    net.dropout_step = static_cast<uint32_t>(optimizer.steps());
    net.dropout_first_sample = batch.first;
    StepResult result;
    result.labelled = count_labelled(batch.labels);
    const double class_factor =
        settings.peers ? settings.peers->share_of(double(result.labelled)) : 1;
    bool finite_loss = true;
    {
        Tape tape(Phase::train, exec, settings.watch);
        const ForwardPass pass =
            run_forward(tape, net, batch.luma, batch.ab, batch.labels, settings.loss, class_factor);
        result.color_loss = pass.loss.color.value.item();
        if (pass.loss.classes) result.class_loss = pass.loss.classes->value.item();
        if (pass.output.logits)
            result.correct = count_correct(pass.output.logits->value, batch.labels);
        else
            result.labelled = 0;
        finite_loss = std::isfinite(pass.loss.total());
        if (settings.reducer)
            pass.loss.backward([&](Parameter& p) { settings.reducer->ready(p); });
        else if (finite_loss || settings.peers)
            pass.loss.backward();
    }
    const auto explain = [&](const std::string& otherwise) {
        throw_non_finite(step, birthplace(net, exec, batch, settings, otherwise));
    };
    // Peers wait for this gradient; a bad one tells them.
    if (!finite_loss && !settings.peers) explain("the loss is not finite");
    if (settings.reducer) settings.reducer->finish();
    if (settings.peers) combine(*settings.peers, net, result);
    result.gradient_norm = gradient_norm(exec, optimizer.slots());
    if (!std::isfinite(result.gradient_norm))
        explain(finite_loss ? bad_gradient(optimizer) : "the loss is not finite");
    const bool clip = settings.clip_norm > 0 && result.gradient_norm > settings.clip_norm;
    if (const Optimizer::Slot* bad = optimizer.step(
            exec, settings.rate_factor, clip ? settings.clip_norm / result.gradient_norm : 1))
        throw_bad_update(step, bad->name);
    // What is not trained: running statistics.
    net.visit([&](const std::string& name, Parameter& p) {
        if (!p.trainable && !all_finite(p.value)) throw_bad_update(step, name);
    });
    return result;
}

}  // namespace lumachrome
