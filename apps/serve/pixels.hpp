// What a page shows of a photo besides the result.
#pragma once
#include "image/image.hpp"
#include "tensor/exec.hpp"

namespace lumachrome {

// The longer side at most `longest`; without the file's metadata, with its colour profile. The same
// pixels when it is no larger. A row at a time: of a large photo no floats are kept.
Image shrunk(const Image& photo, int64_t longest, const Exec& exec);

// What the network sees: luma, 8 bits.
Image gray_of(const Image& photo, const Exec& exec);

// Over white, for JPEG, which knows no transparency. 3 channels, or 1.
Image without_alpha(Image photo, const Exec& exec);

}  // namespace lumachrome
