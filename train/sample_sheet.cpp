#include "train/sample_sheet.hpp"

#include <algorithm>
#include <cmath>

#include "image/color.hpp"
#include "image/resize.hpp"
#include "tensor/error.hpp"

namespace lumachrome {
namespace {

constexpr int64_t kGap = 4;

// Draws `photo` into the square at (x0, y0), its longer side fitted. Averages gamma-encoded values,
// as thumbnails do.
void paste(Image& sheet, const Image& photo, int64_t x0, int64_t y0, int64_t side) {
    const Tensor samples = Tensor::empty({photo.height, photo.width, 3});
    for (int64_t y = 0; y < photo.height; ++y)
        for (int64_t x = 0; x < photo.width; ++x)
            for (int64_t c = 0; c < 3; ++c) {
                const int64_t i = x * photo.channels + (photo.gray() ? 0 : c);
                samples.data<float>()[(y * photo.width + x) * 3 + c] =
                    photo.bits == 8 ? photo.row<uint8_t>(y)[i]
                                    : float(photo.row<uint16_t>(y)[i]) / 257;
            }
    const double scale = double(side) / double(std::max(photo.width, photo.height));
    const auto fit = [&](int64_t length) {
        return std::max<int64_t>(1, std::llround(double(length) * scale));
    };
    const int64_t height = fit(photo.height), width = fit(photo.width);
    const Tensor small = resize(samples, height, width);
    for (int64_t y = 0; y < height; ++y)
        for (int64_t i = 0; i < width * 3; ++i)
            sheet.row<uint8_t>(y0 + y)[x0 * 3 + i] = static_cast<uint8_t>(
                std::clamp(std::lround(small.data<float>()[y * width * 3 + i]), 0l, 255l));
}

}  // namespace

Image contact_sheet(const std::vector<std::vector<Image>>& photos, int64_t columns, int64_t side) {
    const auto count = static_cast<int64_t>(photos.size());
    const auto tiles = static_cast<int64_t>(photos.front().size());
    columns = std::min(columns, count);
    const int64_t rows = (count + columns - 1) / columns, group = tiles * side + (tiles - 1) * kGap;
    Image sheet =
        Image::make(columns * (group + 2 * kGap) - 2 * kGap, rows * (side + kGap) - kGap, 3, 8);
    std::fill(sheet.bytes.begin(), sheet.bytes.end(), uint8_t{255});
    for (int64_t i = 0; i < count; ++i)
        for (int64_t t = 0; t < tiles; ++t)
            paste(sheet, photos[size_t(i)][size_t(t)],
                  i % columns * (group + 2 * kGap) + t * (side + kGap), i / columns * (side + kGap),
                  side);
    return sheet;
}

Image sample_sheet(std::span<Colorizer* const> colorizers, const Dataset& data, int64_t limit,
                   int64_t count, int64_t columns, int64_t side, const ColorizeSettings& settings) {
    const int64_t photos = limit > 0 ? std::min(limit, data.size()) : data.size();
    count = std::min(count, photos);
    if (count < 1) throw InputError("samples: the data hold no photo");
    std::vector<std::vector<Image>> tiles;
    for (int64_t i = 0; i < count; ++i) {
        const Photo photo = data.read(i * photos / count);
        const Tensor no_chroma = Tensor::zeros({photo.image.height, photo.image.width, 2});
        std::vector<Image>& row = tiles.emplace_back();
        row.push_back(merge_luma_chroma(photo.image, luma(photo.image), no_chroma));
        for (Colorizer* colorizer : colorizers)
            row.push_back(colorizer->colorize(photo.image, settings).image);
        row.push_back(photo.image);
    }
    return contact_sheet(tiles, columns, side);
}

}  // namespace lumachrome
