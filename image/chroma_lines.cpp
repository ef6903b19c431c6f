#include "image/chroma_lines.hpp"

#include <algorithm>
#include <utility>

namespace lumachrome {
namespace {

constexpr int64_t kReach = 4;  // of the mean of like cells, in rows and columns
constexpr float kSpace = 2, kLuma = 0.05f, kChroma = 8, kLeastVariance = 0.02f;
constexpr int64_t kFitReach = 1;
static_assert(kReach <= CellRows::kMargin && kFitReach <= CellRows::kMargin);

// t/8 of a difference d is d^2 times this.
constexpr float per_square(float sigma) {
    return 1 / (8 * 2 * sigma * sigma);
}

float eighth_power(float x) {
    const float square = x * x, fourth = square * square;
    return fourth * fourth;
}

}  // namespace

CellRows::CellRows(int64_t height, int64_t width) : height_(height), width_(width) {}

int64_t CellRows::surrounded(int64_t reach) const {
    return end_ == height_ ? height_ : std::max<int64_t>(0, end_ - reach);
}

void CellRows::append(int64_t count) {
    end_ += count;
    planes_.resize(static_cast<size_t>((end_ - begin_) * 3 * (width_ + 2 * kMargin)));
}

void CellRows::drop_before(int64_t y) {
    const int64_t rows = std::clamp<int64_t>(y - begin_, 0, end_ - begin_);
    planes_.erase(planes_.begin(), planes_.begin() + rows * 3 * (width_ + 2 * kMargin));
    begin_ += rows;
}

const float* CellRows::plane(int64_t y, int64_t channel) const {
    const int64_t row = std::clamp<int64_t>(y, 0, height_ - 1) - begin_;
    return planes_.data() + (row * 3 + channel) * (width_ + 2 * kMargin) + kMargin;
}

float* CellRows::plane(int64_t y, int64_t channel) {
    return const_cast<float*>(std::as_const(*this).plane(y, channel));
}

void CellRows::copy_ends(int64_t y) {
    for (int64_t channel = 0; channel < 3; ++channel) {
        float* const cells = plane(y, channel);
        std::fill_n(cells - kMargin, kMargin, cells[0]);
        std::fill_n(cells + width_, kMargin, cells[width_ - 1]);
    }
}

ChromaLines::ChromaLines(int64_t height, int64_t width)
    : width_(width), given_(height, width), averaged_(height, width) {}

RowSpan ChromaLines::push(const Exec& exec, const float* ab, const float* luma, int64_t count) {
    const int64_t begin = given_.end();
    given_.append(count);
    parallel_for(exec, count, [&](int64_t i) {
        std::copy_n(luma + i * width_, width_, given_.plane(begin + i, 0));
        float *const a = given_.plane(begin + i, 1), *const b = given_.plane(begin + i, 2);
        for (int64_t x = 0; x < width_; ++x)
            a[x] = ab[(i * width_ + x) * 2], b[x] = ab[(i * width_ + x) * 2 + 1];
        given_.copy_ends(begin + i);
    });

    const int64_t first = averaged_.end(), averaged = given_.surrounded(kReach) - first;
    averaged_.append(averaged);
    parallel_for(exec, averaged, [&](int64_t i) { average_like(first + i); });
    given_.drop_before(averaged_.end() - kReach);

    const int64_t fitted = averaged_.surrounded(kFitReach) - done_;
    lines_.resize(static_cast<size_t>(fitted * width_ * 4));
    parallel_for(exec, fitted, [&](int64_t i) { fit(done_ + i, lines_.data() + i * width_ * 4); });
    done_ += fitted;
    averaged_.drop_before(done_ - kFitReach);
    return {lines_.data(), fitted};
}

void ChromaLines::average_like(int64_t y) {
    const float *const luma = given_.plane(y, 0), *const a = given_.plane(y, 1),
                       *const b = given_.plane(y, 2);
    float* const weights = scratch<float>(width_);
    float *const sum_a = averaged_.plane(y, 1), *const sum_b = averaged_.plane(y, 2);
    std::fill_n(weights, width_, 0.0f);
    std::fill_n(sum_a, width_, 0.0f);
    std::fill_n(sum_b, width_, 0.0f);
    for (int64_t dy = -kReach; dy <= kReach; ++dy)
        for (int64_t dx = -kReach; dx <= kReach; ++dx) {
            const float *const other_luma = given_.plane(y + dy, 0) + dx,
                               *const other_a = given_.plane(y + dy, 1) + dx,
                               *const other_b = given_.plane(y + dy, 2) + dx;
            const float near = 1 - static_cast<float>(dy * dy + dx * dx) * per_square(kSpace);
#pragma omp simd
            for (int64_t x = 0; x < width_; ++x) {
                const float d_luma = other_luma[x] - luma[x], d_a = other_a[x] - a[x],
                            d_b = other_b[x] - b[x];
                const float like = near - d_luma * d_luma * per_square(kLuma) -
                                   (d_a * d_a + d_b * d_b) * per_square(kChroma);
                const float weight = eighth_power(like > 0 ? like : 0);
                weights[x] += weight;
                sum_a[x] += weight * other_a[x];
                sum_b[x] += weight * other_b[x];
            }
        }
    for (int64_t x = 0; x < width_; ++x) sum_a[x] /= weights[x], sum_b[x] /= weights[x];
    std::copy_n(luma, width_, averaged_.plane(y, 0));
    averaged_.copy_ends(y);
}

void ChromaLines::fit(int64_t y, float* lines) const {
    const float *const luma = averaged_.plane(y, 0), *const a = averaged_.plane(y, 1),
                       *const b = averaged_.plane(y, 2);
    // Sums of differences to the middle cell and of their products.
    enum Sum { d_luma, d_a, d_b, luma_luma, luma_a, luma_b, kSums };
    float* const sums = scratch<float>(kSums * width_);
    std::fill_n(sums, kSums * width_, 0.0f);
    const auto sum = [&](Sum which) { return sums + which * width_; };
    for (int64_t dy = -kFitReach; dy <= kFitReach; ++dy)
        for (int64_t dx = -kFitReach; dx <= kFitReach; ++dx) {
            const float *const other_luma = averaged_.plane(y + dy, 0) + dx,
                               *const other_a = averaged_.plane(y + dy, 1) + dx,
                               *const other_b = averaged_.plane(y + dy, 2) + dx;
            const float weight = (dy == 0 ? 0.5f : 0.25f) * (dx == 0 ? 0.5f : 0.25f);
#pragma omp simd
            for (int64_t x = 0; x < width_; ++x) {
                const float l = other_luma[x] - luma[x], weighted = weight * l;
                const float to_a = other_a[x] - a[x], to_b = other_b[x] - b[x];
                sum(d_luma)[x] += weighted;
                sum(d_a)[x] += weight * to_a;
                sum(d_b)[x] += weight * to_b;
                sum(luma_luma)[x] += weighted * l;
                sum(luma_a)[x] += weighted * to_a;
                sum(luma_b)[x] += weighted * to_b;
            }
        }
    for (int64_t x = 0; x < width_; ++x) {
        const float mean = sum(d_luma)[x];
        const float variance = std::max(0.0f, sum(luma_luma)[x] - mean * mean);
        const float scale = 1 / (variance + kLeastVariance);
        const float slope_a = (sum(luma_a)[x] - mean * sum(d_a)[x]) * scale;
        const float slope_b = (sum(luma_b)[x] - mean * sum(d_b)[x]) * scale;
        float* const line = lines + 4 * x;
        line[0] = slope_a, line[1] = slope_b;
        line[2] = a[x] - slope_a * luma[x], line[3] = b[x] - slope_b * luma[x];
    }
}

void read_lines(const float* lines, const float* luma, int64_t width, float* ab) {
    for (int64_t x = 0; x < width; ++x) {
        ab[2 * x] = lines[4 * x] * luma[x] + lines[4 * x + 2];
        ab[2 * x + 1] = lines[4 * x + 1] * luma[x] + lines[4 * x + 3];
    }
}

}  // namespace lumachrome
