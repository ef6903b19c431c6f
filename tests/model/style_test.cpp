// Global features of one photo given to another.
#include <doctest/doctest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>

#include "model/colorizer.hpp"
#include "support/random_tensor.hpp"
#include "support/trained_network.hpp"
#include "tensor/error.hpp"
#include "tensor/file.hpp"

using namespace lumachrome;

namespace {

Image photo(int64_t height, int64_t width, int period) {
    Image image = Image::make(width, height, 1, 8);
    for (int64_t y = 0; y < height; ++y)
        for (int64_t x = 0; x < width; ++x)
            image.row<uint8_t>(y)[x] = static_cast<uint8_t>((x * y / period + 3 * x + y) % 256);
    return image;
}

Colorizer colorizer(int threads = 2) {
    Spec spec = preset("tiny");
    spec.global_size = 32;
    spec.classes = 5;
    spec.class_names = {"beach", "city", "forest", "night", "snow"};
    return {std::make_unique<ColorNet>(trained_network(spec)), {}, Exec{{}, threads}};
}

double probability(const std::vector<SceneScore>& scene, const std::string& label) {
    for (const SceneScore& score : scene)
        if (score.label == label) return score.probability;
    return 0;
}

}  // namespace

TEST_CASE("styles mix by their weights, the rest is the photo's own") {
    const Tensor own = random_tensor({1, 4}, 1), a = random_tensor({1, 4}, 2),
                 b = random_tensor({1, 4}, 3);
    const auto check = [&](std::vector<Style> styles, double o, double wa, double wb) {
        const Tensor mixed = mix(own, styles);
        for (int64_t i = 0; i < 4; ++i)
            CHECK(mixed.item(i) ==
                  doctest::Approx(o * own.item(i) + wa * a.item(i) + wb * b.item(i)).epsilon(1e-6));
    };
    check({}, 1, 0, 0);
    check({{a, 0.25}, {b, 0.5}}, 0.25, 0.25, 0.5);
    check({{a, 1.0}}, 0, 1, 0);
    check({{a, 1.0}, {b, 3.0}}, 0, 0.25, 0.75);
    CHECK_THROWS_AS(mix(own, std::vector<Style>{{random_tensor({1, 5}, 4), 1}}), ShapeError);
}

TEST_CASE("a photo's own style changes nothing, another's does; features save the first half") {
    Colorizer colors = colorizer();
    const Image one = photo(50, 70, 11), other = photo(60, 40, 29);
    ColorizeSettings plain;
    plain.size = 40;
    const Colorized expected = colors.colorize(one, plain);

    ColorizeSettings styled = plain;
    styled.styles = {{colors.global_view(other).style, 1}};
    const Colorized changed = colors.colorize(one, styled);
    CHECK(changed.image.bytes != expected.image.bytes);
    CHECK(changed.scene.size() == 5);

    const PhotoFeatures features = colors.features(one, plain);
    CHECK(features.network_height == 40);
    CHECK(colors.colorize(one, features, styled).image.bytes == changed.image.bytes);
    CHECK(colors.colorize(one, features).image.bytes ==
          colors
              .colorize(one,
                        [&] {
                            ColorizeSettings own = plain;
                            own.styles = {{features.global.style, 1}};
                            return own;
                        }())
              .image.bytes);
    // The naive path agrees.
    styled.naive = true;
    const Colorized naive = colors.colorize(one, styled);
    for (size_t i = 0; i < naive.image.bytes.size(); ++i)
        CHECK(std::abs(int(naive.image.bytes[i]) - int(changed.image.bytes[i])) <= 1);
    // Threads change no bit.
    styled.naive = false;
    CHECK(colorizer(1).colorize(one, styled).image.bytes == changed.image.bytes);
}

TEST_CASE("a class is reached by ascent from the photo's own features") {
    Colorizer colors = colorizer();
    const Image one = photo(50, 70, 11);
    const std::vector<SceneScore> before = colors.classify(one);
    const std::string least = before.back().label;
    ColorizeSettings settings;
    settings.size = 40;
    const Colorized plain = colors.colorize(one, settings);
    settings.scene_class = least;
    const Colorized colored = colors.colorize(one, settings);
    CHECK(colored.image.bytes != plain.image.bytes);
    CHECK(probability(colored.scene, least) == probability(before, least));

    // What the head then reads is the class it was asked for.
    ColorNet net = trained_network(colors.spec());
    const Tensor own = colors.global_view(one).semantics;
    for (int64_t label = 0; label < 5; ++label) {
        const Tensor reached = toward_class(net, Exec{}, own, label);
        Tape tape(Phase::eval, Exec{});
        const Tensor z = net.classify({{}, tape.input(reached)}).value;
        double sum = 0;
        for (int64_t c = 0; c < 5; ++c) sum += std::exp(z.item(c) - z.item(label));
        CHECK(1 / sum > 0.85);
    }
    CHECK(net.classifier_out->weight.trainable);  // a copy was frozen, not this one

    settings.scene_class = "moon";
    CHECK_THROWS_WITH_AS(colors.colorize(one, settings),
                         "no scene class is named moon; there are: beach, city, forest, night, "
                         "snow",
                         UsageError);
}

TEST_CASE("a network without the global branch knows no styles, but has features") {
    Spec spec = preset("tiny");
    spec.use_global = false;
    Colorizer colors(std::make_unique<ColorNet>(trained_network(spec)), {}, Exec{});
    const Image one = photo(24, 32, 7);
    CHECK_THROWS_AS(colors.global_view(one), ModelError);
    ColorizeSettings settings;
    settings.styles = {{Tensor::zeros({1, 4}), 1}};
    CHECK_THROWS_AS(colors.colorize(one, settings), ModelError);
    CHECK_THROWS_AS(colors.colorize(one, colors.features(one), settings), ModelError);
    CHECK(colors.colorize(one, colors.features(one)).image.bytes ==
          colors.colorize(one).image.bytes);
}

TEST_CASE("styles in files belong to the weights that made them") {
    const std::string path = (std::filesystem::temp_directory_path() /
                              ("lumachrome-" + std::to_string(getpid()) + ".style"))
                                 .string();
    const Spec spec = preset("tiny");
    const Tensor features = random_tensor({1, 32}, 5);
    write_style(path, features, "abc", false);
    CHECK(bit_equal(parse_style(read_file(path), path, spec, "abc"), features));
    CHECK_THROWS_WITH_AS(
        parse_style(read_file(path), path, spec, "other"),
        (path + ": was made with other weights; make it anew from its photo").c_str(), ModelError);
    std::filesystem::remove(path);
    std::vector<uint8_t> bytes = style_bytes(features, "abc");
    CHECK(bit_equal(parse_style(bytes, "it", spec, "abc"), features));
    for (size_t end = 0; end < bytes.size(); ++end)
        CHECK_THROWS_AS(parse_style({bytes.begin(), bytes.begin() + long(end)}, "it", spec, "abc"),
                        ModelError);
    CHECK_THROWS_AS(parse_style(style_bytes(Tensor::full({1, 32}, NAN), "abc"), "it", spec, "abc"),
                    ModelError);
    for (const Shape& shape : {Shape{1, 31}, Shape{2, 32}, Shape{32}})
        CHECK_THROWS_AS(parse_style(style_bytes(Tensor::full(shape, 1), "abc"), "it", spec, "abc"),
                        ModelError);
    CHECK_THROWS_WITH_AS(
        parse_style(style_bytes(Tensor::full({1, 33}, 1), "abc"), "it", spec, "abc"),
        "it: a style of this network is 1x32, not 1x33; make it anew from its photo", ModelError);
}
