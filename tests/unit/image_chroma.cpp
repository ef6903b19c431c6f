// Chroma brought to a photo's size: lines against their definition in double, colours that keep to
// their side of an edge, two scales, and the same bits for any portions and any number of threads.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <random>

#include "image/rows.hpp"
#include "image/two_scale.hpp"
#include "unit/image_fixtures.hpp"

using namespace lumachrome;

namespace {

constexpr int64_t kGrids[][2] = {{1, 1}, {1, 40}, {30, 1}, {3, 4}, {23, 37}};

Tensor random_tensor(const Shape& shape, float low, float high, unsigned seed) {
    const Tensor t = Tensor::empty(shape, DType::f32);
    std::mt19937 random(seed);
    std::uniform_real_distribution<float> uniform(low, high);
    std::generate_n(t.data<float>(), t.numel(), [&] { return uniform(random); });
    return t;
}

// push(begin, count) for portions of 1..most rows; what it returns, behind each other.
template <class Push>
std::vector<float> in_portions(int64_t rows, int64_t row_floats, unsigned most, const Push& push) {
    std::mt19937 random(most);
    std::vector<float> out;
    for (int64_t begin = 0; begin < rows;) {
        const int64_t count = std::min<int64_t>(1 + random() % most, rows - begin);
        const RowSpan ready = push(begin, count);
        out.insert(out.end(), ready.data, ready.data + ready.count * row_floats);
        begin += count;
    }
    return out;
}

std::vector<float> lines_of(const Tensor& ab, const Tensor& luma, unsigned most, int threads) {
    const int64_t height = ab.shape()[0], width = ab.shape()[1];
    ChromaLines lines(height, width);
    return in_portions(height, 4 * width, most, [&](int64_t begin, int64_t count) {
        return lines.push({.threads = threads}, ab.data<float>() + begin * width * 2,
                          luma.data<float>() + begin * width, count);
    });
}

std::vector<uint8_t> colored(const Image& photo, const Tensor& ab, ChromaUpsampling upsampling,
                             int64_t portion = 1000, int threads = 1) {
    const int64_t height = ab.shape()[0], width = ab.shape()[1];
    ColorRows colors(photo, height, width, 1, upsampling);
    std::vector<uint8_t> out;
    for (int64_t y = 0; y < height; y += portion)
        colors.push({.threads = threads}, ab.data<float>() + y * width * 2,
                    std::min(portion, height - y), [&](const uint8_t* rows, int64_t count) {
                        out.insert(out.end(), rows, rows + count * merged(photo).row_bytes());
                    });
    return out;
}

// The definition in chroma_lines.hpp, one cell at a time.
struct Definition {
    const Tensor &ab, &luma;

    struct Cell {
        double luma, a, b;
    };
    Cell given(int64_t y, int64_t x) const {
        const int64_t width = ab.shape()[1], row = std::clamp<int64_t>(y, 0, ab.shape()[0] - 1),
                      i = row * width + std::clamp<int64_t>(x, 0, width - 1);
        return {luma.item(i), ab.item(2 * i), ab.item(2 * i + 1)};
    }
    Cell averaged(int64_t y, int64_t x) const {
        y = std::clamp<int64_t>(y, 0, ab.shape()[0] - 1);
        x = std::clamp<int64_t>(x, 0, ab.shape()[1] - 1);
        const Cell p = given(y, x);
        double sum = 0, a = 0, b = 0;
        for (int64_t dy = -4; dy <= 4; ++dy)
            for (int64_t dx = -4; dx <= 4; ++dx) {
                const Cell q = given(y + dy, x + dx);
                const double t = double(dy * dy + dx * dx) / (2 * 2 * 2) +
                                 std::pow((q.luma - p.luma) / 0.05, 2) / 2 +
                                 (std::pow((q.a - p.a) / 8, 2) + std::pow((q.b - p.b) / 8, 2)) / 2;
                const double w = std::pow(std::max(0.0, 1 - t / 8), 8);
                sum += w, a += w * q.a, b += w * q.b;
            }
        return {p.luma, a / sum, b / sum};
    }
    std::array<double, 4> line(int64_t y, int64_t x) const {
        Cell mean{};
        double square = 0, with_a = 0, with_b = 0;
        for (int64_t dy = -1; dy <= 1; ++dy)
            for (int64_t dx = -1; dx <= 1; ++dx) {
                const double w = (dy ? 0.25 : 0.5) * (dx ? 0.25 : 0.5);
                const Cell q = averaged(y + dy, x + dx);
                mean.luma += w * q.luma, mean.a += w * q.a, mean.b += w * q.b;
                square += w * q.luma * q.luma, with_a += w * q.luma * q.a,
                    with_b += w * q.luma * q.b;
            }
        const double least = square - mean.luma * mean.luma + 0.02;
        const double slope_a = (with_a - mean.luma * mean.a) / least,
                     slope_b = (with_b - mean.luma * mean.b) / least;
        const Cell p = averaged(y, x);
        return {slope_a, slope_b, p.a - slope_a * p.luma, p.b - slope_b * p.luma};
    }
};

// A dark wall left of `edge`, a bright sky right of it.
Image wall_and_sky(int64_t height, int64_t width, int64_t edge) {
    Image photo = Image::make(width, height, 1, 8);
    for (int64_t y = 0; y < height; ++y)
        for (int64_t x = 0; x < width; ++x) photo.row<uint8_t>(y)[x] = x < edge ? 70 : 180;
    return photo;
}

}  // namespace

TEST_CASE("image: lines of chroma follow their definition, in any portions and on any threads") {
    for (const auto& [height, width] : kGrids)
        for (const float contrast : {0.05f, 1.0f}) {
            const Tensor luma = random_tensor({height, width}, 0, contrast, 3);
            const Tensor ab = random_tensor({height, width, 2}, -20 * contrast, 20 * contrast, 5);
            const std::vector<float> lines = lines_of(ab, luma, 1000, 1);
            REQUIRE(lines.size() == size_t(height * width * 4));
            const Definition definition{ab, luma};
            for (int64_t i = 0; i < height * width; ++i) {
                const auto want = definition.line(i / width, i % width);
                for (size_t k = 0; k < 4; ++k)
                    REQUIRE(std::abs(lines[size_t(i) * 4 + k] - want[k]) < 2e-3);
            }
            for (const unsigned most : {1u, 3u, 9u})
                REQUIRE(lines_of(ab, luma, most, int(most)) == lines);
        }
}

TEST_CASE("image: lines come as soon as the five rows below a row are there") {
    ChromaLines lines(20, 3);
    const std::vector<float> ab(6), luma(3);
    int64_t done = 0;
    for (int64_t pushed = 1; pushed <= 20; ++pushed) {
        done += lines.push({}, ab.data(), luma.data(), 1).count;
        CHECK(done == (pushed == 20 ? 20 : std::max<int64_t>(0, pushed - 5)));
    }
}

TEST_CASE("image: a colour that strayed over an edge goes back to its side") {
    // Brown passes into blue over eight cells around the edge, as networks do it.
    constexpr int64_t kHeight = 320, kWidth = 320, kEdge = 163, kCells = 40;
    const Image photo = wall_and_sky(kHeight, kWidth, kEdge);
    const Tensor ab = Tensor::empty({kCells, kCells, 2}, DType::f32);
    for (int64_t i = 0; i < kCells * kCells; ++i) {
        const double across = (double(i % kCells) + 0.5) * 8 - kEdge;
        const double sky = std::clamp(0.5 + across / 64, 0.0, 1.0);
        ab.data<float>()[2 * i] = float(6 - 8 * sky);
        ab.data<float>()[2 * i + 1] = float(12 - 32 * sky);
    }
    struct Edge {
        double strayed = 0;  // mean distance of b to its side's own, within 16 pixels of the edge
        double step = 0;     // of b, over the 16 pixels in the middle of it
    };
    const auto edge_of = [&](ChromaUpsampling upsampling) {
        Image result = Image::make(kWidth, kHeight, 3, 8);
        result.bytes = colored(photo, ab, upsampling);
        const Tensor got = lab_ab(result);
        const auto b = [&](int64_t x) { return got.item((160 * kWidth + x) * 2 + 1); };
        Edge edge;
        for (int64_t x = kEdge - 16; x < kEdge + 16; ++x)
            edge.strayed += std::abs(b(x) - (x < kEdge ? 12 : -20)) / 32;
        edge.step = b(kEdge - 8) - b(kEdge + 7);
        return edge;
    };
    const Edge bilinear = edge_of(ChromaUpsampling::bilinear),
               edge_aware = edge_of(ChromaUpsampling::edge_aware);
    INFO("strayed " << bilinear.strayed << " " << edge_aware.strayed << ", step " << bilinear.step
                    << " " << edge_aware.step);
    CHECK(edge_aware.strayed < 0.85 * bilinear.strayed);
    CHECK(edge_aware.step > 1.5 * bilinear.step);
}

TEST_CASE("image: one colour stays one colour, whatever the photo shows") {
    const Image photo = random_image(90, 60, 1, 8, 7);
    Tensor ab = Tensor::empty({12, 18, 2}, DType::f32);
    for (int64_t i = 0; i < ab.numel(); ++i) ab.data<float>()[i] = i % 2 ? -7.0f : 11.0f;
    const auto smooth = colored(photo, ab, ChromaUpsampling::edge_aware),
               plain = colored(photo, ab, ChromaUpsampling::bilinear);
    REQUIRE(smooth.size() == plain.size());
    for (size_t i = 0; i < plain.size(); ++i) REQUIRE(std::abs(smooth[i] - plain[i]) <= 1);
}

TEST_CASE("image: edge-aware colours have the same bits in any portions and on any threads") {
    for (const int bits : {8, 16})
        for (const auto& [height, width] : {std::pair{300, 417}, {64, 9000}, {9000, 64}}) {
            const Image photo = random_image(width, height, bits == 8 ? 1 : 4, bits, 11);
            const Tensor ab = random_tensor({31, 44, 2}, -40, 40, 13);
            const auto whole = colored(photo, ab, ChromaUpsampling::edge_aware);
            REQUIRE(whole.size() == size_t(height * merged(photo).row_bytes()));
            for (const int portion : {1, 4, 13})
                REQUIRE(colored(photo, ab, ChromaUpsampling::edge_aware, portion, portion) ==
                        whole);
        }
}

TEST_CASE("image: where ab is not smaller than the photo it is resized") {
    const Tensor ab = random_tensor({31, 44, 2}, -40, 40, 17);
    for (const auto& [height, width] : {std::pair{31, 44}, {10, 12}, {31, 500}, {400, 44}}) {
        const Image photo = random_image(width, height, 1, 8, 19);
        CHECK(colored(photo, ab, ChromaUpsampling::edge_aware) ==
              colored(photo, ab, ChromaUpsampling::bilinear));
    }
}

TEST_CASE("image: two scales are the large one's details on the small one's tint") {
    for (const auto& [small_height, small_width] : {std::pair{1, 1}, {16, 24}, {41, 30}})
        for (const auto& [height, width] : {std::pair{50, 60}, {200, 90}}) {
            const Tensor small = random_tensor({small_height, small_width, 2}, -50, 50, 23);
            const Tensor large = random_tensor({height, width, 2}, -50, 50, 29);
            const int64_t rows = std::max(1, small_height / 4),
                          columns = std::max(1, small_width / 4);
            const Tensor tint = resize(small, rows, columns), own = resize(large, rows, columns);
            const Tensor difference = Tensor::empty(tint.shape(), DType::f32);
            for (int64_t i = 0; i < tint.numel(); ++i)
                difference.data<float>()[i] = tint.data<float>()[i] - own.data<float>()[i];
            const Tensor change = resize(difference, height, width);
            for (const unsigned most : {1u, 8u, 500u}) {
                TwoScaleRows scales(small, height, width, {});
                const auto out = in_portions(
                    height, 2 * width, most, [&, w = width](int64_t begin, int64_t count) {
                        return scales.push({.threads = int(most % 7)},
                                           large.data<float>() + begin * w * 2, count);
                    });
                REQUIRE(out.size() == size_t(large.numel()));
                for (size_t i = 0; i < out.size(); ++i)
                    REQUIRE(out[i] == change.data<float>()[i] + large.data<float>()[i]);
            }
        }
}
