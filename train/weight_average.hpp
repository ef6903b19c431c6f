// An exponential moving average of everything a network knows (weights and running statistics):
//   a <- d a + (1 - d) w,   d = min(decay, (1 + t) / (10 + t)) after step t
// so that the first steps do not weigh on it for long (the ramp is TensorFlow's). Averages of late
// weights generalise better than the last weights (Polyak and Juditsky 1992); evaluation and the
// model file use them, training itself does not.
#pragma once
#include <string>
#include <vector>

#include "autograd/parameter.hpp"
#include "tensor/exec.hpp"

namespace lumachrome {

class WeightAverage {
  public:
    struct Entry {
        std::string name;
        Parameter* parameter;
        Tensor average;  // shape and type of the parameter
    };
    explicit WeightAverage(double decay) : decay_(decay) {}
    void add(const std::string& name, Parameter& parameter);  // starts at its value
    void update(const Exec& exec, int64_t step);              // step from 1
    // Exchanges averages and weights; twice is as before.
    void swap();
    std::vector<Entry>& entries() { return entries_; }

  private:
    double decay_;
    std::vector<Entry> entries_;
};

// The network holds its averages as long as this lives; nothing happens without an average.
class Averaged {
  public:
    explicit Averaged(WeightAverage* average) : average_(average) {
        if (average_) average_->swap();
    }
    ~Averaged() {
        if (average_) average_->swap();
    }
    Averaged(const Averaged&) = delete;
    Averaged& operator=(const Averaged&) = delete;

  private:
    WeightAverage* average_;
};

}  // namespace lumachrome
