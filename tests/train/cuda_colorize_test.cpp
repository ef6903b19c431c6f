// Photos coloured on a GPU and on the CPU look alike.
#include <doctest/doctest.h>

#include <cmath>
#include <numbers>

#include "model/colorizer.hpp"
#include "model/default_model.hpp"
#include "support/device.hpp"
#include "tensor/choose.hpp"
#include "tensor/random.hpp"
#include "train/evaluate.hpp"

using namespace lumachrome;

namespace {

// Means of CIEDE2000; 1 is about what an eye can tell.
constexpr double kDifferenceF32 = 0.1, kDifferenceBf16 = 0.5;

// Soft shapes with a little noise, gray.
Image photo_of(int64_t width, int64_t height) {
    Image photo = Image::make(width, height, 1, 8);
    Random random(7, Random::Purpose::test, 1);
    for (int64_t y = 0; y < height; ++y)
        for (int64_t x = 0; x < width; ++x) {
            const double wave = std::sin(double(x) / 9) * std::cos(double(y) / 7);
            photo.bytes[size_t(y * width + x)] =
                static_cast<uint8_t>(120 + 90 * wave + random.uniform(-10, 10));
        }
    return photo;
}

// Biases as of a trained network, so that its colours are far from gray.
std::unique_ptr<ColorNet> colourful(Spec spec) {
    auto net = std::make_unique<ColorNet>(spec, 3);
    uint32_t stream = 0;
    net->visit([&](const std::string& name, Parameter& p) {
        Random random(5, Random::Purpose::test, stream++);
        if (name.ends_with("bias"))
            for (int64_t i = 0; i < p.value.numel(); ++i)
                p.value.data<float>()[i] = static_cast<float>(random.uniform(-0.5, 0.5));
    });
    return net;
}

Exec gpu(DType maps) {
    return {.device = support::kGpu, .threads = 2, .maps = maps};
}

void check_alike(Colorizer& on_cpu, Colorizer& on_gpu, const Image& photo,
                 const ColorizeSettings& settings, double most) {
    const Colorized expected = on_cpu.colorize(photo, settings);
    const Colorized result = on_gpu.colorize(photo, settings);
    const ColorQuality difference = compare(result.image, expected.image);
    CHECK(difference.delta_e2000_mean <= most);
    CHECK(difference.colorfulness > 3);  // or anything would be alike
    REQUIRE(result.scene.size() == expected.scene.size());
    const auto scene = on_gpu.classify(photo), expected_scene = on_cpu.classify(photo);
    REQUIRE(scene.size() == expected_scene.size());
    for (size_t i = 0; i < scene.size(); ++i) {
        CHECK(std::fabs(scene[i].probability - expected_scene[i].probability) < 0.02);
        CHECK(std::fabs(result.scene[i].probability - expected.scene[i].probability) < 0.02);
    }
}

}  // namespace

TEST_CASE("photos coloured on the GPU look as those of the CPU" *
          doctest::skip(support::no_gpu())) {
    const ForcedImplementations quick(support::quick_kernels());
    Spec spec = preset("tiny");
    spec.global_size = 32;
    spec.classes = 5;
    Colorizer on_cpu(colourful(spec), {}, Exec{{}, 2});
    Colorizer exact(colourful(spec), {}, gpu(DType::f32)),
        coarse(colourful(spec), {}, gpu(DType::bf16));
    for (const auto& [width, height] : {std::pair<int64_t, int64_t>{57, 40}, {32, 32}}) {
        const Image photo = photo_of(width, height);
        check_alike(on_cpu, exact, photo, {}, kDifferenceF32);
        check_alike(on_cpu, coarse, photo, {}, kDifferenceBf16);
    }
    // Rounding may tip a pixel's eighth bit.
    const Image photo = photo_of(24, 16);
    const ColorizeSettings naive{.naive = true};
    check_alike(on_cpu, exact, photo, naive, kDifferenceF32);
}

TEST_CASE("the default model colours on the GPU as on the CPU" * doctest::skip(support::no_gpu())) {
    const ForcedImplementations quick(support::quick_kernels());
    const std::string path = default_model_path();
    Colorizer on_cpu(path, Exec{{}, 2});
    const Image photo = support::emulated() ? photo_of(24, 16) : photo_of(320, 240);
    for (DType maps : {DType::bf16, DType::f32}) {
        if (support::emulated() && maps == DType::f32) continue;  // its slowness is none of ours
        Colorizer on_gpu(path, gpu(maps));
        check_alike(on_cpu, on_gpu, photo, {},
                    maps == DType::f32 ? kDifferenceF32 : kDifferenceBf16);
    }
}
