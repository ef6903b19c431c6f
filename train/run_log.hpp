// What a run writes about itself: metrics.jsonl, one JSON object a line; samples/step-N.png, gray,
// output and truth of the same photos at every validation; report.html, the page that shows both;
// TensorBoard event files if wanted. Training lines hold averages since the
// line before; validation lines have a key `validation`. A line of the end of a run, which a run
// that goes on would not have written, is marked `final` and goes away with a resume.
#pragma once
#include <optional>
#include <string>

#include "tensor/json.hpp"
#include "train/report/tensorboard.hpp"
#include "train/train_state.hpp"
#include "train/validation.hpp"

namespace lumachrome {

std::string metrics_path(const std::string& run);

// Averages since the last line of the log.
struct TrainReport {
    int64_t step = 0, epoch = 0, total_steps = 0;
    double color_loss = 0, class_loss = 0, top1 = 0;  // top1: share of labelled samples
    double gradient_norm = 0, learning_rate = 0;
    double images_per_second = 0, seconds = 0, seconds_left = 0;
    int64_t skipped_corrupt = 0, skipped_gray = 0;
};

class RunLog {
  public:
    // Keeps what an earlier process logged up to `step`: what came later happens again. Holds a
    // lock, so that two processes never write into one run: throws UsageError.
    RunLog(std::string run, int64_t step, bool tensorboard);
    ~RunLog();
    RunLog(const RunLog&) = delete;
    RunLog& operator=(const RunLog&) = delete;

    // Both throw ResourceError when the disk refuses. A line is then tried again with the next
    // one, and no line follows a part of one.
    void training(const TrainReport& report);
    void validation(const TrainProgress& progress, int64_t epoch, const ValidationResult& result,
                    bool final);
    void report();  // report.html, from what the folder holds
    void sync();    // to the disk, before a checkpoint that relies on it

  private:
    void add(const Json& line);
    void write();
    bool cut();
    std::string run_, path_, pending_;
    int fd_ = -1;
    int64_t size_ = 0;   // bytes of whole lines
    bool torn_ = false;  // more than these are there
    std::optional<TensorBoardWriter> tensorboard_;
};

}  // namespace lumachrome
