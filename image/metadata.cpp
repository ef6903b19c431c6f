#include "image/metadata.hpp"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

namespace lumachrome {
namespace {

// Unsigned integers of a TIFF block, in its own byte order; nullopt past the end.
struct TiffBlock {
    std::span<const uint8_t> bytes;
    bool big_endian;

    std::optional<uint32_t> read(size_t offset, size_t size) const {
        if (offset > bytes.size() || size > bytes.size() - offset) return std::nullopt;
        uint32_t value = 0;
        for (size_t i = 0; i < size; ++i)
            value = value << 8 | bytes[offset + (big_endian ? i : size - 1 - i)];
        return value;
    }
};

template <int PixelBytes>
void permute_pixels(const Image& from, int64_t start, int64_t step_x, int64_t step_y, Image& to) {
    for (int64_t y = 0; y < to.height; ++y) {
        const uint8_t* in = from.bytes.data() + start + y * step_y;
        uint8_t* out = to.row<uint8_t>(y);
        for (int64_t x = 0; x < to.width; ++x, in += step_x, out += PixelBytes)
            std::memcpy(out, in, PixelBytes);
    }
}

}  // namespace

int exif_orientation(std::span<const uint8_t> app1) {
    constexpr uint8_t kExif[] = {'E', 'x', 'i', 'f', 0, 0};
    if (app1.size() >= sizeof kExif && std::equal(std::begin(kExif), std::end(kExif), app1.begin()))
        app1 = app1.subspan(sizeof kExif);
    if (app1.size() < 8 || app1[0] != app1[1] || (app1[0] != 'I' && app1[0] != 'M')) return 1;
    const TiffBlock tiff{app1, app1[0] == 'M'};
    if (tiff.read(2, 2) != 42u) return 1;

    const size_t directory = *tiff.read(4, 4);
    const uint32_t entries = tiff.read(directory, 2).value_or(0);
    for (size_t i = 0; i < entries; ++i) {
        const size_t entry = directory + 2 + 12 * i;  // tag 2, type 2, count 4, value 4 bytes
        const auto tag = tiff.read(entry, 2);
        if (!tag) return 1;
        if (*tag != 0x0112) continue;
        constexpr uint32_t kShort = 3;
        const uint32_t value =
            tiff.read(entry + 2, 2) == kShort ? tiff.read(entry + 8, 2).value_or(1) : 1;
        return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
    }
    return 1;
}

Image upright(Image stored, int orientation) {
    if (orientation <= 1 || orientation > 8) return stored;
    const bool exchanged = orientation >= 5;
    const bool from_right =
        orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    const bool from_bottom =
        orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    const int64_t pixel = stored.pixel_bytes(), row = stored.row_bytes();

    // Walking the upright photo is walking the stored one from a corner with signed steps.
    const int64_t start =
        (from_right ? row - pixel : 0) + (from_bottom ? row * (stored.height - 1) : 0);
    int64_t step_x = from_right ? -pixel : pixel, step_y = from_bottom ? -row : row;
    if (exchanged) std::swap(step_x, step_y);

    Image turned = exchanged
                       ? Image::make(stored.height, stored.width, stored.channels, stored.bits)
                       : Image::make(stored.width, stored.height, stored.channels, stored.bits);
    turned.icc = std::move(stored.icc);
    switch (pixel) {
        case 1:
            permute_pixels<1>(stored, start, step_x, step_y, turned);
            break;
        case 2:
            permute_pixels<2>(stored, start, step_x, step_y, turned);
            break;
        case 3:
            permute_pixels<3>(stored, start, step_x, step_y, turned);
            break;
        case 4:
            permute_pixels<4>(stored, start, step_x, step_y, turned);
            break;
        case 6:
            permute_pixels<6>(stored, start, step_x, step_y, turned);
            break;
        default:
            permute_pixels<8>(stored, start, step_x, step_y, turned);
            break;
    }
    return turned;
}

}  // namespace lumachrome
