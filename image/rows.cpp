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

ColorRows::Guide::Guide(const Image& photo, int64_t height, int64_t grid_width)
    : width(grid_width), luma(photo, height, width), lines(height, width) {}

ColorRows::ColorRows(const Image& photo, int64_t ab_height, int64_t ab_width, float saturation,
                     ChromaUpsampling upsampling)
    : photo_(photo),
      ab_width_(ab_width),
      saturation_(saturation),
      block_(block_of(photo)),
      row_bytes_(merged(photo).row_bytes()),
      guide_(upsampling == ChromaUpsampling::edge_aware && ab_height < photo.height &&
                     ab_width < photo.width
                 ? std::make_unique<Guide>(photo, ab_height, ab_width)
                 : nullptr),
      resizer_({ab_height, ab_width, guide_ ? 4 : 2}, photo.height, photo.width),
      merged_(static_cast<size_t>(block_ * row_bytes_)) {}

RowSpan ColorRows::Guide::push(const Exec& exec, RowSpan ab) {
    cell_luma.resize(static_cast<size_t>(ab.count * width));
    luma.next(exec, ab.count, cell_luma.data());
    return lines.push(exec, ab.data, cell_luma.data(), ab.count);
}

void ColorRows::push(const Exec& exec, const float* ab, int64_t rows, const Sink& sink) {
    // In portions, because the resizer widens what it is given; ab has half the photo's rows or
    // less.
    const int64_t portion = std::max<int64_t>(1, block_ / 2);
    for (int64_t done = 0; done < rows; done += portion) {
        RowSpan cells{ab + done * ab_width_ * 2, std::min(portion, rows - done)};
        if (guide_) cells = guide_->push(exec, cells);
        merge(exec, resizer_.push(exec, cells.data, cells.count), sink);
    }
}

void ColorRows::merge(const Exec& exec, RowRange rows, const Sink& sink) {
    const int64_t width = photo_.width;
    for (int64_t begin = rows.begin; begin < rows.end; begin += block_) {
        const int64_t count = std::min(block_, rows.end - begin);
        parallel_for(exec, count, [&](int64_t i) {
            float* const luma = scratch<float>(7 * width);
            float *const chroma = luma + width, *const lines = chroma + 2 * width;
            luma_row(photo_, begin + i, luma);
            resizer_.make(begin + i, guide_ ? lines : chroma);
            if (guide_) read_lines(lines, luma, width, chroma);
            merge_row(photo_, begin + i, luma, chroma, saturation_,
                      merged_.data() + i * row_bytes_);
        });
        sink(merged_.data(), count);
    }
}

}  // namespace lumachrome
