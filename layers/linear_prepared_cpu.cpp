#include "layers/linear_prepared.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "layers/dot_rows.hpp"

namespace lumachrome {
namespace {

constexpr int64_t kFew = 1 << 18;  // weights that stay in cache from photo to photo
constexpr int64_t kRows = 16;      // of a task
constexpr float kLargest = 32767;

}  // namespace

const char* PreparedLinear::reject(const Tensor& w) {
    if (w.numel() < kFew) return "few weights";
    return all_finite(w) ? nullptr : "weights that are not finite";
}

PreparedLinear::PreparedLinear(const Exec& exec, const Tensor& w)
    : outputs_(w.shape()[0]),
      inputs_(w.shape()[1]),
      stride_((inputs_ + kDotRowsPadding - 1) / kDotRowsPadding * kDotRowsPadding),
      cells_(Tensor::empty({outputs_, stride_ / 2})),
      scale_(Tensor::empty({outputs_})) {
    auto* cells = reinterpret_cast<int16_t*>(cells_.raw());
    parallel_for(exec, outputs_, [&](int64_t o) {
        const float* row = w.data<float>() + o * inputs_;
        float largest = 0;
        for (int64_t i = 0; i < inputs_; ++i) largest = std::max(largest, std::fabs(row[i]));
        const float scale = largest / kLargest, inverse = scale > 0 ? 1 / scale : 0;
        // A row of subnormal numbers has no inverse: it is as good as zero.
        const bool usable = std::isfinite(inverse);
        scale_.data<float>()[o] = usable ? scale : 0;
        int16_t* to = cells + o * stride_;
        for (int64_t i = 0; i < inputs_; ++i) {
            const float q = usable ? std::nearbyint(row[i] * inverse) : 0;
            to[i] = static_cast<int16_t>(std::clamp(q, -kLargest, kLargest));
        }
        std::fill(to + inputs_, to + stride_, int16_t{0});
    });
}

void PreparedLinear::run(const Exec& exec, const float* x, const float* b, float* y) const {
    float* padded = scratch<float, Scratch::operation>(stride_);
    std::copy_n(x, inputs_, padded);
    std::fill(padded + inputs_, padded + stride_, 0.0f);
    const auto* cells = reinterpret_cast<const int16_t*>(cells_.raw());
    const DotRows& dot = dot_rows();
    parallel_for(exec, (outputs_ + kRows - 1) / kRows, [&](int64_t task) {
        const int64_t begin = task * kRows, end = std::min(outputs_, begin + kRows);
        float sums[kRows];
        dot.sums(cells + begin * stride_, stride_, padded, stride_, end - begin, sums);
        for (int64_t o = begin; o < end; ++o)
            y[o] = b[o] + scale_.data<float>()[o] * sums[o - begin];
    });
}

}  // namespace lumachrome
