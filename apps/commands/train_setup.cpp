#include "apps/commands/train_setup.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "tensor/error.hpp"

namespace lumachrome {
namespace {

constexpr double kPaperEpochs = 11;  // section 4: 200,000 batches of 128 out of 2.3 million photos
constexpr int64_t kHeldOutShare = 10;  // at most one photo in so many goes to validation
constexpr int64_t kOverfitSteps = 300;
constexpr const char* kClassHead = "classifier.";
constexpr const char* kClassifierWeight = "classifier.2.linear.weight";
constexpr const char* kClassifierBias = "classifier.2.linear.bias";

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

// The weights of `file`; a class head made for other scenes, or one that it lacks, stays as it was
// initialised.
void load_initial(ColorNet& net, TensorFile file, bool keep_classifier, const std::string& path) {
    const bool headless = std::none_of(file.tensors.begin(), file.tensors.end(), [](const auto& t) {
        return t.first.starts_with(kClassHead);
    });
    if (!keep_classifier)
        net.visit([&](const std::string& name, Parameter& p) {
            if ((headless && name.starts_with(kClassHead)) || name == kClassifierWeight ||
                name == kClassifierBias)
                file.tensors[name] = p.value;
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

// Checkpoints travel: where their photos lie on this disk is nobody else's business.
std::string without_folder(const std::string& source) {
    namespace fs = std::filesystem;
    std::error_code ignored;
    const fs::path path = fs::absolute(source, ignored).lexically_normal();
    return (path.has_filename() ? path : path.parent_path()).filename().string();
}

std::string sources_of(const std::vector<std::string>& data) {
    std::vector<std::string> names;
    for (const std::string& source : data) names.push_back(without_folder(source));
    return joined(names);
}

}  // namespace

Beginning begin(const TrainCommandOptions& options, Console& console) {
    Beginning begin;
    Spec& spec = begin.spec;
    if (options.resume) {
        const std::string path = state_path(options.out);
        std::error_code error;
        if (!std::filesystem::exists(path, error))
            throw UsageError(options.out + ": holds no run to --resume; without it one begins");
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

void choose_validation(const TrainCommandOptions& options, Beginning& begin, TrainOptions& train,
                       Console& console) {
    std::shared_ptr<const Dataset>& data = begin.data;
    std::vector<std::string> sources = options.validation;
    const std::filesystem::path beside = std::filesystem::path(options.data.front()) / "val.tar";
    std::error_code error;
    if (sources.empty() && options.data.size() == 1 && std::filesystem::exists(beside, error) &&
        data->name(0).compare(0, beside.string().size(), beside.string()) != 0)
        sources = {beside.string()};
    for (const std::string& source : sources) console.note("validating on " + source);
    if (!sources.empty()) {
        train.validation = open_dataset(sources, options.seed + 1, begin.spec.class_names);
        return;
    }
    const int64_t held_out = std::min(train.validation_photos, data->size() / kHeldOutShare);
    if (held_out == 0) {
        if (options.patience > 0)
            console.note(
                "--patience does not count: too few photos to hold some out; name others "
                "with --validation");
        return;
    }
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
    train.loss = {options.alpha.value_or(kAlpha), options.chroma_weight};
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
    train.validate_first = !options.init.empty();
    train.patience = options.patience;
    train.sync_batch_norm = options.sync_batch_norm;
    train.workers = options.workers;
    train.cache_bytes = options.cache_mib << 20;
    train.metadata = parse_metadata(options.metadata, spec);
    train.metadata.try_emplace("trained_on", sources_of(options.data));
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

double prepare_overfit(const TrainCommandOptions& options, Beginning& begin, TrainOptions& train,
                       Console& console) {
    const int64_t count = std::min(*options.overfit, begin.data->size());
    std::vector<int64_t> spread;
    for (int64_t i = 0; i < count; ++i) spread.push_back(i * begin.data->size() / count);
    begin.data = subset(begin.data, spread);
    begin.spec.dropout = 0;
    train.batch = std::max<int64_t>(2, count);
    train.augment.centre = true;
    train.max_seconds = options.minutes.value_or(0) * 60;
    train.max_steps = options.steps.value_or(kOverfitSteps);
    train.schedule.total_steps = train.max_steps;
    train.schedule.total_seconds = train.max_seconds;
    // They may come from a recipe, and are no reason to refuse then.
    std::vector<std::string> idle;
    if (options.batch != train.batch && options.batch != TrainCommandOptions{}.batch)
        idle.push_back("--batch");
    if (options.epochs) idle.push_back("--epochs");
    if (!options.validation.empty()) idle.push_back("--validation");
    if (options.patience > 0) idle.push_back("--patience");
    if (options.network.dropout) idle.push_back("--dropout");
    if (!idle.empty())
        console.note("--overfit: all photos are one batch, without dropout and validation; " +
                     joined(idle) + (idle.size() > 1 ? " do" : " does") + " not count");
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

std::unique_ptr<ColorNet> initial_network(const TrainCommandOptions& options, Beginning& begin) {
    auto net = std::make_unique<ColorNet>(
        begin.spec, options.resume ? std::nullopt : std::optional<uint64_t>(options.seed),
        Init::torch);
    if (!begin.initial.tensors.empty())
        load_initial(*net, std::move(begin.initial), begin.keep_classifier, options.init);
    return net;
}

}  // namespace lumachrome
