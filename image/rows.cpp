#include "image/rows.hpp"

#include <algorithm>

namespace lumachrome {
namespace {

// Pixels of the photo that are worked on at a time: many, because threads meet after each portion;
// few enough for the third-level cache (2 MiB of luma, 1.5 MiB of RGB) and to make no difference to
// the memory of the whole.
constexpr int64_t kBlockPixels = 1 << 19;

int64_t block_of(const Image& photo) {
    return std::clamp<int64_t>(kBlockPixels / photo.width, 1, photo.height);
}

}  // namespace

LumaRows::LumaRows(const Image& photo, int64_t height, int64_t width)
    : photo_(photo),
      width_(width),
      block_(block_of(photo)),
      resizer_({photo.height, photo.width, 1}, height, width),
      luma_(static_cast<size_t>(block_ * photo.width)) {}

void LumaRows::next(const Exec& exec, int64_t count, float* out) {
    while (count > 0) {
        const int64_t rows = std::min(count, ready_.end - ready_.begin);
        parallel_for(exec, rows,
                     [&](int64_t i) { resizer_.make(ready_.begin + i, out + i * width_); });
        ready_.begin += rows, out += rows * width_, count -= rows;
        if (count == 0) return;
        const int64_t block = std::min(block_, photo_.height - read_);
        parallel_for(exec, block, [&](int64_t i) {
            luma_row(photo_, read_ + i, luma_.data() + i * photo_.width);
        });
        ready_ = resizer_.push(exec, luma_.data(), block);
        read_ += block;
    }
}

ColorRows::ColorRows(const Image& photo, int64_t ab_height, int64_t ab_width, float saturation)
    : photo_(photo),
      ab_width_(ab_width),
      saturation_(saturation),
      block_(block_of(photo)),
      row_bytes_(merged(photo).row_bytes()),
      resizer_({ab_height, ab_width, 2}, photo.height, photo.width),
      merged_(static_cast<size_t>(block_ * row_bytes_)) {}

void ColorRows::push(const Exec& exec, const float* ab, int64_t rows, const Sink& sink) {
    const int64_t width = photo_.width;
    // In portions, because the resizer widens what it is given; ab has half the photo's rows or
    // less.
    const int64_t portion = std::max<int64_t>(1, block_ / 2);
    for (int64_t done = 0; done < rows; done += portion) {
        const RowRange ready =
            resizer_.push(exec, ab + done * ab_width_ * 2, std::min(portion, rows - done));
        for (int64_t begin = ready.begin; begin < ready.end; begin += block_) {
            const int64_t count = std::min(block_, ready.end - begin);
            parallel_for(exec, count, [&](int64_t i) {
                float* const chroma = scratch<float>(3 * width);
                float* const luma = chroma + 2 * width;
                resizer_.make(begin + i, chroma);
                luma_row(photo_, begin + i, luma);
                merge_row(photo_, begin + i, luma, chroma, saturation_,
                          merged_.data() + i * row_bytes_);
            });
            sink(merged_.data(), count);
        }
    }
}

}  // namespace lumachrome
