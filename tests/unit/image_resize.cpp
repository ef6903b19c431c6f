#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "image/resize.hpp"
#include "tensor/error.hpp"

using namespace lumachrome;

namespace {

Tensor random_picture(int64_t height, int64_t width, int64_t channels) {
    Tensor t = Tensor::empty({height, width, channels}, DType::f32);
    std::mt19937 random(1);
    std::uniform_real_distribution<float> uniform(0, 1);
    std::generate_n(t.data<float>(), t.numel(), [&] { return uniform(random); });
    return t;
}

double mean(const Tensor& t) {
    return std::accumulate(t.data<float>(), t.data<float>() + t.numel(), 0.0) /
           static_cast<double>(t.numel());
}

Tensor column(std::initializer_list<float> values) {
    Tensor t = Tensor::empty({static_cast<int64_t>(values.size()), 1, 1}, DType::f32);
    std::copy(values.begin(), values.end(), t.data<float>());
    return t;
}

}  // namespace

TEST_CASE("image: resizing to the same size changes no bit") {
    for (const int64_t channels : {1, 2, 3, 5}) {
        const Tensor in = random_picture(13, 7, channels);
        CHECK(bit_equal(resize(in, 13, 7), in));
    }
}

TEST_CASE("image: a constant stays constant") {
    const Tensor in = Tensor::full({37, 53, 2}, 0.7, DType::f32);
    for (const int64_t height : {1, 5, 36, 38, 100})
        for (const int64_t width : {1, 9, 52, 54, 224}) {
            const Tensor out = resize(in, height, width);
            REQUIRE(out.shape() == Shape{height, width, 2});
            for (int64_t i = 0; i < out.numel(); ++i)
                REQUIRE(std::abs(out.data<float>()[i] - 0.7f) < 1e-6f);
        }
}

TEST_CASE("image: shrinking keeps the mean, also at fractional ratios") {
    const Tensor in = random_picture(61, 47, 1);
    for (const int64_t height : {60, 30, 17, 1})
        for (const int64_t width : {46, 23, 5, 1})
            CHECK(std::abs(mean(resize(in, height, width)) - mean(in)) < 1e-6);
}

TEST_CASE("image: known values along one axis") {
    const Tensor half = resize(column({1, 3, 5, 9}), 2, 1);
    CHECK(half.data<float>()[0] == 2);
    CHECK(half.data<float>()[1] == 7);
    const Tensor fraction = resize(column({0, 3, 6}), 2, 1);  // boxes [0, 1.5) and [1.5, 3)
    CHECK(fraction.data<float>()[0] == doctest::Approx(1));
    CHECK(fraction.data<float>()[1] == doctest::Approx(5));
    const Tensor twice = resize(column({0, 4}), 4, 1);  // centres at -0.25, 0.25, 0.75, 1.25
    const float want[] = {0, 1, 3, 4};
    for (int i = 0; i < 4; ++i) CHECK(twice.data<float>()[i] == want[i]);
}

TEST_CASE("image: shrinking and enlarging do not shift") {
    Tensor ramp = Tensor::empty({64, 64, 1}, DType::f32);
    for (int64_t i = 0; i < 64 * 64; ++i)
        ramp.data<float>()[i] = static_cast<float>(i % 64 + i / 64);
    const Tensor back = resize(resize(ramp, 32, 32), 64, 64);
    for (int64_t y = 1; y < 63; ++y)
        for (int64_t x = 1; x < 63; ++x)
            REQUIRE(std::abs(back.data<float>()[64 * y + x] - ramp.data<float>()[64 * y + x]) <
                    1e-4f);
}

TEST_CASE("image: crops") {
    const Tensor in = random_picture(20, 30, 3);
    const Tensor out = resize_crop(in, {4, 7, 8, 5}, 8, 5);  // whole pixels: a plain copy
    for (int64_t y = 0; y < 8; ++y)
        for (int64_t i = 0; i < 15; ++i)
            REQUIRE(out.data<float>()[y * 15 + i] == in.data<float>()[(y + 4) * 90 + 21 + i]);

    Tensor ramp = Tensor::empty({40, 40, 1}, DType::f32);
    for (int64_t i = 0; i < 1600; ++i)
        ramp.data<float>()[i] = static_cast<float>(i % 40) + 0.5f;  // value = x
    for (const int64_t width : {3, 10, 33}) {  // shrinking and enlarging a fractional box
        const Tensor crop = resize_crop(ramp, {5.3, 7.25, 20.1, 21.5}, 4, width);
        // Averaging a staircase instead of its ramp errs by at most 1/8 at each fractional end.
        const double scale = 21.5 / static_cast<double>(width),
                     tolerance = scale > 1 ? 0.25 / scale : 1e-4;
        for (int64_t x = 0; x < width; ++x) {
            const double want = 7.25 + scale * (static_cast<double>(x) + 0.5);
            REQUIRE(std::abs(crop.data<float>()[x] - want) < tolerance);
        }
    }
    CHECK_NOTHROW(resize_crop(in, {20 - 6.7, 30 - 0.1, 6.7, 0.1}, 3, 3));
    CHECK_THROWS_AS(resize_crop(in, {0, 0, 20.5, 30}, 3, 3), ShapeError);
    CHECK_THROWS_AS(resize_crop(in, {-1, 0, 5, 5}, 3, 3), ShapeError);
    CHECK_THROWS_AS(resize_crop(in, {0, 0, 0, 5}, 3, 3), ShapeError);
    CHECK_THROWS_AS(resize_crop(in, {0, NAN, 5, 5}, 3, 3), ShapeError);
    CHECK_THROWS_AS(resize(in, 0, 3), ShapeError);
    CHECK_THROWS_AS(resize(Tensor::zeros({4, 4}), 2, 2), ShapeError);
}
