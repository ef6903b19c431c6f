// The pictures of the page that `explain` writes. 8-bit RGB.
#pragma once
#include <vector>

#include "image/image.hpp"
#include "tensor/tensor.hpp"

namespace lumachrome {

Image gray_picture(const Image& photo);
// Its chroma alone: every pixel at the same luma.
Image chroma_picture(const Image& photo);
// A map [h,w,1] from its 1st to its 99th percentile as black to white, enlarged so that the longer
// side has `side` pixels.
Image map_picture(const Tensor& map, int64_t side);
// The gray photo, tinted from blue (0) to red (1) by a map [h,w,1].
Image heat_picture(const Image& photo, const Tensor& map);
// Pictures of one size beside and below each other, `columns` a row.
Image grid_picture(const std::vector<Image>& pictures, int64_t columns);

}  // namespace lumachrome
