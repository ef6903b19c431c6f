// Changing the size of a picture of any channels, one axis after the other:
//   shrinking   the exact average of the area an output pixel covers, fractional at its ends
//   enlarging   linear between pixel centres, which lie at half-integers; the border repeats
// Both agree that pixel i covers [i, i+1). torch/image, which the paper's script uses, enlarges
// corner-aligned (step (in-1)/(out-1)): against area averages that moves content by up to half a
// pixel, so chroma shrunk by 2 for training and enlarged by 2 for the result would slide off its
// edges. Here down and up again is centred.
#pragma once

#include <cstdint>

#include "tensor/tensor.hpp"

namespace lumachrome {

// A rectangle in pixel units of its picture, ends may be fractional: y covers [y, y + height).
struct Box {
    double y = 0, x = 0, height = 0, width = 0;
};

// in [H,W,C] f32 -> [height,width,C] f32. The same size is the same values. Throws ShapeError.
Tensor resize(const Tensor& in, int64_t height, int64_t width);

// The same of a box within the picture, for random resized crops. Enlarging may look at neighbours
// just outside the box. Throws ShapeError when the box is empty or leaves the picture.
Tensor resize_crop(const Tensor& in, const Box& box, int64_t out_height, int64_t out_width);

}  // namespace lumachrome
