// Chroma of two scales. Run on a small copy of the photo a network sees most of it at once and
// agrees with itself, but its chroma is coarse; run on a large one it sees details and loses the
// whole: skies fade or turn patchy. So the large one keeps its details and gets the small one's
// tint:
//
//     ab = large + enlarge(average(small) - average(large))
//
// averages over cells of kTintCells x kTintCells of the small one, resize.hpp's rules.
#pragma once

#include <vector>

#include "image/resize.hpp"

namespace lumachrome {

class TwoScaleRows {
  public:
    static constexpr int64_t kTintCells = 4;

    // small [h,w,2]; the large one is [height,width,2].
    TwoScaleRows(const Tensor& small, int64_t height, int64_t width, const Exec& exec);
    TwoScaleRows(const TwoScaleRows&) = delete;
    TwoScaleRows& operator=(const TwoScaleRows&) = delete;

    // The next rows of the large one. Returns the rows of ab that they complete, valid until the
    // next push; all are done after the last row. What is held are the rows of about two averages.
    // Rows in any portions give the same bits.
    RowSpan push(const Exec& exec, const float* large, int64_t count);

  private:
    int64_t row_floats_;  // of the large one
    Tensor tint_;         // averages of the small one
    RowResizer average_, enlarge_;
    std::vector<float> waiting_;  // rows of the large one whose tint is not known yet
    std::vector<float> difference_, done_;
};

}  // namespace lumachrome
