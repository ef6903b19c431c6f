// A photo's way in and out of the network in rows, so that a tall photo needs no more memory than
// its own bytes: nothing of its size is ever held as floats, nor the result at all.
//
//   photo -> LumaRows -> network's rows ... ab rows -> ColorRows -> rows of colour -> RowEncoder
//
// Both give the bits of the functions on whole images, however the rows are portioned.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "image/chroma_lines.hpp"
#include "image/color.hpp"
#include "image/resize.hpp"

namespace lumachrome {

// resize(luma(photo), height, width), from top to bottom. The photo must outlive it.
class LumaRows {
  public:
    LumaRows(const Image& photo, int64_t height, int64_t width);
    LumaRows(const LumaRows&) = delete;
    LumaRows& operator=(const LumaRows&) = delete;

    // The next rows: out [count,width] f32. No more than `height` in all.
    void next(const Exec& exec, int64_t count, float* out);

  private:
    const Image& photo_;
    int64_t width_, block_, read_ = 0;
    RowResizer resizer_;
    std::vector<float> luma_;  // of block_ rows of the photo
    RowRange ready_;
};

// How the network's ab comes to the photo's size.
enum class ChromaUpsampling {
    edge_aware,  // by chroma_lines.hpp, when ab is smaller than the photo both ways
    bilinear     // resize(ab, photo's size)
};

// merge_luma_chroma(photo, luma(photo), ab at the photo's size, saturation), in the order in which
// a network gives its ab. The photo must outlive it.
class ColorRows {
  public:
    // `count` rows of the image with the header merged(photo), valid during the call.
    using Sink = std::function<void(const uint8_t* rows, int64_t count)>;

    // ab [ab_height,ab_width,2] f32 in Lab units.
    ColorRows(const Image& photo, int64_t ab_height, int64_t ab_width, float saturation,
              ChromaUpsampling upsampling);
    ColorRows(const ColorRows&) = delete;
    ColorRows& operator=(const ColorRows&) = delete;

    // The next rows of ab; what they complete goes to the sink, in order. What the sink throws
    // passes through.
    void push(const Exec& exec, const float* ab, int64_t rows, const Sink& sink);

  private:
    struct Guide {
        Guide(const Image& photo, int64_t height, int64_t width);
        RowSpan push(const Exec& exec, RowSpan ab);

        int64_t width;
        LumaRows luma;  // of the cells
        ChromaLines lines;
        std::vector<float> cell_luma;
    };
    void merge(const Exec& exec, RowRange rows, const Sink& sink);

    const Image& photo_;
    int64_t ab_width_;
    float saturation_;
    int64_t block_, row_bytes_;     // of the result
    std::unique_ptr<Guide> guide_;  // null: bilinear
    RowResizer resizer_;            // of ab or, with a guide, of its lines
    std::vector<uint8_t> merged_;   // block_ rows of the result
};

}  // namespace lumachrome
