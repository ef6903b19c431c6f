// What a camera writes beside the pixels and we must not ignore: which way up the photo is.
// Sources: TIFF 6.0 section 2 (image file directory), Exif 2.3 section 4.6.4 (tag 0x0112).
#pragma once

#include <cstdint>
#include <span>

#include "image/image.hpp"

namespace lumachrome {

// Orientation 1..8 of an Exif block: a JPEG APP1 segment ("Exif\0\0", then TIFF) or the bare TIFF
// of a PNG eXIf chunk. Both byte orders. Anything missing, damaged or out of range reads as 1
// (upright): metadata never costs a photo.
int exif_orientation(std::span<const uint8_t> app1);

// The stored photo turned upright. The value names where stored row 0 and column 0 lie in the
// upright photo:
//   1 top, left    2 top, right    3 bottom, right    4 bottom, left
//   5 left, top    6 right, top    7 right, bottom    8 left, bottom    (width and height swap)
// Any other value is taken as 1.
Image upright(Image stored, int orientation);

}  // namespace lumachrome
