#include "train/step_runner.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <optional>
#include <vector>

#include "tensor/cuda_async.hpp"
#include "tensor/cuda_graph.hpp"
#include "tensor/storage.hpp"
#include "train/device_step.hpp"
#include "train/step_parts.hpp"

namespace lumachrome {
namespace {

constexpr int64_t kEagerSteps = 2;  // the first takes memory, the second finds all it needs

// The network's masks follow a number in the GPU's memory for a while.
class DropoutStep {
  public:
    DropoutStep(ColorNet& net, const Tensor& step) : net_(net) {
        net_.dropout_device_step = reinterpret_cast<const uint32_t*>(step.raw());
    }
    ~DropoutStep() { net_.dropout_device_step = nullptr; }
    DropoutStep(const DropoutStep&) = delete;
    DropoutStep& operator=(const DropoutStep&) = delete;

  private:
    ColorNet& net_;
};

}  // namespace

class StepRunner::Gpu {
  public:
    Gpu(ColorNet& net, Optimizer& optimizer, const Exec& exec, WeightAverage* average)
        : net_(net),
          optimizer_(optimizer),
          exec_(exec),
          average_(average),
          end_(exec.device),
          dropout_step_(Tensor::empty({1}, DType::f32, exec.device)),
          dropout_step_here_(sizeof(uint32_t)),
          given_(exec.device),
          graph_(exec.device) {}

    StepResult step(const Batch& batch, const StepSettings& settings);
    bool replays() const { return graph_.captured(); }

  private:
    using Signature = std::vector<uint64_t>;
    Signature signature(const Batch& batch, const StepSettings& settings) const;
    void begin(const Batch& batch, const StepSettings& settings);
    void give(const Batch& batch);
    void differentiate(const StepSettings& settings, double class_factor);
    void differentiate_with_peers(const StepSettings& settings, StepResult& result);
    void update();
    void check(const Batch& batch, const StepSettings& settings, const StepOutcome& outcome);

    ColorNet& net_;
    Optimizer& optimizer_;
    const Exec exec_;
    WeightAverage* average_;

    // All that a recorded step reads and writes stays where it is.
    Signature signature_;
    std::optional<ReservedStorage> storage_;
    DeviceStep end_;
    Tensor luma_, ab_, labels_, dropout_step_;
    std::vector<Tensor> statistics_;  // what is not trained
    // On their way to the GPU; free again when `given_` is reached.
    cuda::PinnedMemory labels_here_, dropout_step_here_;
    cuda::Marker given_;
    cuda::Graph graph_;
    int64_t eager_steps_ = 0;
};

StepRunner::Gpu::Signature StepRunner::Gpu::signature(const Batch& batch,
                                                      const StepSettings& settings) const {
    Signature all;
    const auto add = [&](auto value) { all.push_back(std::bit_cast<uint64_t>(value)); };
    for (const Shape& shape : {batch.luma.shape(), batch.ab.shape()})
        for (int i = 0; i < shape.rank(); ++i) add(shape[i]);
    add(batch.first), add(settings.loss.alpha), add(settings.loss.chroma);
    net_.visit([&](const std::string&, Parameter& p) {
        add(p.value.raw());
        add(int64_t{p.trainable});
    });
    for (const Optimizer::Slot& slot : optimizer_.slots()) {
        add(slot.first.raw());
        if (slot.second.defined()) add(slot.second.raw());
    }
    return all;
}

// Memory for steps of this kind, unless the last was of the same.
void StepRunner::Gpu::begin(const Batch& batch, const StepSettings& settings) {
    Signature now = signature(batch, settings);
    if (now == signature_) return;
    signature_ = std::move(now);
    graph_.clear();
    eager_steps_ = 0;
    for (const Optimizer::Slot& slot : optimizer_.slots()) slot.parameter->grad = {};
    storage_.reset();
    storage_.emplace(exec_.device);
    luma_ = Tensor::empty(batch.luma.shape(), DType::f32, exec_.device);
    ab_ = Tensor::empty(batch.ab.shape(), DType::f32, exec_.device);
    labels_ = Tensor::empty({std::ssize(batch.labels)}, DType::f32, exec_.device);
    labels_here_ = cuda::PinnedMemory(labels_.bytes());
    statistics_.clear();
    net_.visit([&](const std::string&, Parameter& p) {
        if (!p.trainable) statistics_.push_back(p.value);
    });
}

// What a step reads goes to where it reads it.
void StepRunner::Gpu::give(const Batch& batch) {
    luma_.copy_from(batch.luma);
    ab_.copy_from(batch.ab);
    given_.wait();
    std::transform(batch.labels.begin(), batch.labels.end(), labels_here_.data<float>(),
                   [](int64_t label) { return static_cast<float>(label); });
    *dropout_step_here_.data<uint32_t>() = static_cast<uint32_t>(optimizer_.steps());
    cuda::copy_behind(exec_.device, labels_.raw(), labels_here_.data(), labels_.bytes());
    cuda::copy_behind(exec_.device, dropout_step_.raw(), dropout_step_here_.data(),
                      dropout_step_.bytes());
    given_.set();
}

void StepRunner::Gpu::differentiate(const StepSettings& settings, double class_factor) {
    // Old gradients would lie beside the activations of the forward pass.
    for (const Optimizer::Slot& slot : optimizer_.slots()) slot.parameter->grad = {};
    const DropoutStep dropout_step(net_, dropout_step_);
    Tape tape(Phase::train, exec_, settings.watch);
    const ForwardPass pass =
        run_forward(tape, net_, luma_, ab_, labels_, settings.loss, class_factor);
    end_.losses(pass.loss.color.value, pass.loss.classes ? pass.loss.classes->value : Tensor());
    if (pass.output.logits) end_.count_correct(pass.output.logits->value, labels_);
    if (settings.reducer)
        pass.loss.backward([&](Parameter& p) { settings.reducer->ready(p); });
    else
        pass.loss.backward();
}

// Gradients come back as means over the processes; so do the losses.
void StepRunner::Gpu::differentiate_with_peers(const StepSettings& settings, StepResult& result) {
    differentiate(settings, settings.peers->share_of(double(result.labelled)));
    if (settings.reducer) settings.reducer->finish();
    end_.publish();
    const StepOutcome& own = end_.wait();
    result.color_loss = own.color_loss, result.class_loss = own.class_loss;
    result.correct = own.correct;
    combine(*settings.peers, net_, result);
}

void StepRunner::Gpu::update() {
    end_.gradient_norm(optimizer_.slots());
    end_.update(optimizer_.spec(), optimizer_.slots());
    end_.check_finite(statistics_);
}

StepResult StepRunner::Gpu::step(const Batch& batch, const StepSettings& settings) {
    StepResult result;
    result.labelled = net_.spec.use_global ? count_labelled(batch.labels) : 0;
    begin(batch, settings);
    give(batch);
    net_.dropout_first_sample = batch.first;
    end_.begin(optimizer_.begin_step(settings.rate_factor, settings.clip_norm));
    const auto whole = [&] {
        const ReservedStorage::Scope scope(*storage_);
        if (settings.peers)
            differentiate_with_peers(settings, result);
        else
            differentiate(settings, 1);
        update();
    };
    const bool records = cuda::graphs_wanted() && !settings.peers && !settings.watch;
    if (!records || eager_steps_ < kEagerSteps) {
        whole();
        ++eager_steps_;
    } else {
        if (!graph_.captured()) graph_.capture(whole);
        graph_.replay();
    }
    if (average_) average_->update(exec_, optimizer_.steps());
    end_.publish();
    if (settings.meanwhile) settings.meanwhile();
    const StepOutcome outcome = end_.wait();
    result.gradient_norm = outcome.gradient_norm;
    if (!settings.peers) {
        result.color_loss = outcome.color_loss, result.class_loss = outcome.class_loss;
        result.correct = outcome.correct;
    }
    check(batch, settings, outcome);
    return result;
}

void StepRunner::Gpu::check(const Batch& batch, const StepSettings& settings,
                            const StepOutcome& outcome) {
    const int64_t step = optimizer_.steps();
    const bool finite_loss = std::isfinite(outcome.color_loss) && std::isfinite(outcome.class_loss);
    if (!finite_loss || !std::isfinite(outcome.gradient_norm)) {
        graph_.clear();
        const ReservedStorage::Scope scope(*storage_);  // there is no other memory of that size
        const std::string otherwise =
            finite_loss ? bad_gradient(optimizer_) : "the loss is not finite";
        const DropoutStep dropout_step(net_, dropout_step_);
        Batch kept = batch;
        kept.luma = luma_, kept.ab = ab_;  // of this step, whatever the loader does by now
        throw_non_finite(step, birthplace(net_, exec_, kept, settings, otherwise));
    }
    if (outcome.first_bad != StepOutcome::kNone)
        throw_bad_update(step, optimizer_.slots()[size_t(outcome.first_bad)].name);
    if (outcome.first_bad_tensor == StepOutcome::kNone) return;
    net_.visit([&](const std::string& name, Parameter& p) {
        if (!p.trainable && !all_finite(p.value)) throw_bad_update(step, name);
    });
}

StepRunner::StepRunner(ColorNet& net, Optimizer& optimizer, const Exec& exec,
                       WeightAverage* average)
    : net_(net), optimizer_(optimizer), exec_(exec), average_(average) {
    if (exec.device.kind == Device::cuda)
        gpu_ = std::make_unique<Gpu>(net, optimizer, exec, average);
}
StepRunner::~StepRunner() = default;

StepResult StepRunner::step(const Batch& batch, const StepSettings& settings) {
    if (gpu_) return gpu_->step(batch, settings);
    const StepResult result = train_step(net_, optimizer_, exec_, batch, settings);
    if (average_) average_->update(exec_, optimizer_.steps());
    return result;
}

bool StepRunner::replays() const {
    return gpu_ && gpu_->replays();
}

}  // namespace lumachrome
