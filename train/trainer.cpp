#include "train/trainer.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "image/resize.hpp"
#include "tensor/error.hpp"
#include "tensor/file.hpp"
#include "tensor/json.hpp"

namespace lumachrome {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

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
        using T = decltype(t);
        for (int64_t i = 0; i < out.numel(); ++i) out.data<T>()[i] -= static_cast<T>(mean);
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

}  // namespace

std::string metrics_path(const std::string& run) {
    return run + "/metrics.jsonl";
}

StepResult train_step(ColorNet& net, Optimizer& optimizer, const Exec& exec, const Tensor& luma,
                      const Tensor& target, const Labels& labels, double alpha,
                      double rate_factor) {
    const DType dtype = net.output.weight.value.dtype();
    Tape tape(Phase::train, exec);
    net.dropout_step = static_cast<uint32_t>(optimizer.steps());
    const Var x = tape.input(minus(luma, net.spec.luma_mean, dtype));
    Var copy = x;
    if (net.spec.use_global && luma.shape()[1] != net.spec.global_size)
        copy = tape.input(minus(resized(luma, net.spec.global_size), net.spec.luma_mean, dtype));
    const ColorNet::Output output = net(x, copy);
    const JointLoss loss(output, target.to(dtype), labels, alpha);
    StepResult result{loss.color.value.item(), loss.classes ? loss.classes->value.item() : 0, 0, 0};
    if (output.logits) {
        result.labelled =
            std::count_if(labels.begin(), labels.end(), [](int64_t l) { return l >= 0; });
        result.correct = count_correct(output.logits->value, labels);
    }
    const std::string where = "step " + std::to_string(optimizer.steps() + 1) + ": ";
    if (!std::isfinite(loss.total()))
        throw Error(where + "the loss is not finite; try a smaller --learning-rate");
    loss.backward();
    for (const Optimizer::Slot& slot : optimizer.slots())
        if (slot.parameter->grad.defined() && !all_finite(slot.parameter->grad))
            throw Error(where + "the gradient of " + slot.name + " is not finite");
    optimizer.step(exec, rate_factor);
    return result;
}

Trainer::Trainer(std::unique_ptr<ColorNet> net, std::shared_ptr<const Dataset> data,
                 const TrainOptions& options, const Exec& exec)
    : net_(std::move(net)),
      data_(std::move(data)),
      options_(options),
      exec_(exec),
      optimizer_(options.optimizer) {
    options_.augment.ab_scale = net_->spec.ab_scale;
    net_->dropout_seed = options_.seed;
    net_->visit([&](const std::string& name, Parameter& p) { optimizer_.add(name, p); });
    std::error_code error;
    const bool exists = std::filesystem::exists(state_path(options_.run), error);
    if (options_.resume) {
        if (!exists) throw UsageError(options_.run + ": holds no run to --resume");
        progress_ = load_train_state(options_.run, *net_, optimizer_, identity());
        keep_log_until(progress_.step);
        return;
    }
    if (exists) throw UsageError(options_.run + ": holds a run already; --resume continues it");
    for (const std::string& path : {model_path(options_.run), metrics_path(options_.run)})
        if (std::filesystem::exists(path, error))
            throw UsageError(path + ": exists already; choose another folder");
    std::filesystem::create_directories(options_.run, error);
    if (error) throw ResourceError(options_.run + ": cannot create: " + error.message());
}

// What must not change within a run, or its batches would be others than before.
Metadata Trainer::identity() const {
    return {{"train_seed", std::to_string(options_.seed)},
            {"train_batch", std::to_string(options_.batch)},
            {"train_size", std::to_string(options_.augment.size)},
            {"train_min_scale", std::to_string(options_.augment.min_scale)},
            {"train_alpha", std::to_string(options_.alpha)},
            {"train_optimizer", name(options_.optimizer.rule)},
            {"train_learning_rate", std::to_string(options_.optimizer.learning_rate)},
            {"train_schedule", std::to_string(options_.schedule.kind)},
            {"train_warmup", std::to_string(options_.schedule.warmup_steps)}};
}

void Trainer::save() {
    Metadata extra = options_.metadata;
    extra["training_step"] = std::to_string(progress_.step);
    extra["training_size"] = std::to_string(options_.augment.size);
    save_train_state(options_.run, *net_, optimizer_, progress_, extra, identity());
}

void Trainer::log(const TrainReport& r) {
    Json line;
    line.set("step", r.step);
    line.set("epoch", r.epoch);
    line.set("color_loss", r.color_loss);
    line.set("class_loss", r.class_loss);
    line.set("top1", r.top1);
    line.set("learning_rate", r.learning_rate);
    line.set("images_per_second", r.images_per_second);
    line.set("seconds", r.seconds);
    std::ofstream out(metrics_path(options_.run), std::ios::app);
    out << line.dump() << '\n' << std::flush;
    if (!out) throw ResourceError(metrics_path(options_.run) + ": cannot write");
}

// What was logged after the checkpoint happens again.
void Trainer::keep_log_until(int64_t step) {
    std::ifstream in(metrics_path(options_.run));
    std::string kept, line;
    while (std::getline(in, line)) {
        try {
            if (Json::parse(line).at("step").integer() > step) break;
        } catch (const InputError&) {
            break;  // half a line, cut off by a crash
        }
        kept += line + '\n';
    }
    write_file_atomic(metrics_path(options_.run),
                      {reinterpret_cast<const uint8_t*>(kept.data()), kept.size()}, true);
}

bool Trainer::run(const std::atomic<bool>& stop,
                  const std::function<void(const TrainReport&)>& report) {
    Loader loader(data_, options_.augment, options_.batch, options_.seed, options_.workers);
    loader.seek(progress_.step);
    const Clock::time_point start = Clock::now();
    const double seconds_before = progress_.seconds;
    Schedule schedule = options_.schedule;
    if (schedule.total_seconds > 0) schedule.total_seconds += seconds_before;
    Clock::time_point last_save = start, last_log = start;
    TrainReport sum;
    int64_t labelled = 0, correct = 0, steps = 0;
    const auto limit_reached = [&] {
        return (options_.max_steps > 0 && progress_.step >= options_.max_steps) ||
               (options_.max_seconds > 0 && seconds_since(start) >= options_.max_seconds);
    };
    bool saved = false;
    while (!stop && !limit_reached()) {
        const Batch batch = loader.next();
        const double factor = schedule.factor(progress_.step, progress_.seconds);
        const StepResult result = train_step(*net_, optimizer_, exec_, batch.luma, batch.ab,
                                             batch.labels, options_.alpha, factor);
        ++progress_.step;
        ++steps;
        progress_.seconds = seconds_before + seconds_since(start);
        sum.color_loss += result.color_loss;
        sum.class_loss += result.class_loss;
        labelled += result.labelled;
        correct += result.correct;
        saved = false;
        const bool whole = progress_.step % options_.log_steps == 0;
        if (whole || stop || limit_reached()) {
            last_ = sum;
            last_.step = progress_.step;
            last_.epoch = batch.epoch;
            last_.total_steps = options_.max_steps;
            last_.color_loss /= double(steps);
            last_.class_loss /= double(steps);
            last_.top1 = labelled > 0 ? double(correct) / double(labelled) : 0;
            last_.images_per_second = double(steps * options_.batch) / seconds_since(last_log);
            last_.learning_rate = options_.optimizer.learning_rate * factor;
            last_.seconds = progress_.seconds;
            const double per_step = seconds_since(last_log) / double(steps);
            last_.seconds_left =
                options_.max_seconds > 0 ? options_.max_seconds - seconds_since(start)
                : options_.max_steps > 0 ? double(options_.max_steps - progress_.step) * per_step
                                         : 0;
            last_.skipped_corrupt = loader.skipped_corrupt();
            last_.skipped_gray = loader.skipped_gray();
            if (whole || limit_reached()) log(last_);
            report(last_);
            sum = {};
            labelled = correct = steps = 0;
            last_log = Clock::now();
        }
        if (seconds_since(last_save) >= options_.checkpoint_seconds ||
            (options_.checkpoint_steps > 0 && progress_.step % options_.checkpoint_steps == 0)) {
            save();
            saved = true;
            last_save = Clock::now();
        }
    }
    const bool finished = limit_reached();
    if (!saved) save();
    return finished;
}

}  // namespace lumachrome
