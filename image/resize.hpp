// Changing the size of a picture of any channels, one axis after the other:
//   shrinking   the exact average of the area an output pixel covers, fractional at its ends
//   enlarging   linear between pixel centres, which lie at half-integers; the border repeats
// Both agree that pixel i covers [i, i+1). torch/image, which the paper's script uses, enlarges
// corner-aligned (step (in-1)/(out-1)): against area averages that moves content by up to half a
// pixel, so chroma shrunk by 2 for training and enlarged by 2 for the result would slide off its
// edges. Here down and up again is centred.
#pragma once

#include <cstdint>
#include <vector>

#include "tensor/exec.hpp"

namespace lumachrome {

// A rectangle in pixel units of its picture, ends may be fractional: y covers [y, y + height).
struct Box {
    double y = 0, x = 0, height = 0, width = 0;
};

// in [H,W,C] f32 -> [height,width,C] f32. The same size is the same values. Throws ShapeError.
Tensor resize(const Tensor& in, int64_t height, int64_t width, const Exec& exec = {});

// The same of a box within the picture, for random resized crops. Enlarging may look at neighbours
// just outside the box. Throws ShapeError when the box is empty or leaves the picture.
Tensor resize_crop(const Tensor& in, const Box& box, int64_t out_height, int64_t out_width,
                   const Exec& exec = {});

// Output pixel i of one axis is the sum of weights[first_weight + k] * in[first + k], k < count.
struct Taps {
    int64_t first = 0, count = 0;
    size_t first_weight = 0;

    int64_t end() const { return first + count; }
};
struct ResizeAxis {
    std::vector<Taps> taps;
    std::vector<float> weights;
};

struct RowRange {
    int64_t begin = 0, end = 0;
};
struct RowSpan {  // rows that lie behind each other
    const float* data = nullptr;
    int64_t count = 0;
};

// The same for a picture that comes and goes in rows, from top to bottom: no more is held than the
// rows which the next ones need. Rows in any portions give the same bits.
class RowResizer {
  public:
    // in [H,W,C]. Throws ShapeError.
    RowResizer(const Shape& in, int64_t out_height, int64_t out_width);
    RowResizer(const Shape& in, const Box& box, int64_t out_height, int64_t out_width);

    // The next rows of the picture [count,W,C], borrowed until the next push. Returns the rows of
    // the output that they complete, often none when shrinking; all are done after the last row.
    RowRange push(const Exec& exec, const float* rows, int64_t count);

    // One of those rows, [out_width,C]. Any thread, any order, until the next push.
    void make(int64_t y, float* out) const;

  private:
    const float* window_row(int64_t y) const;
    void keep(int64_t begin, int64_t end, bool unused);

    int64_t in_width_, channels_;
    ResizeAxis rows_, columns_;
    // Across first when rows are added, so that fewer of them are widened; the window then holds
    // rows of the output's width. Otherwise down first, and it holds rows of the input.
    bool same_columns_, across_first_;
    int64_t window_width_;  // floats of a row of the window
    int64_t pushed_ = 0, done_ = 0;
    // The window: rows kept from earlier pushes, then those of the last one.
    std::vector<float> kept_, next_kept_, widened_;
    int64_t kept_begin_ = 0, next_kept_begin_ = 0, last_begin_ = 0;
    const float* last_ = nullptr;
};

}  // namespace lumachrome
