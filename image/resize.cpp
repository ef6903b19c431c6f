#include "image/resize.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "tensor/error.hpp"

namespace lumachrome {
namespace {

// Output pixel i of one axis is the sum of weights[first_weight + k] * in[first + k], k < count.
struct Taps {
    int64_t first = 0, count = 0;
    size_t first_weight = 0;
};
struct Axis {
    std::vector<Taps> taps;
    std::vector<float> weights;
};

Axis make_axis(int64_t size, double begin, double length, int64_t out_size) {
    Axis axis;
    const double scale = length / static_cast<double>(out_size);
    const auto last = static_cast<double>(size - 1);
    for (int64_t i = 0; i < out_size; ++i) {
        const size_t first_weight = axis.weights.size();
        const auto index = static_cast<double>(i);
        double first;
        if (scale > 1) {
            const double low = begin + index * scale, high = std::min(low + scale, last + 1);
            first = std::min(std::floor(low), last);
            for (double pixel = first; pixel < high; ++pixel) {
                const double covered = std::min(high, pixel + 1) - std::max(low, pixel);
                axis.weights.push_back(static_cast<float>(covered / (high - low)));
            }
        } else {
            const double centre = std::clamp(begin + (index + 0.5) * scale - 0.5, 0.0, last);
            first = std::floor(centre);
            const auto fraction = static_cast<float>(centre - first);
            axis.weights.push_back(1 - fraction);
            if (fraction > 0) axis.weights.push_back(fraction);
        }
        axis.taps.push_back({static_cast<int64_t>(first),
                             static_cast<int64_t>(axis.weights.size() - first_weight),
                             first_weight});
    }
    return axis;
}

// Channels > 0 is the compile-time number of channels; 0 reads it from `channels`.
template <int Channels>
void resize_row(const float* in, const Axis& columns, int64_t channels, float* out) {
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

void resize_row(const float* in, const Axis& columns, int64_t channels, float* out) {
    switch (channels) {
        case 1:
            return resize_row<1>(in, columns, channels, out);
        case 2:
            return resize_row<2>(in, columns, channels, out);
        case 3:
            return resize_row<3>(in, columns, channels, out);
        default:
            return resize_row<0>(in, columns, channels, out);
    }
}

}  // namespace

Tensor resize_crop(const Tensor& in, const Box& box, int64_t out_height, int64_t out_width) {
    const Shape& shape = in.shape();
    const int64_t height = shape[0], width = shape[1], channels = shape[2];
    const auto inside = [](double begin, double length, int64_t size) {  // false for NaN
        return begin >= 0 && length > 0 &&
               begin + length <= static_cast<double>(size) * (1 + 1e-12);
    };
    if (shape.rank() != 3 || out_height < 1 || out_width < 1 ||
        !inside(box.y, box.height, height) || !inside(box.x, box.width, width))
        throw ShapeError("resize: cannot make " + std::to_string(out_height) + "x" +
                         std::to_string(out_width) + " of the box y " + std::to_string(box.y) +
                         " x " + std::to_string(box.x) + " height " + std::to_string(box.height) +
                         " width " + std::to_string(box.width) + " in " + shape.str());

    const Axis rows = make_axis(height, box.y, box.height, out_height);
    const Axis columns = make_axis(width, box.x, box.width, out_width);
    // Rows first, over the columns that are needed: one blended row at a time, which stays in
    // cache.
    const int64_t begin = columns.taps.front().first * channels;
    const int64_t end = (columns.taps.back().first + columns.taps.back().count) * channels;
    std::vector<float> blended(static_cast<size_t>(width * channels));
    Tensor result = Tensor::empty({out_height, out_width, channels}, DType::f32);
    const float* source = in.data<float>();
    float* out = result.data<float>();
    for (const Taps& taps : rows.taps) {
        const float* row = source + taps.first * width * channels;
        const float* weight = rows.weights.data() + taps.first_weight;
        for (int64_t i = begin; i < end; ++i) blended[static_cast<size_t>(i)] = weight[0] * row[i];
        for (int64_t k = 1; k < taps.count; ++k) {
            row += width * channels;
            for (int64_t i = begin; i < end; ++i)
                blended[static_cast<size_t>(i)] += weight[k] * row[i];
        }
        resize_row(blended.data(), columns, channels, out);
        out += out_width * channels;
    }
    return result;
}

Tensor resize(const Tensor& in, int64_t height, int64_t width) {
    const Box whole{0, 0, static_cast<double>(in.shape()[0]), static_cast<double>(in.shape()[1])};
    return resize_crop(in, whole, height, width);
}

}  // namespace lumachrome
