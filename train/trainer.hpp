// The training loop: batches, steps, validations, checkpoints, log. One step is a function of
// (weights, optimizer state, batch, step) alone, and a batch one of (data, seed, step), so a
// resumed run continues bit for bit. Walk 2, stop 6: loss -> gradients -> optimizer.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "train/run_log.hpp"
#include "train/schedule.hpp"
#include "train/train_state.hpp"
#include "train/train_step.hpp"
#include "train/validation.hpp"

namespace lumachrome {

struct TrainOptions {
    std::string run;      // folder of the run
    AugmentSpec augment;  // size and how photos vary
    int64_t batch = 16;   // of all processes together
    uint64_t seed = 1;
    OptimizerSpec optimizer;
    Schedule schedule;  // total_seconds counts from the start of this process
    LossWeights loss;
    double clip_norm = 0;             // see StepSettings
    double ema_decay = 0;             // of the weight average; 0: none
    std::vector<std::string> freeze;  // stages that keep their weights: low, mid, global, fusion...
    int64_t max_steps = 0;            // 0: no limit
    double max_seconds = 0;           // of this process; 0: no limit
    double checkpoint_seconds = 60;   // between checkpoints
    int64_t checkpoint_steps = 0;     // additionally every so many steps; 0: by time alone
    int64_t keep = 1;                 // states of the last saves
    int64_t log_steps = 20;
    bool tensorboard = false;                   // also event files
    std::shared_ptr<const Dataset> validation;  // null: no validation
    int64_t validation_steps = 250, validation_photos = 128;
    bool validate_first = false;  // before the first step: what fine-tuning starts from
    int64_t patience = 0;         // end after so many validations without a better one; 0: never
    bool resume = false;
    bool sync_batch_norm = false;  // statistics over all processes instead of each its own
    int64_t compare_steps = 100;   // all processes compare a hash of their weights so often
    int workers = 1;
    int64_t cache_bytes = int64_t{2} << 30;  // of decoded photos
    // Of photos in a GPU's memory; none: a quarter of it.
    std::optional<int64_t> gpu_cache_bytes;
    Metadata metadata;       // added to the checkpoints, e.g. licence of the photos
    Watch* watch = nullptr;  // sees every op of every step
};

// What happens during a run, for whoever shows it. Each may be empty.
struct TrainEvents {
    std::function<void(const TrainReport&)> progress;  // after every step
    std::function<void(int64_t step, const ValidationResult&, bool best)> validated;
    std::function<void(const std::string&)> warned;  // a file that could not be written
};

enum class TrainEnd {
    limit,     // steps or time are used up
    patience,  // validation has stopped improving
    stopped,   // asked to; the run goes on with a resume
};

class Trainer {
  public:
    // Starts afresh, or resumes from the run folder. Throws UsageError when the folder already
    // holds a run and `resume` is false, or a frozen stage does not exist. With several processes
    // (`peers`, which must outlive the trainer; null: alone) every one has a trainer with the same
    // options; that of rank 0 validates and writes.
    Trainer(std::unique_ptr<ColorNet> net, std::shared_ptr<const Dataset> data,
            const TrainOptions& options, const Exec& exec, const PeerGroup* peers = nullptr);

    // Trains until a limit is reached or `stop` becomes true; either way the run is saved. A
    // checkpoint that the disk refuses is a warning as long as training goes on, for the next one
    // may succeed; at the end it is thrown (ResourceError). Processes stop in the same step, when
    // one of them is asked to.
    TrainEnd run(const std::atomic<bool>& stop, const TrainEvents& events = {});

    const TrainReport& last_report() const { return last_; }
    const std::optional<ValidationResult>& last_validation() const { return validated_; }
    const TrainProgress& progress() const { return progress_; }
    ColorNet& net() { return *net_; }

  private:
    Metadata identity() const;
    TrainState state();
    void freeze();
    bool first() const { return !peers_ || peers_->rank() == 0; }
    bool validate(int64_t epoch, bool final, const TrainEvents& events);
    bool validate_alone(int64_t epoch, bool final, const TrainEvents& events);
    void save();
    void save_best();
    void compare_weights();
    void count(const StepResult& result, int64_t epoch, double rate_factor);
    // What all processes do next: rank 0's clock decides, and whoever was asked to stop.
    struct Decision {
        bool stop, limit, save, patience;
        double seconds;
    };
    Decision agree(Decision own) const;

    std::unique_ptr<ColorNet> net_;
    std::shared_ptr<const Dataset> data_;
    TrainOptions options_;
    Exec exec_;
    const PeerGroup* peers_;
    Optimizer optimizer_;
    std::optional<WeightAverage> average_;
    std::optional<Validation> validation_;
    std::optional<ValidationResult> validated_;
    TrainProgress progress_;
    TrainReport last_;
    std::optional<TensorFile> best_owed_;  // a best model that the disk has refused so far
    std::optional<RunLog> log_;
};

}  // namespace lumachrome
