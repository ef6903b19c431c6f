// The factor on the learning rate at a step: a linear warm-up, then
//   constant  1
//   cosine    half a cosine from 1 to 0 (Loshchilov and Hutter 2017)
//   steps     times step_factor after every step_length steps
// With a number of steps it is a function of the step alone, so a resumed run follows the same
// curve; a cosine limited by time alone follows the clock.
#pragma once
#include <cmath>
#include <cstdint>
#include <numbers>

namespace lumachrome {

struct Schedule {
    enum Kind { constant, cosine, steps };
    Kind kind = constant;
    int64_t warmup_steps = 0;
    int64_t total_steps = 0;   // where the cosine reaches 0, or
    double total_seconds = 0;  // when it does, if there is no number of steps
    int64_t step_length = 1;
    double step_factor = 0.1;

    double factor(int64_t step, double seconds) const {
        if (step < warmup_steps) return double(step + 1) / double(warmup_steps);
        if (kind == constant) return 1;
        if (kind == steps)
            return std::pow(step_factor, double((step - warmup_steps) / step_length));
        double progress = 0;
        if (total_steps > warmup_steps)
            progress = double(step - warmup_steps) / double(total_steps - warmup_steps);
        else if (total_seconds > 0)
            progress = seconds / total_seconds;
        return 0.5 * (1 + std::cos(std::numbers::pi * (progress < 1 ? progress : 1)));
    }
};

}  // namespace lumachrome
