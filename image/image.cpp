#include "image/image.hpp"

#include <limits>
#include <string>

#include "tensor/error.hpp"

namespace lumachrome {

Image Image::make(int64_t width, int64_t height, int channels, int bits) {
    const bool known = channels >= 1 && channels <= 4 && (bits == 8 || bits == 16);
    constexpr int64_t kMaxPixels = std::numeric_limits<int64_t>::max() / 8;  // 8 bytes: 16-bit RGBA
    if (!known || width < 1 || height < 1 || width > kMaxPixels / height)
        throw Error("cannot make an image of " + std::to_string(width) + "x" +
                    std::to_string(height) + " pixels with " + std::to_string(channels) +
                    " channels of " + std::to_string(bits) + " bits");
    Image image;
    image.width = width, image.height = height, image.channels = channels, image.bits = bits;
    image.bytes.resize(static_cast<size_t>(image.row_bytes() * height));
    return image;
}

}  // namespace lumachrome
