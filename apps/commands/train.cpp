#include <signal.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "apps/commands/commands.hpp"
#include "apps/exit_code.hpp"
#include "tensor/error.hpp"
#include "tensor/file.hpp"
#include "train/distributed/launch.hpp"
#include "train/report/report.hpp"
#include "train/trainer.hpp"

namespace lumachrome {
namespace {

struct TrainCommandOptions : RunOptions {
    std::vector<std::string> data, validation;
    std::string out, init;
    std::vector<std::string> freeze;
    bool resume = false;
    std::optional<int64_t> overfit;
    NetworkOptions network;
    std::optional<double> epochs;
    std::optional<int64_t> steps;
    std::optional<double> minutes;
    int64_t batch = 16;
    std::optional<int64_t> size;  // none: what the global branch sees
    double min_scale = 0.6, luma_jitter = 0;
    int64_t cache_mib = 2048;
    std::string optimizer = "adadelta";
    std::optional<double> learning_rate, weight_decay;
    std::string schedule = "constant";
    int64_t warmup = 0, decay_steps = 10'000;
    double decay_factor = 0.1, clip_norm = 0, ema = 0;
    std::optional<double> alpha;
    std::string precision = "f32";
    uint64_t seed = 1;
    int workers = 1, processes = 1;
    bool sync_batch_norm = false, tensorboard = false;
    double checkpoint_minutes = 5;
    int64_t checkpoint_steps = 0, keep = 1, validation_steps = 250, patience = 0;
    std::vector<std::string> metadata;  // KEY=VALUE
    std::string resolved;               // all of the above as a config file
};

constexpr double kPaperEpochs = 11;  // section 4: 200,000 batches of 128 out of 2.3 million photos
constexpr int64_t kHeldOutShare = 10;  // at most one photo in so many goes to validation
constexpr int64_t kOverfitSteps = 300;
constexpr double kOverfitShare = 0.2;  // of the gray loss; below: learned by heart
constexpr const char* kClassifierWeight = "classifier.2.linear.weight";
constexpr const char* kClassifierBias = "classifier.2.linear.bias";

std::atomic<bool> stop_requested = false;

// The first signal ends training after the step in work; the second ends the process.
void stop_on_signals() {
    struct sigaction action {};
    action.sa_handler = [](int) { stop_requested = true; };
    action.sa_flags = static_cast<int>(SA_RESETHAND);
    for (int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR1}) sigaction(signal, &action, nullptr);
}

Spec fresh_spec(const NetworkOptions& options) {
    Spec spec = preset(options.preset.value_or("compact"));
    if (options.activation)
        spec.activation = *options.activation == "relu" ? Activation::relu : Activation::sigmoid;
    spec.fusion_kernel = options.fusion_kernel.value_or(spec.fusion_kernel);
    spec.use_global = !options.no_global;
    return spec;
}

Spec spec_of_file(const TensorFile& file, const std::string& path) {
    try {
        return from_metadata(file.metadata);
    } catch (const ModelError& error) {
        throw ModelError(path + ": " + error.what());
    }
}

// A checkpoint fixes its network; options may repeat that, as a saved --config does.
void check_agreement(const NetworkOptions& options, const Spec& spec, const std::string& path) {
    const auto check = [&](bool agrees, const char* option) {
        if (!agrees) throw UsageError(std::string(option) + ": contradicts the network in " + path);
    };
    check(!options.preset || *options.preset == spec.preset, "--preset");
    check(!options.activation || *options.activation == name(spec.activation), "--activation");
    check(!options.fusion_kernel || *options.fusion_kernel == spec.fusion_kernel,
          "--fusion-kernel");
    check(!options.no_global || !spec.use_global, "--no-global");
}

// The weights of `file`; a class head made for other scenes stays as it was initialised.
void load_initial(ColorNet& net, TensorFile file, bool keep_classifier, const std::string& path) {
    if (!keep_classifier)
        net.visit([&](const std::string& name, Parameter& p) {
            if (name == kClassifierWeight || name == kClassifierBias) file.tensors[name] = p.value;
        });
    load_state(net, file, path);
}

Metadata parse_metadata(const std::vector<std::string>& pairs, const Spec& spec) {
    Metadata metadata;
    const Metadata reserved = to_metadata(spec);
    for (const std::string& pair : pairs) {
        const size_t equals = pair.find('=');
        if (equals == pair.npos || equals == 0)
            throw UsageError("--metadata " + pair + ": must be KEY=VALUE");
        const std::string key = pair.substr(0, equals);
        if (reserved.count(key))
            throw UsageError("--metadata " + key + ": describes the network itself");
        metadata[key] = pair.substr(equals + 1);
    }
    return metadata;
}

std::string joined(const std::vector<std::string>& words) {
    std::string text;
    for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
    return text;
}

std::string progress_text(const TrainReport& r) {
    std::string text = format("step %ld", long{r.step});
    if (r.total_steps > 0) text += format("/%ld", long{r.total_steps});
    text += format("  epoch %ld  %.1f images/s  color %.5f  class %.3f  top1 %.3f", long{r.epoch},
                   r.images_per_second, r.color_loss, r.class_loss, r.top1);
    if (r.seconds_left > 0) text += "  " + duration(r.seconds_left) + " left";
    return text;
}

std::string validation_text(int64_t step, const ValidationResult& v, bool best) {
    std::string text =
        format("step %ld  validation: color %.5f  rmse_ab %.2f (gray %.2f)  colorfulness %.0f %%",
               long{step}, v.color_loss, v.rmse_ab, v.gray_rmse_ab,
               100 * v.colorfulness / v.colorfulness_truth);
    if (!std::isnan(v.top1)) text += format("  top1 %.3f", v.top1);
    return text + (best ? "  best so far" : "");
}

double share_done(const TrainReport& r, const TrainOptions& options, double seconds_before) {
    double share = -1;
    if (options.max_steps > 0) share = double(r.step) / double(options.max_steps);
    if (options.max_seconds > 0)
        share = std::max(share, (r.seconds - seconds_before) / options.max_seconds);
    return share;
}

// What is trained: the network's description, the weights to begin with, the photos.
struct Beginning {
    Spec spec;
    TensorFile initial;            // of --init; else empty
    bool keep_classifier = false;  // of --init: it knows the same scenes
    std::shared_ptr<const Dataset> data;
};

Beginning begin(const TrainCommandOptions& options, Console& console) {
    Beginning begin;
    Spec& spec = begin.spec;
    if (options.resume) {
        const std::string path = state_path(options.out);
        spec = spec_of_file(read_tensor_file(path), path);
        check_agreement(options.network, spec, path);
        begin.data = open_dataset(options.data, options.seed, spec.class_names);
    } else {
        begin.data = open_dataset(options.data, options.seed);
        if (options.init.empty()) {
            spec = fresh_spec(options.network);
        } else {
            begin.initial = read_tensor_file(options.init);
            spec = spec_of_file(begin.initial, options.init);
            check_agreement(options.network, spec, options.init);
        }
        const std::vector<std::string>& classes = begin.data->classes();
        begin.keep_classifier =
            !options.init.empty() && (classes.empty() || classes == spec.class_names);
        if (!begin.keep_classifier) {
            spec.class_names = classes;
            spec.classes = std::max<int64_t>(1, static_cast<int64_t>(classes.size()));
        }
        if (classes.empty() && spec.use_global)
            console.note("no scene labels in the data: the class head learns nothing");
    }
    if (options.network.dropout) spec.dropout = *options.network.dropout;
    return begin;
}

// Splits the data where no validation photos are named: the val.tar beside training shards, else a
// few of the photos themselves.
void choose_validation(const TrainCommandOptions& options, const Spec& spec,
                       std::shared_ptr<const Dataset>& data, TrainOptions& train,
                       Console& console) {
    std::vector<std::string> sources = options.validation;
    const std::filesystem::path beside = std::filesystem::path(options.data.front()) / "val.tar";
    std::error_code error;
    if (sources.empty() && options.data.size() == 1 && std::filesystem::exists(beside, error))
        sources = {beside.string()};
    if (!sources.empty()) {
        train.validation = open_dataset(sources, options.seed + 1, spec.class_names);
        return;
    }
    const int64_t held_out = std::min(train.validation_photos, data->size() / kHeldOutShare);
    if (held_out == 0) return;
    const Split split = hold_out(data, held_out);
    train.validation = split.validation;
    data = split.training;
    console.note(format("holding out %ld photos for validation", long{held_out}));
}

TrainOptions train_options(const TrainCommandOptions& options, const Spec& spec) {
    TrainOptions train;
    train.run = options.out;
    train.resume = options.resume;
    train.augment.size = options.size.value_or(spec.global_size);
    train.augment.min_scale = options.min_scale;
    train.augment.luma_jitter = options.luma_jitter;
    if (train.augment.size % kStride != 0)
        throw UsageError(format("--size %ld: must be a multiple of 8", long{train.augment.size}));
    train.batch = options.batch;
    train.seed = options.seed;
    train.optimizer = optimizer_spec(options.optimizer);
    if (options.learning_rate) train.optimizer.learning_rate = *options.learning_rate;
    if (options.weight_decay) train.optimizer.weight_decay = *options.weight_decay;
    train.alpha = options.alpha.value_or(kAlpha);
    train.clip_norm = options.clip_norm;
    train.ema_decay = options.ema;
    train.freeze = options.freeze;
    train.schedule.kind = options.schedule == "cosine"  ? Schedule::cosine
                          : options.schedule == "steps" ? Schedule::steps
                                                        : Schedule::constant;
    train.schedule.warmup_steps = options.warmup;
    train.schedule.step_length = options.decay_steps;
    train.schedule.step_factor = options.decay_factor;
    train.checkpoint_seconds = options.checkpoint_minutes * 60;
    train.checkpoint_steps = options.checkpoint_steps;
    train.keep = options.keep;
    train.validation_steps = options.validation_steps;
    train.tensorboard = options.tensorboard;
    train.patience = options.patience;
    train.sync_batch_norm = options.sync_batch_norm;
    train.workers = options.workers;
    train.cache_bytes = options.cache_mib << 20;
    train.metadata = parse_metadata(options.metadata, spec);
    train.metadata.try_emplace("trained_on", joined(options.data));
    return train;
}

void set_limits(const TrainCommandOptions& options, int64_t photos, TrainOptions& train) {
    if (options.steps) train.max_steps = *options.steps;
    if (options.minutes) train.max_seconds = *options.minutes * 60;
    if (options.epochs || (!options.steps && !options.minutes)) {
        const double samples = options.epochs.value_or(kPaperEpochs) * double(photos);
        const int64_t steps = std::llround(
            std::clamp(std::ceil(samples / double(train.batch)), 1.0, double(kMostSteps)));
        train.max_steps = train.max_steps > 0 ? std::min(train.max_steps, steps) : steps;
    }
    train.schedule.total_steps = train.max_steps;
    train.schedule.total_seconds = train.max_seconds;
}

// A network that cannot learn a handful of photos by heart has a bug, or a hopeless learning rate.
// Returns what guessing costs: the loss of a gray photo.
double prepare_overfit(int64_t count, const TrainCommandOptions& options, Beginning& begin,
                       TrainOptions& train, Console& console) {
    count = std::min(count, begin.data->size());
    std::vector<int64_t> spread;
    for (int64_t i = 0; i < count; ++i) spread.push_back(i * begin.data->size() / count);
    begin.data = subset(begin.data, spread);
    begin.spec.dropout = 0;
    train.batch = std::max<int64_t>(2, count);
    train.augment.centre = true;
    train.max_seconds = options.minutes.value_or(0) * 60;
    train.max_steps = options.steps.value_or(kOverfitSteps);
    const Batch batch = Loader(begin.data, train.augment, train.batch, train.seed, 1).next();
    double gray = 0;
    for (int64_t i = 0; i < batch.ab.numel(); ++i)
        gray += (batch.ab.data<float>()[i] - 0.5) * (batch.ab.data<float>()[i] - 0.5);
    gray /= double(batch.ab.numel());
    const std::string chance =
        begin.spec.use_global && begin.spec.classes > 1
            ? format(", class loss %.3f = ln %ld", std::log(double(begin.spec.classes)),
                     long{begin.spec.classes})
            : "";
    console.note(format("overfitting %ld photos; guessing costs: color loss %.5f (gray)",
                        long{count}, gray) +
                 chance);
    return gray;
}

Json summary_of(const Trainer& trainer, bool finished, const std::string& run) {
    const TrainReport& last = trainer.last_report();
    Json summary;
    summary.set("step", trainer.progress().step);
    summary.set("epoch", last.epoch);
    summary.set("images_per_second", last.images_per_second);
    summary.set("color_loss", last.color_loss);
    summary.set("class_loss", last.class_loss);
    summary.set("top1", last.top1);
    summary.set("checkpoint", model_path(run));
    summary.set("seconds", trainer.progress().seconds);
    summary.set("skipped_corrupt", last.skipped_corrupt);
    summary.set("skipped_gray", last.skipped_gray);
    summary.set("finished", finished);
    if (const auto& v = trainer.last_validation())
        summary.set("validation", Json::Object{{"images", v->images},
                                               {"color_loss", v->color_loss},
                                               {"rmse_ab", v->rmse_ab},
                                               {"gray_rmse_ab", v->gray_rmse_ab},
                                               {"colorfulness", v->colorfulness},
                                               {"colorfulness_truth", v->colorfulness_truth},
                                               {"top1", v->top1}});
    if (trainer.progress().best_step > 0) summary.set("best_step", trainer.progress().best_step);
    return summary;
}

// The words this process was started with.
std::vector<std::string> own_arguments() {
    std::vector<std::string> words;
    std::ifstream in("/proc/self/cmdline", std::ios::binary);
    for (std::string word; std::getline(in, word, '\0');) words.push_back(word);
    if (!words.empty()) words.erase(words.begin());
    return words;
}

int run_processes(int count, Console& console) {
    std::error_code error;
    const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
    if (error) throw ResourceError("--processes: cannot find this program: " + error.message());
    const Launched launched = launch_processes(count, program.string(), own_arguments());
    if (!launched.note.empty()) console.error(launched.note);
    return launched.code;
}

int run_train(const TrainCommandOptions& options, Console& console) {
    if (options.processes > 1 && started_processes() == 1)
        return run_processes(options.processes, console);
    stop_on_signals();  // before MPI, and before work that is worth saving
    const PeerGroup peers;
    if (peers.rank() != 0) console.options = {.quiet = true};  // one of them speaks for all
    if (options.precision == "bf16")
        throw ResourceError("--precision bf16: needs a CUDA device; the CPU trains in f32");
    const Exec exec = exec_for(options, console);
    Beginning begin = lumachrome::begin(options, console);
    TrainOptions train = train_options(options, begin.spec);
    double guessing = 0;
    if (options.overfit) {
        guessing = prepare_overfit(*options.overfit, options, begin, train, console);
    } else {
        choose_validation(options, begin.spec, begin.data, train, console);
        set_limits(options, begin.data->size(), train);
    }
    const int64_t share = train.sync_batch_norm ? train.batch : train.batch / peers.count();
    if (share < 2 && begin.spec.batch_norm)
        throw UsageError(
            format("--batch %ld: batch norm needs at least 2 photos a step", long{train.batch}) +
            (peers.count() > 1 ? " and process; or --sync-bn" : ""));

    auto net = std::make_unique<ColorNet>(
        begin.spec, options.resume ? std::nullopt : std::optional<uint64_t>(options.seed));
    if (!begin.initial.tensors.empty())
        load_initial(*net, std::move(begin.initial), begin.keep_classifier, options.init);
    Trainer trainer(std::move(net), begin.data, train, exec, &peers);
    const std::string config = options.out + "/train.ini";
    if (!options.resume && peers.rank() == 0)
        write_file_atomic(
            config,
            {reinterpret_cast<const uint8_t*>(options.resolved.data()), options.resolved.size()},
            true);

    const double seconds_before = trainer.progress().seconds;
    if (peers.count() > 1)
        console.note(format("%d processes, each %ld photos of a batch on %d threads", peers.count(),
                            long{train.batch / peers.count()}, exec.threads));
    console.note(format("%s %s on %ld photos of %zu scenes, %ldx%ld pixels, batches of %ld, %s",
                        options.resume ? "resuming" : "training", begin.spec.preset.c_str(),
                        long{begin.data->size()}, begin.data->classes().size(),
                        long{train.augment.size}, long{train.augment.size}, long{train.batch},
                        options.optimizer.c_str()));
    TrainEvents events;
    events.progress = [&](const TrainReport& report) {
        console.progress(share_done(report, train, seconds_before), progress_text(report));
    };
    events.validated = [&](int64_t step, const ValidationResult& result, bool best) {
        console.note(validation_text(step, result, best));
    };
    events.warned = [&](const std::string& text) { console.error(text); };
    const TrainEnd end = trainer.run(stop_requested, events);

    const TrainReport& last = trainer.last_report();
    console.result(summary_of(trainer, end != TrainEnd::stopped, options.out));
    if (last.step > 0) console.note(progress_text(last));
    if (end == TrainEnd::stopped) {
        console.note("stopped; to go on: lumachrome train --resume --config " + config);
        return kStoppedEarly;
    }
    if (end == TrainEnd::patience)
        console.note(format("validation has not improved since step %ld; %s holds that model",
                            long{trainer.progress().best_step}, best_path(options.out).c_str()));
    console.note("saved " + model_path(options.out) + "; the curves are in " +
                 report_path(options.out));
    if (!options.overfit) return kOk;
    const bool learned = last.color_loss < kOverfitShare * guessing;
    console.note(format("color loss %.5f, %.1f %% of guessing: %s", last.color_loss,
                        100 * last.color_loss / guessing,
                        learned ? "the network learns"
                                : "the network does not learn; try another --learning-rate"));
    return learned ? kOk : kCheckFailed;
}

}  // namespace

Command train_command() {
    Command command({
        .name = "train",
        .summary = "train or fine-tune a network",
        .description = "Trains a network. Ctrl-C saves and ends; --resume goes on bit for bit.",
        .examples =
            "  lumachrome train photos/ --out run                        a folder per scene\n"
            "  lumachrome train scenes:2000 --out run --preset tiny      nothing to download\n"
            "  lumachrome train --resume --config run/train.ini          goes on with its options\n"
            "  lumachrome train mine/ --init old.safetensors --out new   fine-tunes",
    });
    TrainCommandOptions& options = command.runs(run_train);
    add_run_options(command, options);

    command.section("Data");
    command
        .add("--data,DATA", options.data,
             "Folders of scenes, folders of tar shards, .tar, .txt lists, scenes:N")
        .required();
    command.add("--size", options.size, "Side of the training squares; else the global branch's")
        .within(8, 4096);
    command.add("--min-scale", options.min_scale, "Smallest crop, as a share of the shorter side")
        .within(0.01, 1);
    command.add("--luma-jitter", options.luma_jitter, "Contrast and brightness vary by this share")
        .within(0, 0.9);
    command.add("--validation", options.validation,
                "Photos to validate on; else val.tar beside shards, or a few held out");
    command.add("--seed", options.seed, "Of weights, order, crops and dropout");
    command.add("--workers", options.workers, "Threads that prepare photos").within(1, 256);
    command.add("--cache-mib", options.cache_mib, "Memory for decoded photos").within(0, 1 << 20);

    command.section("Network");
    command.add("--init", options.init, "Start from these weights; of no effect with --resume");
    command.add(
        "--freeze", options.freeze,
        "Stage that keeps its weights: low, mid, global, fusion, color, output, classifier");
    add_network_options(command, options.network);
    command.add("--dropout", options.network.dropout, "Rate after the first two global features")
        .within(0, 0.95);

    command.section("Optimisation");
    command.add("--batch", options.batch, "Photos a step").within(1, 65536);
    command.add("--optimizer", options.optimizer, "How gradients change weights")
        .one_of({"adadelta", "adam", "adamw", "sgd"});
    command.add("--learning-rate", options.learning_rate, "Else the optimizer's own default")
        .positive();
    command.add("--schedule", options.schedule, "Of the learning rate")
        .one_of({"constant", "cosine", "steps"});
    command.add("--warmup", options.warmup, "Steps of linear warm-up").at_least(0);
    command.add("--decay-steps", options.decay_steps, "Of --schedule steps: length of a stair")
        .at_least(1);
    command.add("--decay-factor", options.decay_factor, "Of --schedule steps: factor a stair")
        .within(0, 1);
    command.add("--weight-decay", options.weight_decay, "Decoupled; else 0, or 0.01 of adamw")
        .within(0, 1);
    command.add("--clip-norm", options.clip_norm, "Longest gradient, L2 norm; 0: any").at_least(0);
    command
        .add("--ema", options.ema,
             "Decay of a weight average that is used instead of the last weights, e.g. 0.999")
        .within(0, 0.999999);
    command.add("--alpha", options.alpha, "Weight of the scene loss; else 1/300").at_least(0);
    command.add("--precision", options.precision, "bf16 needs a CUDA device")
        .one_of({"f32", "bf16"});

    command.section("Limits");
    command.add("--epochs", options.epochs, "Passes over the data; 11 when no limit is given")
        .positive();
    command.add("--steps", options.steps, "Steps in all, resumed ones included").at_least(1);
    command.add("--minutes", options.minutes, "Time of this process").positive();
    command
        .add("--patience", options.patience,
             "End after so many validations without a better one; 0: never")
        .at_least(0);
    command
        .add("--overfit", options.overfit,
             "Check: learn N photos by heart, without cropping; exits with 6 if that fails")
        .within(1, 1024);

    command.section("Processes");
    command
        .add("--processes", options.processes,
             "Share every batch between N processes on this machine; needs Open MPI")
        .within(1, 1024);
    command.add("--sync-bn", options.sync_batch_norm,
                "Batch norm over all processes instead of each its own share");

    command.section("Run folder");
    command.add("--out", options.out, "Folder of the run: checkpoints, log, options").required();
    command.add("--resume", options.resume, "Go on with the run in --out").not_configurable();
    command.add("--checkpoint-minutes", options.checkpoint_minutes, "Between checkpoints")
        .positive();
    command.add("--checkpoint-steps", options.checkpoint_steps, "Also every so many steps; 0: no")
        .at_least(0);
    command.add("--keep", options.keep, "States of the last saves to keep").within(1, 1000);
    command.add("--validation-steps", options.validation_steps, "Between validations").at_least(1);
    command.add("--tensorboard", options.tensorboard, "Also write TensorBoard event files");
    command.add("--metadata", options.metadata, "KEY=VALUE for the checkpoints, e.g. licence=...");
    command.add_config_file("--config", options.resolved,
                            "Options from a file, one name=value a line");
    return command;
}

}  // namespace lumachrome
