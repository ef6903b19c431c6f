// Photos in rows: the same bits as whole ones, for any portions and any number of threads.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <stdexcept>

#include "image/rows.hpp"
#include "unit/image_fixtures.hpp"

using namespace lumachrome;

namespace {

constexpr int64_t kSizes[][2] = {{1, 1},   {1, 300},  {700, 1}, {7, 5},
                                 {33, 64}, {501, 19}, {90, 700}};

Tensor random_tensor(const Shape& shape, float range, unsigned seed) {
    const Tensor t = Tensor::empty(shape, DType::f32);
    std::mt19937 random(seed);
    std::uniform_real_distribution<float> uniform(-range, range);
    std::generate_n(t.data<float>(), t.numel(), [&] { return uniform(random); });
    return t;
}

// Portions of 1..most rows that add up to `rows`; calls body(begin, count).
template <class Body>
void in_portions(int64_t rows, unsigned most, unsigned seed, const Body& body) {
    std::mt19937 random(seed);
    for (int64_t begin = 0; begin < rows;) {
        const int64_t count = std::min<int64_t>(1 + random() % most, rows - begin);
        body(begin, count);
        begin += count;
    }
}

// Nothing in common with RowResizer but the rules of resize.hpp, in double.
double resized(const Tensor& in, int64_t c, int64_t height, int64_t width, int64_t y, int64_t x) {
    struct Weighted {
        int64_t at;
        double weight;
    };
    const auto taps = [](int64_t size, int64_t out, int64_t i) {
        std::vector<Weighted> result;
        const double scale = double(size) / double(out), low = double(i) * scale;
        if (scale > 1) {
            for (int64_t p = 0; p < size; ++p) {
                const double covered =
                    std::min(low + scale, double(p + 1)) - std::max(low, double(p));
                if (covered > 0) result.push_back({p, covered / scale});
            }
        } else {
            const double centre = std::clamp((double(i) + .5) * scale - .5, 0.0, double(size - 1));
            const auto first = static_cast<int64_t>(centre);
            result.push_back({first, 1 - (centre - double(first))});
            result.push_back({std::min(first + 1, size - 1), centre - double(first)});
        }
        return result;
    };
    double sum = 0;
    for (const auto& [row, down] : taps(in.shape()[0], height, y))
        for (const auto& [column, across] : taps(in.shape()[1], width, x))
            sum += down * across *
                   in.data<float>()[(row * in.shape()[1] + column) * in.shape()[2] + c];
    return sum;
}

}  // namespace

TEST_CASE("image: resizing agrees with its rules for every mix of shrinking and enlarging") {
    for (const auto& [height, width] : kSizes) {
        const Tensor in = random_tensor({height, width, 2}, 1, 3);
        for (const auto& [to_height, to_width] : kSizes) {
            const Tensor out = resize(in, to_height, to_width);
            std::mt19937 random(5);
            for (int i = 0; i < 20; ++i) {
                const int64_t y = random() % to_height, x = random() % to_width, c = i % 2;
                REQUIRE(std::abs(out.data<float>()[(y * to_width + x) * 2 + c] -
                                 resized(in, c, to_height, to_width, y, x)) < 1e-5);
            }
        }
    }
}

TEST_CASE("image: a picture resized in rows has the bits of the whole") {
    for (const int64_t channels : {1, 2, 5})
        for (const auto& from : kSizes)
            for (const auto& to : kSizes) {
                const int64_t height = from[0], width = from[1];
                const int64_t to_height = to[0], to_width = to[1];
                const Tensor in = random_tensor({height, width, channels}, 1, 7);
                const Tensor whole = resize(in, to_height, to_width);
                for (const unsigned most : {1u, 5u, 200u}) {
                    RowResizer resizer(in.shape(), to_height, to_width);
                    const Tensor out = Tensor::full(whole.shape(), NAN, DType::f32);
                    int64_t done = 0;
                    in_portions(height, most, 11, [&](int64_t begin, int64_t count) {
                        const float* rows = in.data<float>() + begin * width * channels;
                        const std::vector<float> borrowed(rows, rows + count * width * channels);
                        const RowRange ready = resizer.push({}, borrowed.data(), count);
                        REQUIRE(ready.begin == done);
                        done = ready.end;
                        for (int64_t y = ready.end - 1; y >= ready.begin; --y)
                            resizer.make(y, out.data<float>() + y * to_width * channels);
                    });
                    REQUIRE(done == to_height);
                    REQUIRE(bit_equal(out, whole));
                }
            }
}

TEST_CASE("image: a finished row is given out as soon as its inputs are there") {
    RowResizer half({8, 3, 1}, 4, 3), twice({4, 3, 1}, 8, 3);
    const std::vector<float> row(3);
    for (int64_t i = 0; i < 8; ++i) {
        const RowRange ready = half.push({}, row.data(), 1);
        CHECK(ready.end == (i + 1) / 2);
    }
    const int64_t want[] = {1, 3, 5, 8};  // rows 2i + 1 and 2i + 2 lie between inputs i and i + 1
    for (const int64_t end : want) CHECK(twice.push({}, row.data(), 1).end == end);
}

TEST_CASE("image: luma of a photo in rows has the bits of the whole") {
    for (const int channels : {1, 4})
        for (const int bits : {8, 16})
            for (const auto& [height, width] : kSizes)
                for (const auto& [to_height, to_width] : kSizes) {
                    const Image photo = random_image(width, height, channels, bits, 13);
                    const Tensor whole = resize(luma(photo), to_height, to_width);
                    LumaRows rows(photo, to_height, to_width);
                    const Tensor out = Tensor::full(whole.shape(), NAN, DType::f32);
                    in_portions(to_height, 40, 17, [&, w = to_width](int64_t begin, int64_t count) {
                        rows.next({}, count, out.data<float>() + begin * w);
                    });
                    REQUIRE(bit_equal(out, whole));
                }
    // Taller than a block of rows.
    const Image tall = random_image(64, 9000, 1, 8, 19);
    for (const int64_t height : {9000, 4500, 700}) {
        const Tensor out = Tensor::empty({height, 64, 1}, DType::f32);
        LumaRows rows(tall, height, 64);
        in_portions(height, 900, 23, [&](int64_t begin, int64_t count) {
            rows.next({}, count, out.data<float>() + begin * 64);
        });
        CHECK(bit_equal(out, resize(luma(tall), height, 64)));
    }
}

TEST_CASE("image: colours merged in rows have the bits of the whole") {
    for (const int channels : {1, 2, 3, 4})
        for (const int bits : {8, 16})
            for (const auto& [height, width] : kSizes)
                for (const auto& [ab_height, ab_width] : {std::pair{1, 1}, {16, 12}, {120, 30}}) {
                    Image photo = random_image(width, height, channels, bits, 29);
                    photo.icc = {1, 2, 3};
                    const Tensor ab = random_tensor({ab_height, ab_width, 2}, 60, 31);
                    const Image whole =
                        merge_luma_chroma(photo, luma(photo), resize(ab, height, width), 1.3f);
                    ColorRows colors(photo, ab_height, ab_width, 1.3f, ChromaUpsampling::bilinear);
                    std::vector<uint8_t> out;
                    in_portions(ab_height, 20, 37, [&, w = ab_width](int64_t begin, int64_t count) {
                        colors.push({}, ab.data<float>() + begin * w * 2, count,
                                    [&](const uint8_t* rows, int64_t n) {
                                        out.insert(out.end(), rows, rows + n * whole.row_bytes());
                                    });
                    });
                    REQUIRE(out == whole.bytes);
                    CHECK(whole.icc == photo.icc);
                }
}

TEST_CASE("image: one to eight threads give the same bits") {
    const Image photo = random_image(517, 301, 3, 8, 41);
    const Tensor ab = random_tensor({50, 70, 2}, 80, 43);
    const auto all = [&](int threads) {
        const Exec exec{.threads = threads};
        const Tensor gray = luma(photo, exec), chroma = lab_ab(photo, exec);
        const Tensor small = resize(gray, 48, 83, exec), large = resize(ab, 301, 517, exec);
        Image merged = merge_luma_chroma(photo, gray, large, 1, exec);
        std::vector<float> rows(48 * 83);
        LumaRows(photo, 48, 83).next(exec, 48, rows.data());
        REQUIRE(!std::memcmp(rows.data(), small.data<float>(), rows.size() * sizeof(float)));
        std::vector<uint8_t> streamed;
        ColorRows(photo, 50, 70, 1, ChromaUpsampling::bilinear)
            .push(exec, ab.data<float>(), 50, [&](const uint8_t* row, int64_t n) {
                streamed.insert(streamed.end(), row, row + n * merged.row_bytes());
            });
        REQUIRE(streamed == merged.bytes);
        return std::tuple{gray, chroma, small, large, merged.bytes};
    };
    const auto [gray, chroma, small, large, bytes] = all(1);
    for (int threads = 2; threads <= 8; ++threads) {
        const auto [g, c, s, l, b] = all(threads);
        CHECK(bit_equal(g, gray));
        CHECK(bit_equal(c, chroma));
        CHECK(bit_equal(s, small));
        CHECK(bit_equal(l, large));
        CHECK(b == bytes);
    }
}

TEST_CASE("image: files encoded in rows are those encoded whole") {
    for (const Format format : {Format::png, Format::jpeg, Format::ppm})
        for (const int bits : {8, 16})
            for (const int channels : {1, 3})
                for (const auto& [height, width] : kSizes) {
                    const Image image = random_image(width, height, channels, bits, 47);
                    std::vector<uint8_t> out;
                    const auto encoder =
                        make_encoder(image, format, 90, [&](std::span<const uint8_t> bytes) {
                            out.insert(out.end(), bytes.begin(), bytes.end());
                        });
                    in_portions(height, 60, 53, [&](int64_t begin, int64_t count) {
                        encoder->write(image.row<uint8_t>(begin), count);
                    });
                    encoder->finish();
                    REQUIRE(out == encode(image, format, 90));
                    CHECK(decode(out, "rows").height == height);
                }
}

TEST_CASE("image: coded bytes leave the encoder while rows come") {
    const Image image = random_image(300, 2000, 3, 8, 59);
    for (const Format format : {Format::png, Format::jpeg, Format::ppm}) {
        size_t largest = 0, total = 0;
        const auto encoder = make_encoder(image, format, 95, [&](std::span<const uint8_t> bytes) {
            largest = std::max(largest, bytes.size()), total += bytes.size();
        });
        encoder->write(image.bytes.data(), image.height);
        encoder->finish();
        CHECK(total > 600'000);
        CHECK(largest < 400'000);
    }
}

TEST_CASE("image: an encoder wants as many rows as its header says, and lets its sink fail") {
    const Image image = random_image(500, 900, 3, 8, 61);
    for (const Format format : {Format::png, Format::jpeg, Format::ppm}) {
        const auto ignore = [](std::span<const uint8_t>) {};
        auto encoder = make_encoder(image, format, 95, ignore);
        encoder->write(image.bytes.data(), 899);
        CHECK_THROWS_AS(encoder->finish(), Error);
        CHECK_THROWS_AS(encoder->write(image.bytes.data(), 2), Error);
        const auto full = [](std::span<const uint8_t>) { throw ResourceError("disk full"); };
        encoder = make_encoder(image, format, 95, full);
        CHECK_THROWS_AS(encoder->write(image.bytes.data(), 900), ResourceError);
    }
    ImageHeader header = image;
    header.channels = 4;
    const auto never = [](std::span<const uint8_t>) { FAIL("nothing can be written"); };
    CHECK_THROWS_AS(make_encoder(header, Format::jpeg, 95, never), UsageError);
    CHECK_THROWS_AS(make_encoder(header, Format::ppm, 95, never), UsageError);
    header.width = 70'000, header.height = 1, header.channels = 1;
    CHECK_THROWS_AS(make_encoder(header, Format::jpeg, 95, never), UsageError);
}
