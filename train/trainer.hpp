// The training loop: batch -> forward -> joint loss -> backward -> optimizer, with checkpoints and
// a log. One step is a function of (weights, optimizer state, batch, step) alone, and a batch one
// of (data, seed, step), so a resumed run continues bit for bit. Walk 2, stop 5: loss -> gradients
// -> optimizer.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "train/augment.hpp"
#include "train/dataset.hpp"
#include "train/joint_loss.hpp"
#include "train/loader.hpp"
#include "train/optimizers.hpp"
#include "train/schedule.hpp"
#include "train/train_state.hpp"

namespace lumachrome {

std::string metrics_path(const std::string& run);  // one JSON object a line

struct TrainOptions {
    std::string run;      // folder of the run
    AugmentSpec augment;  // size and how photos vary
    int64_t batch = 16;
    uint64_t seed = 1;
    OptimizerSpec optimizer;
    Schedule schedule;  // total_seconds counts from the start of this process
    double alpha = kAlpha;
    int64_t max_steps = 0;           // 0: no limit
    double max_seconds = 0;          // of this process; 0: no limit
    double checkpoint_seconds = 60;  // between checkpoints
    int64_t checkpoint_steps = 0;    // additionally every so many steps; 0: by time alone
    int64_t log_steps = 20;
    bool resume = false;
    std::string init;  // weights to start from (fine-tuning); empty: fresh
    int workers = 1;
    Metadata metadata;  // added to the checkpoints, e.g. licence of the photos
};

// Averages since the last report.
struct TrainReport {
    int64_t step = 0, epoch = 0, total_steps = 0;
    double color_loss = 0, class_loss = 0, top1 = 0;  // top1: share of labelled samples
    double images_per_second = 0, learning_rate = 0, seconds = 0, seconds_left = 0;
    int64_t skipped_corrupt = 0, skipped_gray = 0;
};

struct StepResult {
    double color_loss, class_loss;
    int64_t labelled, correct;
};

// One optimisation step on a batch; what training, benchmarks and goldens share. `luma` [N,S,S,1]
// in 0..1, `target` [N,S/2,S/2,2] in 0..1. Throws Error naming step and loss when a loss or a
// gradient is not finite; the weights are then untouched (running statistics may have moved).
StepResult train_step(ColorNet& net, Optimizer& optimizer, const Exec& exec, const Tensor& luma,
                      const Tensor& target, const Labels& labels, double alpha, double rate_factor);

class Trainer {
  public:
    // Starts afresh, or resumes from the run folder. Throws UsageError when the folder already
    // holds a run and `resume` is false.
    Trainer(std::unique_ptr<ColorNet> net, std::shared_ptr<const Dataset> data,
            const TrainOptions& options, const Exec& exec);

    // Trains until a limit is reached (true) or `stop` becomes true (false); either way the run is
    // saved. `report` is called every log_steps steps.
    bool run(const std::atomic<bool>& stop, const std::function<void(const TrainReport&)>& report);

    const TrainReport& last_report() const { return last_; }
    const TrainProgress& progress() const { return progress_; }
    ColorNet& net() { return *net_; }

  private:
    Metadata identity() const;
    void save();
    void log(const TrainReport& report);
    void keep_log_until(int64_t step);
    std::unique_ptr<ColorNet> net_;
    std::shared_ptr<const Dataset> data_;
    TrainOptions options_;
    Exec exec_;
    Optimizer optimizer_;
    TrainProgress progress_;
    TrainReport last_;
};

}  // namespace lumachrome
