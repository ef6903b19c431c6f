#include "apps/commands/explain_pictures.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "image/color.hpp"
#include "image/resize.hpp"

namespace lumachrome {
namespace {

// From cool through pale to warm (after ColorBrewer's RdYlBu), which reads on any gray.
constexpr std::array<std::array<double, 3>, 5> kRamp = {
    {{44, 123, 182}, {171, 217, 233}, {255, 255, 191}, {253, 174, 97}, {215, 25, 28}}};

std::array<double, 3> ramp(double share) {
    const double at = std::clamp(share, 0.0, 1.0) * double(kRamp.size() - 1);
    const auto i = std::min<size_t>(static_cast<size_t>(at), kRamp.size() - 2);
    std::array<double, 3> color{};
    for (size_t c = 0; c < 3; ++c)
        color[c] = std::lerp(kRamp[i][c], kRamp[i + 1][c], at - double(i));
    return color;
}

uint8_t byte(double value) {
    return static_cast<uint8_t>(std::clamp(std::lround(value), 0l, 255l));
}

}  // namespace

Image gray_picture(const Image& photo) {
    const Tensor no_chroma = Tensor::zeros({photo.height, photo.width, 2});
    return merge_luma_chroma(photo, luma(photo), no_chroma);
}

Image chroma_picture(const Image& photo) {
    constexpr double kLuma = 0.6;  // light enough for blue, dark enough for yellow
    return merge_luma_chroma(photo, Tensor::full({photo.height, photo.width, 1}, kLuma),
                             lab_ab(photo));
}

Image map_picture(const Tensor& map, int64_t side) {
    std::vector<float> sorted(map.data<float>(), map.data<float>() + map.numel());
    std::sort(sorted.begin(), sorted.end());
    const double low = sorted[sorted.size() / 100], high = sorted[sorted.size() * 99 / 100];
    const double span = high > low ? high - low : 1;
    const int64_t h = map.shape()[0], w = map.shape()[1];
    const double scale = double(side) / double(std::max(h, w));
    const auto enlarged = [&](int64_t length) {
        return std::max<int64_t>(1, std::llround(double(length) * scale));
    };
    const Tensor large = resize(map, enlarged(h), enlarged(w));
    Image picture = Image::make(large.shape()[1], large.shape()[0], 3, 8);
    for (int64_t i = 0; i < large.numel(); ++i)
        std::fill_n(picture.bytes.begin() + i * 3, 3,
                    byte(255 * (large.data<float>()[i] - low) / span));
    return picture;
}

Image heat_picture(const Image& photo, const Tensor& map) {
    Image picture = gray_picture(photo);
    const Tensor heat = resize(map, photo.height, photo.width);
    constexpr double kTint = 0.55;
    for (int64_t i = 0; i < heat.numel(); ++i) {
        const auto color = ramp(heat.data<float>()[i]);
        for (size_t c = 0; c < 3; ++c) {
            uint8_t& sample = picture.bytes[size_t(i) * 3 + c];
            sample = byte(std::lerp(double(sample), color[c], kTint));
        }
    }
    return picture;
}

Image grid_picture(const std::vector<Image>& pictures, int64_t columns) {
    constexpr int64_t kGap = 4;
    const auto count = static_cast<int64_t>(pictures.size());
    columns = std::min(columns, count);
    const int64_t width = pictures[0].width + kGap, height = pictures[0].height + kGap;
    Image grid =
        Image::make(columns * width - kGap, (count + columns - 1) / columns * height - kGap, 3, 8);
    std::fill(grid.bytes.begin(), grid.bytes.end(), uint8_t{128});
    for (int64_t i = 0; i < count; ++i)
        for (int64_t y = 0; y < pictures[size_t(i)].height; ++y)
            std::copy_n(pictures[size_t(i)].row<uint8_t>(y), pictures[size_t(i)].row_bytes(),
                        grid.row<uint8_t>(i / columns * height + y) + i % columns * width * 3);
    return grid;
}

}  // namespace lumachrome
