// The largest of several errors must not hide a NaN among them: std::max loses it, and so does
// `if (!(error <= worst)) worst = error`, where the next number takes its place.
#pragma once
#include <cmath>

namespace lumachrome {

// The larger of the two; NaN if either is. Compare it with `x <= limit`, which NaN fails.
inline double larger_or_nan(double a, double b) {
    return std::isnan(a) || a > b ? a : b;
}

}  // namespace lumachrome
