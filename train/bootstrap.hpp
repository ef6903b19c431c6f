// How sure is an average over photos? The percentile bootstrap: draw as many photos as there are,
// with replacement, compute the figure again, 2,000 times; the middle 95 % of the results are the
// interval. Photos are drawn from all alike, not class by class: the interval then covers which
// photos, of which scenes, happened to be in the set.
//
// Draw k of resample r is a function of (r, k) alone, so two sets of figures over the same number
// of photos see the same draws: their difference, resample by resample, is a paired one, from which
// what makes a photo hard for both has gone.
//
// Source: Efron, "Bootstrap methods: another look at the jackknife", 1979. Hazard: below some
// twenty photos the interval is too narrow, and a share of 0 or 1 gets one of no width.
#pragma once
#include <limits>
#include <span>
#include <vector>

#include "tensor/exec.hpp"

namespace lumachrome {

inline constexpr int64_t kResamples = 2000;
inline constexpr double kConfidence = 0.95;

// A figure over photos as a quotient of two sums, one term a photo each: a mean (below is 1), a
// share of the photos that count (below is 0 for the others), a quotient of two means.
struct Ratio {
    std::vector<double> above, below;
    double value() const;  // NaN where the lower sum is 0
};

struct Interval {
    double low = std::numeric_limits<double>::quiet_NaN(), high = low;
    bool contains(double value) const { return low <= value && value <= high; }
};

// [ratio][resample]: the figures of kResamples resamples. NaN for a ratio in which fewer than two
// photos count, and for a resample in which none does. Throws ShapeError unless all ratios are over
// the same photos.
std::vector<std::vector<double>> resample(const Exec& exec, std::span<const Ratio> ratios);

// The middle kConfidence of the values, NaN left out; NaN when all are.
Interval middle(std::vector<double> values);

}  // namespace lumachrome
