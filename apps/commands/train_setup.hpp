// From the options of `train` to what a Trainer takes.
#pragma once
#include "apps/commands/commands.hpp"
#include "train/trainer.hpp"

namespace lumachrome {

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
    double chroma_weight = 0;
    uint64_t seed = 1;
    int workers = 1, processes = 1;
    bool sync_batch_norm = false, tensorboard = false;
    double checkpoint_minutes = 5;
    int64_t checkpoint_steps = 0, keep = 1, validation_steps = 250, patience = 0;
    std::vector<std::string> metadata;  // KEY=VALUE
    std::string resolved;               // all of the above as a config file
};

// What is trained: the network's description, the weights to begin with, the photos.
struct Beginning {
    Spec spec;
    TensorFile initial;            // of --init; else empty
    bool keep_classifier = false;  // of --init: it knows the same scenes
    std::shared_ptr<const Dataset> data;
};

// Reads --init or the run to resume, and opens the photos.
Beginning begin(const TrainCommandOptions& options, Console& console);

TrainOptions train_options(const TrainCommandOptions& options, const Spec& spec);

// Splits the data where no validation photos are named: the val.tar beside training shards, else a
// few of the photos themselves.
void choose_validation(const TrainCommandOptions& options, Beginning& begin, TrainOptions& train,
                       Console& console);

void set_limits(const TrainCommandOptions& options, int64_t photos, TrainOptions& train);

// For --overfit: a network that cannot learn a handful of photos by heart has a bug, or a hopeless
// learning rate. Returns what guessing costs: the colour loss of gray photos.
double prepare_overfit(const TrainCommandOptions& options, Beginning& begin, TrainOptions& train,
                       Console& console);

// The network to train from, fresh or with the weights of --init.
std::unique_ptr<ColorNet> initial_network(const TrainCommandOptions& options, Beginning& begin);

}  // namespace lumachrome
