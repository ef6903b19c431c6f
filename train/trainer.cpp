#include "train/trainer.hpp"

#include <chrono>
#include <cmath>
#include <filesystem>

#include "tensor/error.hpp"
#include "tensor/file.hpp"
#include "train/device_loader.hpp"
#include "train/step_runner.hpp"

namespace lumachrome {
namespace {

using Clock = std::chrono::steady_clock;

// Of a GPU's memory, one part in so many may hold photos: activations need the most.
constexpr int64_t kGpuCacheShare = 4;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string joined(const std::vector<std::string>& words) {
    std::string text;
    for (const std::string& word : words) text += (text.empty() ? "" : ",") + word;
    return text;
}

// What the run can do without: a refusal of the disk is told, not thrown; likewise a damaged log,
// of which no page can be made.
template <class Write>
void try_to(const TrainEvents& events, const Write& write) {
    try {
        write();
    } catch (const ResourceError& error) {
        if (events.warned) events.warned(error.what());
    } catch (const InputError& error) {
        if (events.warned) events.warned(error.what());
    }
}

}  // namespace

Trainer::Trainer(std::unique_ptr<ColorNet> net, std::shared_ptr<const Dataset> data,
                 const TrainOptions& options, const Exec& exec, const PeerGroup* peers)
    : net_(std::move(net)),
      data_(std::move(data)),
      options_(options),
      exec_(exec),
      peers_(peers && peers->count() > 1 ? peers : nullptr),
      optimizer_(options.optimizer) {
    options_.augment.ab_scale = net_->spec.ab_scale;
    net_->dropout_seed = options_.seed;
    net_->to(exec_.device);
    freeze();
    if (options_.ema_decay > 0) average_.emplace(options_.ema_decay);
    net_->visit([&](const std::string& name, Parameter& p) {
        optimizer_.add(name, p);
        if (average_) average_->add(name, p);
    });
    if (options_.sync_batch_norm && peers_ && exec_.device.kind == Device::cuda)
        throw UsageError("--sync-bn: processes on GPUs keep batch norm to their own shares");
    if (options_.sync_batch_norm) exec_.peers = peers_;
    if (options_.validation && first())
        validation_.emplace(*options_.validation, options_.validation_photos, options_.augment.size,
                            net_->spec);
    std::error_code error;
    const bool exists = std::filesystem::exists(state_path(options_.run), error);
    if (options_.resume) {
        if (!exists) throw UsageError(options_.run + ": holds no run to --resume");
        progress_ = load_train_state(options_.run, state(), identity());
    } else if (first()) {
        if (exists) throw UsageError(options_.run + ": holds a run already; --resume continues it");
        // A folder with a log alone belonged to a run that died before its first checkpoint.
        if (std::filesystem::exists(model_path(options_.run), error))
            throw UsageError(model_path(options_.run) + ": exists already; choose another folder");
        std::filesystem::create_directories(options_.run, error);
        if (error) throw ResourceError(options_.run + ": cannot create: " + error.message());
    }
    if (first()) {
        log_.emplace(options_.run, options_.resume ? progress_.step : -1, options_.tensorboard);
        // Of killed processes; nobody else writes here (RunLog's lock).
        remove_abandoned(options_.run);
        remove_abandoned(options_.run + "/samples");
    }
    compare_weights();  // also: nobody trains before rank 0 has its folder
}

TrainState Trainer::state() {
    return {*net_, optimizer_, average_ ? &*average_ : nullptr};
}

void Trainer::freeze() {
    for (const std::string& stage : options_.freeze) {
        bool found = false;
        net_->visit([&](const std::string& name, Parameter& p) {
            if (!name.starts_with(stage + ".")) return;
            p.trainable = false;
            found = true;
        });
        if (!found)
            throw UsageError("--freeze " + stage +
                             ": no such stage; there are low, mid, global, "
                             "fusion, color, output, classifier");
    }
}

// What must not change within a run, or it would not be the run that it was.
Metadata Trainer::identity() const {
    return {{"train_seed", std::to_string(options_.seed)},
            {"train_batch", std::to_string(options_.batch)},
            {"train_size", std::to_string(options_.augment.size)},
            {"train_min_scale", exact_text(options_.augment.min_scale)},
            {"train_luma_jitter", exact_text(options_.augment.luma_jitter)},
            {"train_alpha", exact_text(options_.loss.alpha)},
            {"train_chroma_weight", exact_text(options_.loss.chroma)},
            {"train_photos", std::to_string(data_->size())},
            {"train_sync_batch_norm", options_.sync_batch_norm ? "yes" : "no"},
            {"train_clip_norm", exact_text(options_.clip_norm)},
            {"train_ema_decay", exact_text(options_.ema_decay)},
            {"train_freeze", joined(options_.freeze)},
            {"train_optimizer", name(options_.optimizer.rule)},
            {"train_learning_rate", exact_text(options_.optimizer.learning_rate)},
            {"train_weight_decay", exact_text(options_.optimizer.weight_decay)},
            {"train_schedule", std::to_string(options_.schedule.kind)},
            {"train_warmup", std::to_string(options_.schedule.warmup_steps)},
            {"train_decay_steps", std::to_string(options_.schedule.step_length)},
            {"train_decay_factor", exact_text(options_.schedule.step_factor)}};
}

void Trainer::compare_weights() {
    if (!peers_) return;
    std::vector<Tensor> weights;
    net_->visit([&](const std::string&, Parameter& p) { weights.push_back(p.value); });
    peers_->check_equal(hash_of(weights), "the weights at step " + std::to_string(progress_.step));
}

Trainer::Decision Trainer::agree(Decision own) const {
    if (!peers_) return own;
    const double clock = first() ? 1 : 0;
    const std::vector<double> sums =
        peers_->sum_scalars({double(own.stop), clock * own.limit, clock * own.save,
                             clock * own.patience, clock * own.seconds});
    return {sums[0] > 0, sums[1] > 0, sums[2] > 0, sums[3] > 0, sums[4]};
}

// By rank 0 alone.
void Trainer::save() {
    if (!first()) return;
    Metadata extra = options_.metadata;
    extra["training_step"] = std::to_string(progress_.step);
    extra["training_size"] = std::to_string(options_.augment.size);
    // What the state speaks of is on the disk before it.
    log_->sync();
    if (best_owed_) write_tensor_file(best_path(options_.run), *best_owed_, true);
    best_owed_.reset();
    save_train_state(options_.run, state(), progress_, extra, identity(), options_.keep);
}

// The disk may take later what it refuses now; the weights will have changed by then.
void Trainer::save_best() {
    best_owed_.reset();
    Metadata extra = options_.metadata;
    extra["training_step"] = std::to_string(progress_.step);
    try {
        save_model(best_path(options_.run), state(), extra);
    } catch (const ResourceError&) {
        const Averaged averaged(average_ ? &*average_ : nullptr);
        best_owed_ = model_file(*net_, extra);
        for (auto& [name, tensor] : best_owed_->tensors) tensor = tensor.clone();
        throw;
    }
}

// Whether training has stopped improving.
bool Trainer::validate(int64_t epoch, bool final, const TrainEvents& events) {
    {
        const Averaged averaged(average_ ? &*average_ : nullptr);
        validated_ = validation_->run(*net_, exec_, options_.batch);
    }
    // The best is one of the regular validations: a run that goes on would not have met this one.
    const bool best = !final && validated_->color_loss < progress_.best_loss;
    if (best) {
        progress_.best_loss = validated_->color_loss;
        progress_.best_step = progress_.step;
        progress_.validations_since_best = 0;
    } else {
        ++progress_.validations_since_best;
    }
    try_to(events, [&] {
        if (best) save_best();
    });
    try_to(events, [&] { log_->validation(progress_, epoch, *validated_, final); });
    if (events.validated) events.validated(progress_.step, *validated_, best);
    return options_.patience > 0 && progress_.validations_since_best >= options_.patience;
}

TrainEnd Trainer::run(const std::atomic<bool>& stop, const TrainEvents& events) {
    const Share share = peers_ ? Share{peers_->rank(), peers_->count()} : Share{};
    const bool gpu = exec_.device.kind == Device::cuda;
    Loader loader(data_, options_.augment, options_.batch, options_.seed, options_.workers, 4,
                  options_.cache_bytes, share,
                  gpu ? Loader::Output::draws : Loader::Output::samples);
    loader.seek(progress_.step);
    std::optional<DeviceLoader> device_loader;
    if (gpu)
        device_loader.emplace(loader, options_.augment, exec_.device,
                              options_.gpu_cache_bytes.value_or(
                                  cuda::properties(exec_.device.index).bytes / kGpuCacheShare));
    StepRunner runner(*net_, optimizer_, exec_, average_ ? &*average_ : nullptr);
    std::optional<GradientReducer> reducer;
    if (peers_) {
        std::vector<Parameter*> trained;
        for (const Optimizer::Slot& slot : optimizer_.slots()) trained.push_back(slot.parameter);
        reducer.emplace(*peers_, trained);
    }
    StepSettings settings{.loss = options_.loss,
                          .rate_factor = 1,
                          .clip_norm = options_.clip_norm,
                          .watch = options_.watch,
                          .peers = peers_,
                          .reducer = reducer ? &*reducer : nullptr,
                          .meanwhile = {}};
    if (device_loader) settings.meanwhile = [&] { device_loader->prepare(); };
    const Clock::time_point start = Clock::now();
    const double seconds_before = progress_.seconds;
    Schedule schedule = options_.schedule;
    if (schedule.total_seconds > 0) schedule.total_seconds += seconds_before;
    Clock::time_point last_save = start, window_start = start;
    int64_t window_images = 0;  // of this process's run
    const auto own_decision = [&](bool out_of_patience) {
        Decision own{};
        own.stop = stop;
        own.limit = (options_.max_steps > 0 && progress_.step >= options_.max_steps) ||
                    (options_.max_seconds > 0 && seconds_since(start) >= options_.max_seconds);
        own.save =
            seconds_since(last_save) >= options_.checkpoint_seconds ||
            (options_.checkpoint_steps > 0 && progress_.step % options_.checkpoint_steps == 0);
        own.patience = out_of_patience;
        own.seconds = seconds_before + seconds_since(start);
        return own;
    };
    bool saved = false;
    if (progress_.step > 0) last_.epoch = (progress_.step - 1) * options_.batch / data_->size();
    // A run that ended before its first step has validated.
    if (options_.validate_first && !options_.resume) validate_alone(0, false, events);
    Decision decision = agree(own_decision(false));
    while (!decision.stop && !decision.limit && !decision.patience) {
        const Batch batch = device_loader ? device_loader->next() : loader.next();
        settings.rate_factor = schedule.factor(progress_.step, progress_.seconds);
        const StepResult result = runner.step(batch, settings);
        ++progress_.step;
        saved = false;
        window_images += options_.batch;
        count(result, batch.epoch, settings.rate_factor);
        last_.images_per_second = double(window_images) / seconds_since(window_start);
        last_.seconds_left = options_.max_seconds > 0 ? options_.max_seconds - seconds_since(start)
                             : options_.max_steps > 0
                                 ? double(options_.max_steps - progress_.step) *
                                       double(options_.batch) / last_.images_per_second
                                 : 0;
        last_.skipped_corrupt =
            device_loader ? device_loader->skipped_corrupt() : loader.skipped_corrupt();
        last_.skipped_gray = device_loader ? device_loader->skipped_gray() : loader.skipped_gray();
        last_.seconds = seconds_before + seconds_since(start);
        if (events.progress) events.progress(last_);
        const bool log_due = progress_.step % options_.log_steps == 0;
        if (log_due && log_) try_to(events, [&] { log_->training(last_); });
        if (log_due) progress_.window = {};
        bool out_of_patience = false;
        const bool validation_due = progress_.step % options_.validation_steps == 0;
        if (validation_due) out_of_patience = validate_alone(batch.epoch, false, events);
        if (log_due || validation_due) {
            window_start = Clock::now();
            window_images = 0;
        }
        decision = agree(own_decision(out_of_patience));
        progress_.seconds = decision.seconds;
        if (decision.save || progress_.step % options_.compare_steps == 0) compare_weights();
        if (decision.save) {
            try_to(events, [&] {
                save();
                saved = true;
            });
            last_save = Clock::now();
        }
    }
    const TrainEnd end = decision.patience ? TrainEnd::patience
                         : decision.limit  ? TrainEnd::limit
                                           : TrainEnd::stopped;
    compare_weights();  // of all ranks: only rank 0 knows whether it has saved
    if (!saved) save();
    // After the state: a run that goes on from here has not seen this validation.
    if (end == TrainEnd::limit && progress_.step % options_.validation_steps != 0)
        validate_alone(last_.epoch, true, events);
    else if (log_)
        try_to(events, [&] { log_->report(); });
    if (log_) try_to(events, [&] { log_->sync(); });
    return end;
}

// By rank 0, while the others wait for as long as it takes.
bool Trainer::validate_alone(int64_t epoch, bool final, const TrainEvents& events) {
    const bool end = validation_ && validate(epoch, final, events);
    if (peers_ && options_.validation) peers_->wait_for_all();
    return end;
}

// Adds a step to the sums since the last line of the log.
void Trainer::count(const StepResult& result, int64_t epoch, double rate_factor) {
    TrainProgress::Window& window = progress_.window;
    window.color_loss += result.color_loss;
    window.class_loss += result.class_loss;
    window.gradient_norm += result.gradient_norm;
    window.labelled += result.labelled;
    window.correct += result.correct;
    ++window.steps;
    const auto steps = double(window.steps);
    last_.step = progress_.step;
    last_.epoch = epoch;
    last_.total_steps = options_.max_steps;
    last_.color_loss = window.color_loss / steps;
    last_.class_loss = window.class_loss / steps;
    last_.gradient_norm = window.gradient_norm / steps;
    last_.top1 = window.labelled > 0 ? double(window.correct) / double(window.labelled) : 0;
    last_.learning_rate = options_.optimizer.learning_rate * rate_factor;
}

}  // namespace lumachrome
