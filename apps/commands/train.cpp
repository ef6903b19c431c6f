#include <signal.h>

#include <cmath>
#include <fstream>

#include "apps/commands/commands.hpp"
#include "apps/exit_code.hpp"
#include "tensor/error.hpp"
#include "tensor/file.hpp"
#include "train/trainer.hpp"

namespace lumachrome {
namespace {

struct TrainCommandOptions : RunOptions {
    std::vector<std::string> data;
    std::string out, init;
    bool resume = false;
    NetworkOptions network;
    std::optional<double> epochs;
    std::optional<int64_t> steps;
    std::optional<double> minutes;
    int64_t batch = 16;
    std::optional<int64_t> size;  // none: what the global branch sees
    double min_scale = 0.6;
    std::string optimizer = "adadelta";
    std::optional<double> learning_rate;
    std::string schedule = "constant";
    int64_t warmup = 0;
    std::optional<double> alpha;
    std::string precision = "f32";
    uint64_t seed = 1;
    int workers = 1;
    double checkpoint_minutes = 5;
    std::vector<std::string> metadata;  // KEY=VALUE
    std::string resolved;               // all of the above as a config file
};

constexpr double kPaperEpochs = 11;  // section 4: 200,000 batches of 128 out of 2.3 million photos
constexpr const char* kClassifierWeight = "classifier.2.linear.weight";
constexpr const char* kClassifierBias = "classifier.2.linear.bias";

std::atomic<bool> stop_requested = false;

// The first signal ends training after the step in work; the second ends the process.
void stop_on_signals() {
    struct sigaction action {};
    action.sa_handler = [](int) { stop_requested = true; };
    action.sa_flags = static_cast<int>(SA_RESETHAND);
    for (int signal : {SIGINT, SIGTERM, SIGHUP}) sigaction(signal, &action, nullptr);
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

double share_done(const TrainReport& r, const TrainOptions& options, double seconds_before) {
    double share = -1;
    if (options.max_steps > 0) share = double(r.step) / double(options.max_steps);
    if (options.max_seconds > 0)
        share = std::max(share, (r.seconds - seconds_before) / options.max_seconds);
    return share;
}

int run_train(const TrainCommandOptions& options, Console& console) {
    if (options.precision == "bf16")
        throw ResourceError("--precision bf16: needs a CUDA device; the CPU trains in f32");
    const Exec exec = exec_for(options, console);

    Spec spec;
    TensorFile initial;
    std::shared_ptr<const Dataset> data;
    bool keep_classifier = false;
    if (options.resume) {
        const std::string path = state_path(options.out);
        spec = spec_of_file(read_tensor_file(path), path);
        check_agreement(options.network, spec, path);
        data = open_dataset(options.data, options.seed, spec.class_names);
    } else {
        data = open_dataset(options.data, options.seed);
        if (options.init.empty()) {
            spec = fresh_spec(options.network);
        } else {
            initial = read_tensor_file(options.init);
            spec = spec_of_file(initial, options.init);
            check_agreement(options.network, spec, options.init);
        }
        const std::vector<std::string>& classes = data->classes();
        keep_classifier = !options.init.empty() && (classes.empty() || classes == spec.class_names);
        if (!keep_classifier) {
            spec.class_names = classes;
            spec.classes = std::max<int64_t>(1, static_cast<int64_t>(classes.size()));
        }
        if (classes.empty() && spec.use_global)
            console.note("no scene labels in the data: the class head learns nothing");
    }
    if (options.network.dropout) spec.dropout = *options.network.dropout;

    TrainOptions train;
    train.run = options.out;
    train.resume = options.resume;
    train.augment.size = options.size.value_or(spec.global_size);
    train.augment.min_scale = options.min_scale;
    if (train.augment.size % kStride != 0)
        throw UsageError(format("--size %ld: must be a multiple of 8", long{train.augment.size}));
    train.batch = options.batch;
    if (train.batch < 2 && spec.batch_norm)
        throw UsageError("--batch 1: batch norm needs at least 2 photos a step");
    train.seed = options.seed;
    train.optimizer = optimizer_spec(options.optimizer);
    if (options.learning_rate) train.optimizer.learning_rate = *options.learning_rate;
    train.alpha = options.alpha.value_or(kAlpha);
    if (options.steps) train.max_steps = *options.steps;
    if (options.minutes) train.max_seconds = *options.minutes * 60;
    if (options.epochs || (!options.steps && !options.minutes)) {
        const double photos = options.epochs.value_or(kPaperEpochs) * double(data->size());
        const int64_t steps = std::llround(
            std::clamp(std::ceil(photos / double(options.batch)), 1.0, double(kMostSteps)));
        train.max_steps = train.max_steps > 0 ? std::min(train.max_steps, steps) : steps;
    }
    train.schedule.kind = options.schedule == "cosine" ? Schedule::cosine : Schedule::constant;
    train.schedule.warmup_steps = options.warmup;
    train.schedule.total_steps = train.max_steps;
    train.schedule.total_seconds = train.max_seconds;
    train.checkpoint_seconds = options.checkpoint_minutes * 60;
    train.workers = options.workers;
    train.metadata = parse_metadata(options.metadata, spec);
    train.metadata.try_emplace("trained_on", joined(options.data));

    auto net = std::make_unique<ColorNet>(
        spec, options.resume ? std::nullopt : std::optional<uint64_t>(options.seed));
    if (!initial.tensors.empty())
        load_initial(*net, std::move(initial), keep_classifier, options.init);
    Trainer trainer(std::move(net), data, train, exec);
    const std::string config = options.out + "/train.ini";
    if (!options.resume)
        write_file_atomic(
            config,
            {reinterpret_cast<const uint8_t*>(options.resolved.data()), options.resolved.size()},
            false);

    stop_on_signals();
    const double seconds_before = trainer.progress().seconds;
    console.note(format("%s %s on %ld photos of %zu scenes, %ldx%ld pixels, batches of %ld, %s",
                        options.resume ? "resuming" : "training", spec.preset.c_str(),
                        long{data->size()}, data->classes().size(), long{train.augment.size},
                        long{train.augment.size}, long{train.batch}, options.optimizer.c_str()));
    TrainEvents events;
    events.progress = [&](const TrainReport& report) {
        console.progress(share_done(report, train, seconds_before), progress_text(report));
    };
    events.warned = [&](const std::string& text) { console.error(text); };
    const TrainEnd end = trainer.run(stop_requested, events);
    const bool finished = end != TrainEnd::stopped;

    const TrainReport& last = trainer.last_report();
    Json summary;
    summary.set("step", trainer.progress().step);
    summary.set("epoch", last.epoch);
    summary.set("images_per_second", last.images_per_second);
    summary.set("color_loss", last.color_loss);
    summary.set("class_loss", last.class_loss);
    summary.set("top1", last.top1);
    summary.set("checkpoint", model_path(options.out));
    summary.set("seconds", trainer.progress().seconds);
    summary.set("skipped_corrupt", last.skipped_corrupt);
    summary.set("skipped_gray", last.skipped_gray);
    summary.set("finished", finished);
    console.result(summary);
    if (last.step > 0) console.note(progress_text(last));
    if (finished) {
        console.note("saved " + model_path(options.out));
        return kOk;
    }
    console.note("stopped; to go on: lumachrome train --resume --config " + config);
    return kStoppedEarly;
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
    command.add("--seed", options.seed, "Of weights, order, crops and dropout");
    command.add("--workers", options.workers, "Threads that prepare photos").within(1, 256);

    command.section("Network");
    command.add("--init", options.init, "Start from these weights; of no effect with --resume");
    add_network_options(command, options.network);
    command.add("--dropout", options.network.dropout, "Rate after the first two global features")
        .within(0, 0.95);

    command.section("Optimisation");
    command.add("--batch", options.batch, "Photos a step").within(1, 65536);
    command.add("--optimizer", options.optimizer, "How gradients change weights")
        .one_of({"adadelta", "adam", "sgd"});
    command.add("--learning-rate", options.learning_rate, "Else the optimizer's own default")
        .positive();
    command.add("--schedule", options.schedule, "Of the learning rate")
        .one_of({"constant", "cosine"});
    command.add("--warmup", options.warmup, "Steps of linear warm-up").at_least(0);
    command.add("--alpha", options.alpha, "Weight of the scene loss; else 1/300").at_least(0);
    command.add("--precision", options.precision, "bf16 needs a CUDA device")
        .one_of({"f32", "bf16"});

    command.section("Limits");
    command.add("--epochs", options.epochs, "Passes over the data; 11 when no limit is given")
        .positive();
    command.add("--steps", options.steps, "Steps in all, resumed ones included").at_least(1);
    command.add("--minutes", options.minutes, "Time of this process").positive();

    command.section("Run folder");
    command.add("--out", options.out, "Folder of the run: checkpoints, log, options").required();
    command.add("--resume", options.resume, "Go on with the run in --out").not_configurable();
    command.add("--checkpoint-minutes", options.checkpoint_minutes, "Between checkpoints")
        .positive();
    command.add("--metadata", options.metadata, "KEY=VALUE for the checkpoints, e.g. licence=...");
    command.add_config_file("--config", options.resolved,
                            "Options from a file, one name=value a line");
    return command;
}

}  // namespace lumachrome
