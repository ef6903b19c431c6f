// Runs a plan. Owns the arena in which all maps lie; one for each thread that colours photos.
#pragma once
#include "model/infer/plan.hpp"

namespace lumachrome {

class Runner {
  public:
    Runner(Plan plan, const Exec& exec);

    // Input i, rows top to bottom, to be written to `to`.
    using Source = std::function<void(size_t i, Rows rows, float* to)>;
    // Output i, rows top to bottom; `from` is valid until the call returns.
    using Sink = std::function<void(size_t i, Rows rows, const float* from)>;
    void run(const Source& source, const Sink& sink);
    // From and to whole tensors of the graph's shapes.
    std::vector<Tensor> run(std::span<const Tensor> inputs);

    const Plan& plan() const { return plan_; }
    // Of the last run, by step; the rest is the source's and the sink's.
    const std::vector<double>& step_seconds() const { return seconds_; }

  private:
    // Where rows of a value lie now.
    struct Held {
        int64_t first = 0, end = 0;
    };
    RowBand make_room(const Plan::Task& task);
    RowBand band(int value, Rows rows);
    float* row(int value, int64_t row);

    Plan plan_;
    Exec exec_;
    Tensor arena_;
    std::vector<Held> held_;
    std::vector<RowBand> in_;
    std::vector<double> seconds_;
};

}  // namespace lumachrome
