#include "image/tone.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "image/color.hpp"

namespace lumachrome {
namespace {

constexpr int64_t kCells = 96;     // a side, at most
constexpr int64_t kSamples = 4;    // a side of a cell: enough to average noise away
constexpr size_t kLightness = 16;  // steps of L
// Lab units. A sepia print stays below 1.1 about its curve, dull colour photos are above 3.
constexpr double kNoChroma = 1, kOneColour = 2.5;

template <class T>
Lab cell_mean(const Image& image, int64_t row, int64_t rows, int64_t column, int64_t columns) {
    const auto place = [](int64_t cell, int64_t cells, int64_t sample, int64_t size) {
        return std::min(size - 1, (cell * kSamples + sample) * size / (cells * kSamples));
    };
    std::array<double, 3> sum{};
    for (int64_t i = 0; i < kSamples; ++i)
        for (int64_t j = 0; j < kSamples; ++j) {
            const T* const pixel = image.row<T>(place(row, rows, i, image.height)) +
                                   place(column, columns, j, image.width) * image.channels;
            for (size_t c = 0; c < 3; ++c) sum[c] += pixel[c];
        }
    const double scale = (sizeof(T) == 1 ? 255.0 : 65535.0) * kSamples * kSamples;
    return srgb_to_lab({sum[0] / scale, sum[1] / scale, sum[2] / scale});
}

}  // namespace

const char* name(Tone tone) {
    constexpr const char* kNames[] = {"gray", "tinted", "color"};
    return kNames[static_cast<int>(tone)];
}

Tone tone_of(const Image& image) {
    if (image.gray()) return Tone::gray;
    const int64_t rows = std::min(kCells, image.height), columns = std::min(kCells, image.width);
    std::vector<Lab> cells;
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t column = 0; column < columns; ++column)
            cells.push_back(image.bits == 8
                                ? cell_mean<uint8_t>(image, row, rows, column, columns)
                                : cell_mean<uint16_t>(image, row, rows, column, columns));
    struct Step {
        double a = 0, b = 0, count = 0;
    };
    std::array<Step, kLightness> steps;
    const auto step_of = [&](const Lab& cell) -> Step& {
        const auto i = static_cast<int64_t>(cell.l / 100 * double(kLightness));
        return steps[static_cast<size_t>(std::clamp<int64_t>(i, 0, kLightness - 1))];
    };
    double chroma = 0, about_curve = 0;
    for (const Lab& cell : cells) {
        Step& step = step_of(cell);
        step.a += cell.a, step.b += cell.b, step.count += 1;
        chroma += cell.a * cell.a + cell.b * cell.b;
    }
    for (const Lab& cell : cells) {
        const Step& step = step_of(cell);
        about_curve +=
            std::pow(cell.a - step.a / step.count, 2) + std::pow(cell.b - step.b / step.count, 2);
    }
    const auto count = static_cast<double>(cells.size());
    if (std::sqrt(chroma / count) < kNoChroma) return Tone::gray;
    return std::sqrt(about_curve / count) < kOneColour ? Tone::tinted : Tone::color;
}

}  // namespace lumachrome
