#include "apps/serve/pixels.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "image/color.hpp"
#include "image/resize.hpp"

namespace lumachrome {
namespace {

constexpr int64_t kBlockSamples = 1 << 20;  // read at a time

template <class T>
void shrink(const Image& photo, Image& out, const Exec& exec) {
    const int channels = photo.channels;
    RowResizer resizer({photo.height, photo.width, channels}, out.height, out.width);
    const int64_t samples = photo.width * channels;
    const int64_t block = std::clamp<int64_t>(kBlockSamples / samples, 1, photo.height);
    std::vector<float> rows(static_cast<size_t>(block * samples));
    for (int64_t read = 0; read < photo.height; read += block) {
        const int64_t count = std::min(block, photo.height - read);
        parallel_for(exec, count, [&](int64_t i) {
            const T* const from = photo.row<T>(read + i);
            std::copy(from, from + samples, rows.begin() + i * samples);
        });
        const RowRange ready = resizer.push(exec, rows.data(), count);
        parallel_for(exec, ready.end - ready.begin, [&](int64_t i) {
            float* const made = scratch<float>(out.width * channels);
            resizer.make(ready.begin + i, made);
            T* const to = out.row<T>(ready.begin + i);
            for (int64_t x = 0; x < out.width * channels; ++x)
                to[x] = static_cast<T>(std::lround(made[x]));
        });
    }
}

template <class T>
void blend_over_white(const Image& photo, Image& out, const Exec& exec) {
    constexpr int64_t kWhite = std::numeric_limits<T>::max();
    parallel_for(exec, photo.height, [&](int64_t y) {
        const T* from = photo.row<T>(y);
        T* to = out.row<T>(y);
        for (int64_t x = 0; x < photo.width; ++x) {
            const int64_t alpha = from[out.channels];
            for (int c = 0; c < out.channels; ++c)
                *to++ = static_cast<T>((from[c] * alpha + kWhite * (kWhite - alpha) + kWhite / 2) /
                                       kWhite);
            from += photo.channels;
        }
    });
}

}  // namespace

Image shrunk(const Image& photo, int64_t longest, const Exec& exec) {
    const int64_t longer = std::max(photo.width, photo.height);
    const auto side = [&](int64_t own) {
        return longer <= longest ? own
                                 : std::max<int64_t>(1, (own * longest + longer / 2) / longer);
    };
    Image out = Image::make(side(photo.width), side(photo.height), photo.channels, photo.bits);
    out.icc = photo.icc;
    if (longer <= longest)
        out.bytes = photo.bytes;
    else if (photo.bits == 8)
        shrink<uint8_t>(photo, out, exec);
    else
        shrink<uint16_t>(photo, out, exec);
    return out;
}

Image gray_of(const Image& photo, const Exec& exec) {
    Image out = Image::make(photo.width, photo.height, 1, 8);
    parallel_for(exec, photo.height, [&](int64_t y) {
        float* const luma = scratch<float>(photo.width);
        luma_row(photo, y, luma);
        uint8_t* const to = out.row<uint8_t>(y);
        for (int64_t x = 0; x < photo.width; ++x)
            to[x] = static_cast<uint8_t>(std::lround(luma[x] * 255));
    });
    return out;
}

Image without_alpha(Image photo, const Exec& exec) {
    if (!photo.has_alpha()) return photo;
    Image out = Image::make(photo.width, photo.height, photo.channels - 1, photo.bits);
    if (photo.bits == 8)
        blend_over_white<uint8_t>(photo, out, exec);
    else
        blend_over_white<uint16_t>(photo, out, exec);
    out.icc = std::move(photo.icc);
    out.metadata = std::move(photo.metadata);
    return out;
}

}  // namespace lumachrome
