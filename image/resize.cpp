#include "image/resize.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "image/resize_axis.hpp"
#include "tensor/error.hpp"

namespace lumachrome {
namespace {

ResizeAxis make_axis(int64_t size, double begin, double length, int64_t out_size) {
    ResizeAxis axis;
    for (int64_t i = 0; i < out_size; ++i) {
        const AxisPixel pixel(size, begin, length, out_size, i);
        axis.taps.push_back({pixel.first, pixel.count, axis.weights.size()});
        for (int64_t k = 0; k < pixel.count; ++k) axis.weights.push_back(pixel.weight(k));
    }
    return axis;
}

// Channels > 0 is the compile-time number of channels; 0 reads it from `channels`.
template <int Channels>
void resize_row(const float* in, const ResizeAxis& columns, int64_t channels, float* out) {
    const int64_t step = Channels > 0 ? Channels : channels;
    for (const Taps& taps : columns.taps) {
        const float* weight = columns.weights.data() + taps.first_weight;
        const float* pixel = in + taps.first * step;
        for (int64_t c = 0; c < step; ++c) out[c] = weight[0] * pixel[c];
        for (int64_t k = 1; k < taps.count; ++k) {
            pixel += step;
            for (int64_t c = 0; c < step; ++c) out[c] += weight[k] * pixel[c];
        }
        out += step;
    }
}

void resize_row(const float* in, const ResizeAxis& columns, int64_t channels, float* out) {
    switch (channels) {
        case 1:
            return resize_row<1>(in, columns, channels, out);
        case 2:
            return resize_row<2>(in, columns, channels, out);
        case 3:
            return resize_row<3>(in, columns, channels, out);
        case 4:
            return resize_row<4>(in, columns, channels, out);
        default:
            return resize_row<0>(in, columns, channels, out);
    }
}

// out[i] = sum of weights[k] * rows(k)[i], in the order of k.
template <class RowOf>
void blend(const float* weights, int64_t count, const RowOf& row_of, int64_t begin, int64_t end,
           float* out) {
    const float* first = row_of(0);
    if (count == 1) {
        for (int64_t i = begin; i < end; ++i) out[i] = weights[0] * first[i];
        return;
    }
    const float* second = row_of(1);
    for (int64_t i = begin; i < end; ++i) out[i] = weights[0] * first[i] + weights[1] * second[i];
    for (int64_t k = 2; k < count; ++k) {
        const float* row = row_of(k);
        for (int64_t i = begin; i < end; ++i) out[i] += weights[k] * row[i];
    }
}

void check(const Shape& in, const Box& box, int64_t out_height, int64_t out_width) {
    const auto inside = [](double begin, double length, int64_t size) {  // false for NaN
        return begin >= 0 && length > 0 &&
               begin + length <= static_cast<double>(size) * (1 + 1e-12);
    };
    if (in.rank() != 3 || out_height < 1 || out_width < 1 || !inside(box.y, box.height, in[0]) ||
        !inside(box.x, box.width, in[1]))
        throw ShapeError("resize: cannot make " + std::to_string(out_height) + "x" +
                         std::to_string(out_width) + " of the box y " + std::to_string(box.y) +
                         " x " + std::to_string(box.x) + " height " + std::to_string(box.height) +
                         " width " + std::to_string(box.width) + " in " + in.str());
}

Box whole(const Shape& in) {
    return {0, 0, static_cast<double>(in[0]), static_cast<double>(in[1])};
}

}  // namespace

RowResizer::RowResizer(const Shape& in, int64_t out_height, int64_t out_width)
    : RowResizer(in, whole(in), out_height, out_width) {}

RowResizer::RowResizer(const Shape& in, const Box& box, int64_t out_height, int64_t out_width)
    : in_width_(in[1]), channels_(in[2]) {
    check(in, box, out_height, out_width);
    rows_ = make_axis(in[0], box.y, box.height, out_height);
    columns_ = make_axis(in[1], box.x, box.width, out_width);
    same_columns_ = out_width == in_width_ && box.width == whole(in).width;
    across_first_ = !same_columns_ && static_cast<double>(out_height) >= box.height;
    window_width_ = (across_first_ ? out_width : in_width_) * channels_;
    kept_begin_ = next_kept_begin_ = rows_.taps.front().first;
}

RowRange RowResizer::push(const Exec& exec, const float* rows, int64_t count) {
    // The rows that the last push left over, in front of the new ones.
    kept_.swap(next_kept_);
    kept_begin_ = next_kept_begin_;
    const auto out_height = static_cast<int64_t>(rows_.taps.size());
    const int64_t first = std::clamp(kept_begin_, pushed_, pushed_ + count);  // above: not needed
    const int64_t last = std::clamp(rows_.taps.back().end(), first, pushed_ + count);
    last_begin_ = first;
    last_ = rows + (first - pushed_) * in_width_ * channels_;
    if (across_first_) {
        widened_.resize(static_cast<size_t>((last - first) * window_width_));
        parallel_for(exec, last - first, [&](int64_t i) {
            resize_row(last_ + i * in_width_ * channels_, columns_, channels_,
                       widened_.data() + i * window_width_);
        });
        last_ = widened_.data();
    }
    pushed_ += count;
    const RowRange ready{
        done_, static_cast<int64_t>(std::find_if(rows_.taps.begin() + done_, rows_.taps.end(),
                                                 [&](const Taps& t) { return t.end() > pushed_; }) -
                                    rows_.taps.begin())};
    done_ = ready.end;
    keep(done_ < out_height ? rows_.taps[static_cast<size_t>(done_)].first : last, last,
         ready.begin == ready.end);
    return ready;
}

// Leaves rows [begin, end) of the window for the next push. `unused`: make() has no row to make.
void RowResizer::keep(int64_t begin, int64_t end, bool unused) {
    next_kept_begin_ = begin;
    if (unused && begin == kept_begin_ && begin < last_begin_) {  // they move without a copy
        next_kept_.swap(kept_);
        next_kept_.insert(next_kept_.end(), last_, last_ + (end - last_begin_) * window_width_);
        return;
    }
    next_kept_.clear();
    for (int64_t y = begin; y < end; ++y)
        next_kept_.insert(next_kept_.end(), window_row(y), window_row(y) + window_width_);
}

const float* RowResizer::window_row(int64_t y) const {
    return y < last_begin_ ? kept_.data() + (y - kept_begin_) * window_width_
                           : last_ + (y - last_begin_) * window_width_;
}

void RowResizer::make(int64_t y, float* out) const {
    const Taps& taps = rows_.taps[static_cast<size_t>(y)];
    const float* weights = rows_.weights.data() + taps.first_weight;
    const auto row_of = [&](int64_t k) { return window_row(taps.first + k); };
    if (across_first_ || same_columns_)
        return blend(weights, taps.count, row_of, 0, window_width_, out);
    // Over the columns that are needed: one blended row at a time, which stays in cache.
    thread_local std::vector<float> blended;
    if (blended.size() < static_cast<size_t>(window_width_))
        blended.resize(static_cast<size_t>(window_width_));
    blend(weights, taps.count, row_of, columns_.taps.front().first * channels_,
          columns_.taps.back().end() * channels_, blended.data());
    resize_row(blended.data(), columns_, channels_, out);
}

Tensor resize_crop(const Tensor& in, const Box& box, int64_t out_height, int64_t out_width,
                   const Exec& exec) {
    RowResizer resizer(in.shape(), box, out_height, out_width);
    const int64_t in_height = in.shape()[0], channels = in.shape()[2];
    const int64_t in_row = in.shape()[1] * channels, out_row = out_width * channels;
    const Tensor result = Tensor::empty({out_height, out_width, channels}, DType::f32);
    // In portions when enlarging: the widened rows then stay in cache.
    const int64_t portion = static_cast<double>(out_height) >= box.height ? 32 : in_height;
    for (int64_t y = 0; y < in_height; y += portion) {
        const RowRange ready =
            resizer.push(exec, in.data<float>() + y * in_row, std::min(portion, in_height - y));
        parallel_for(exec, ready.end - ready.begin, [&](int64_t i) {
            resizer.make(ready.begin + i, result.data<float>() + (ready.begin + i) * out_row);
        });
    }
    return result;
}

Tensor resize(const Tensor& in, int64_t height, int64_t width, const Exec& exec) {
    return resize_crop(in, whole(in.shape()), height, width, exec);
}

}  // namespace lumachrome
