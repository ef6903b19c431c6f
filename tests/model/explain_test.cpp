// What is told about a photo is what the network computes.
#include "model/explain.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "layers/flatten.hpp"
#include "support/random_tensor.hpp"
#include "support/trained_network.hpp"

using namespace lumachrome;

namespace {

Spec small_spec() {
    Spec spec = preset("tiny");
    spec.global_size = 32;
    spec.classes = 4;
    return spec;
}

// The definition, from the last map of the global branch on, which is an input here.
std::vector<double> grad_cam_by_hand(ColorNet& net, const Tensor& copy, int64_t label) {
    Tensor maps;
    {
        Tape tape(Phase::eval, Exec{});
        Var y = net.low_level(tape.input(copy));
        for (ConvBlock& block : net.global_conv) y = block(y);
        maps = y.value;
    }
    net.visit([](const std::string&, Parameter& p) { p.trainable = false; });
    Tape tape(Phase::train, Exec{});
    const Var a = tape.input(maps, true);
    const Var semantics = net.global_fc[1](net.global_fc[0](flatten(a)));
    const Var logits = net.classify({{}, semantics});
    const Tensor wanted = Tensor::zeros(logits.shape());
    wanted.data<float>()[label] = 1;
    tape.backward_from({{logits, wanted}});
    const Tensor& gradient = tape.grad(a);
    const int64_t C = maps.shape()[3], pixels = maps.numel() / C;
    std::vector<double> map(size_t(pixels), 0);
    for (int64_t c = 0; c < C; ++c) {
        double weight = 0;
        for (int64_t i = 0; i < pixels; ++i) weight += gradient.item(i * C + c) / double(pixels);
        for (int64_t i = 0; i < pixels; ++i) map[size_t(i)] += weight * maps.item(i * C + c);
    }
    double largest = 0;
    for (double& value : map) largest = std::max(largest, value = std::max(value, 0.0));
    for (double& value : map) value = largest > 0 ? value / largest : value;
    return map;
}

}  // namespace

TEST_CASE("stages, attention and shares of a photo") {
    ColorNet net = trained_network(small_spec());
    const Tensor x = random_tensor({1, 40, 24, 1}, 1, DType::f32, -0.5, 0.5);
    const Tensor copy = random_tensor({1, 32, 32, 1}, 2, DType::f32, -0.5, 0.5);
    const Explanation told = explain(net, Exec{}, x, copy, 3, {2, 0});

    std::string names;
    for (const auto& stage : told.stages) {
        names += stage.name + " ";
        CHECK(stage.strongest.size() == size_t(std::min<int64_t>(3, stage.shape[3])));
    }
    CHECK(names ==
          "low.1 low.2 low.3 low.4 low.5 low.6 global.1 global.2 global.3 global.4 mid.1 mid.2 "
          "fusion color.1 color.2 color.3 color.4 output ");
    CHECK(told.stages[0].shape == Shape{1, 20, 12, told.stages[0].shape[3]});
    // Of all maps of a stage together.
    for (const auto& stage : explain(net, Exec{}, x, copy, 1000, {2}).stages) {
        double zeros = 0, values = 0;
        for (const Tensor& map : stage.strongest)
            for (int64_t i = 0; i < map.numel(); ++i) zeros += map.item(i) == 0, ++values;
        CAPTURE(stage.name);
        CHECK(values == double(stage.shape.numel()));
        CHECK(stage.zero_share == doctest::Approx(zeros / values));
    }
    // Sorted by variance over the photo.
    const auto variance = [](const Tensor& map) {
        double sum = 0, squares = 0;
        for (int64_t i = 0; i < map.numel(); ++i)
            sum += map.item(i), squares += map.item(i) * map.item(i);
        return squares - sum * sum / double(map.numel());
    };
    for (const auto& stage : told.stages)
        for (size_t i = 1; i < stage.strongest.size(); ++i)
            CHECK(variance(stage.strongest[i - 1]) >= variance(stage.strongest[i]) - 1e-6);

    REQUIRE(told.attention.size() == 2);
    for (const auto& attention : told.attention) {
        ColorNet other = trained_network(small_spec());
        const std::vector<double> expected = grad_cam_by_hand(other, copy, attention.label);
        REQUIRE(attention.map.numel() == int64_t(expected.size()));
        for (size_t i = 0; i < expected.size(); ++i)
            CHECK(attention.map.item(int64_t(i)) == doctest::Approx(expected[i]).epsilon(1e-4));
    }
    CHECK(told.global_share.shape() == Shape{5, 3, 1});
    for (int64_t i = 0; i < told.global_share.numel(); ++i) {
        CHECK(told.global_share.item(i) > 0);
        CHECK(told.global_share.item(i) < 1);
    }
    CHECK(net.output.weight.trainable);  // a copy was frozen, not this one
}

TEST_CASE("without the global branch there is less to tell") {
    Spec spec = small_spec();
    spec.use_global = false;
    const Tensor x = random_tensor({1, 16, 16, 1}, 1);
    const Explanation told = explain(trained_network(spec), Exec{}, x, x, 2, {});
    CHECK_FALSE(told.global_share.defined());
    CHECK(told.stages.size() == 14);
    CHECK(told.attention.empty());
}
