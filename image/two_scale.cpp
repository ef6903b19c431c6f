#include "image/two_scale.hpp"

#include <algorithm>

namespace lumachrome {
namespace {

Tensor averages(const Tensor& small, const Exec& exec) {
    const auto cells = [&](int axis) {
        return std::max<int64_t>(1, small.shape()[axis] / TwoScaleRows::kTintCells);
    };
    return resize(small, cells(0), cells(1), exec);
}

}  // namespace

TwoScaleRows::TwoScaleRows(const Tensor& small, int64_t height, int64_t width, const Exec& exec)
    : row_floats_(width * 2),
      tint_(averages(small, exec)),
      average_({height, width, 2}, tint_.shape()[0], tint_.shape()[1]),
      enlarge_(tint_.shape(), height, width) {}

RowSpan TwoScaleRows::push(const Exec& exec, const float* large, int64_t count) {
    waiting_.insert(waiting_.end(), large, large + count * row_floats_);
    const RowRange averaged = average_.push(exec, large, count);
    const int64_t rows = averaged.end - averaged.begin, tint_floats = tint_.shape()[1] * 2;
    difference_.resize(static_cast<size_t>(rows * tint_floats));
    parallel_for(exec, rows, [&](int64_t i) {
        float* const difference = difference_.data() + i * tint_floats;
        const float* const tint = tint_.data<float>() + (averaged.begin + i) * tint_floats;
        average_.make(averaged.begin + i, difference);
        for (int64_t x = 0; x < tint_floats; ++x) difference[x] = tint[x] - difference[x];
    });

    const RowRange ready = enlarge_.push(exec, difference_.data(), rows);
    const int64_t floats = (ready.end - ready.begin) * row_floats_;
    done_.resize(static_cast<size_t>(floats));
    parallel_for(exec, ready.end - ready.begin, [&](int64_t i) {
        float* const ab = done_.data() + i * row_floats_;
        const float* const detail = waiting_.data() + i * row_floats_;
        enlarge_.make(ready.begin + i, ab);
        for (int64_t x = 0; x < row_floats_; ++x) ab[x] += detail[x];
    });
    waiting_.erase(waiting_.begin(), waiting_.begin() + floats);
    return {done_.data(), ready.end - ready.begin};
}

}  // namespace lumachrome
