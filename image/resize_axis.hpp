// Which pixels of one axis an output pixel is made of, and with what weights: the definition that
// resize.cpp and the kernels of train/augment_cuda.cu share. See resize.hpp.
#pragma once
#include <algorithm>
#include <cstdint>

namespace lumachrome {

class AxisPixel {
  public:
    // Output pixel `index` of `out_size`, made of [begin, begin + length) of `size` pixels; all of
    // it lies at 0 or above.
    constexpr AxisPixel(int64_t size, double begin, double length, int64_t out_size,
                        int64_t index) {
        const double scale = length / static_cast<double>(out_size);
        const auto last = static_cast<double>(size - 1), i = static_cast<double>(index);
        shrinks_ = scale > 1;
        if (shrinks_) {
            low_ = begin + i * scale;
            high_ = std::min(low_ + scale, last + 1);
            first = std::min(static_cast<int64_t>(low_), size - 1);
            const auto end = static_cast<int64_t>(high_);
            count = end + (static_cast<double>(end) < high_) - first;
        } else {
            const double centre = std::clamp(begin + (i + 0.5) * scale - 0.5, 0.0, last);
            first = static_cast<int64_t>(centre);
            fraction_ = static_cast<float>(centre - static_cast<double>(first));
            count = fraction_ > 0 ? 2 : 1;
        }
    }
    constexpr float weight(int64_t k) const {  // of pixel first + k, k < count
        if (!shrinks_) return k == 0 ? 1 - fraction_ : fraction_;
        const auto pixel = static_cast<double>(first + k);
        const double covered = std::min(high_, pixel + 1) - std::max(low_, pixel);
        return static_cast<float>(covered / (high_ - low_));
    }

    int64_t first = 0, count = 0;

  private:
    bool shrinks_ = false;
    double low_ = 0, high_ = 0;
    float fraction_ = 0;
};

}  // namespace lumachrome
