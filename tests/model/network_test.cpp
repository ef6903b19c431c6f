#include <doctest/doctest.h>

#include <limits>

#include "image/color.hpp"
#include "model/colorizer.hpp"
#include "model/gradcheck_suite.hpp"
#include "model/summary.hpp"
#include "support/random_tensor.hpp"
#include "tensor/error.hpp"
#include "train/train_step.hpp"

using namespace lumachrome;

namespace {

Image random_photo(int64_t width, int64_t height, int channels, int bits) {
    Image photo = Image::make(width, height, channels, bits);
    Random random(3, Random::Purpose::test);
    for (uint8_t& byte : photo.bytes) byte = static_cast<uint8_t>(random.bits());
    return photo;
}

Colorizer tiny_colorizer(int threads = 2) {
    Spec spec = preset("tiny");
    spec.classes = 3;
    spec.class_names = {"sea", "forest", "room"};
    return Colorizer(std::make_unique<ColorNet>(spec, 1), {}, Exec{{}, threads});
}

}  // namespace

TEST_CASE("the paper preset has the published numbers") {
    ColorNet net(preset("paper"));
    const Summary s = summarize(net, 224, 224);
    CHECK(s.parameters_without_norm_and_classifier == 43'218'402);
    CHECK(s.macs_per_pixel == 163'872);
    CHECK(s.receptive_field == 131);
    CHECK(double(s.macs) / 1e9 == doctest::Approx(9.40).epsilon(0.001));
    // Another size: the low-level stack runs on the 224x224 copy as well.
    const Summary larger = summarize(net, 448, 448);
    CHECK(larger.macs_per_pixel == 163'872);
    const double path = 163'872.0 * 448 * 448, copy = 73'872.0 * 224 * 224;
    CHECK(double(larger.macs) ==
          doctest::Approx(path + copy + double(s.macs) - 163'872.0 * 224 * 224));
    CHECK(s.layers.front().name == "low.1.conv");
    CHECK(s.layers.front().output == Shape{1, 112, 112, 64});
}

TEST_CASE("each sub-network has Table 1's parameters") {
    ColorNet net(preset("paper"));
    std::map<std::string, int64_t> stage;
    net.visit([&](const std::string& name, Parameter& p) {
        if (name.find(".norm.") == std::string::npos)
            stage[name.substr(0, name.find('.'))] += p.value.numel();
    });
    CHECK(stage["low"] == 2'287'488);
    CHECK(stage["mid"] == 3'539'712);
    CHECK(stage["global"] == 35'786'496);
    CHECK(stage["fusion"] + stage["color"] + stage["output"] == 1'604'706);
    CHECK(stage["classifier"] == 184'013);
}

TEST_CASE("all derivatives of the network pass, and there are at least 2,000 checks") {
    const GradcheckReport report = run_gradcheck(Exec{{}, 2}, {});
    for (const GradCheck& failure : report.failures) {
        CAPTURE(failure.op);
        CAPTURE(failure.what);
        CAPTURE(failure.relative_error);
        CHECK(failure.passed());
    }
    CHECK(report.failed == 0);
    CHECK(report.checks >= 2000);
    MESSAGE(report.checks << " checks");
    CHECK_THROWS_AS(run_gradcheck(Exec{}, {"nonsense", ""}), UsageError);
    CHECK_THROWS_AS(run_gradcheck(Exec{}, {"", "nonsense"}), UsageError);
}

TEST_CASE("ten training steps have the same bits for any number of threads") {
    const auto train = [](int threads) {
        Spec spec = preset("tiny");
        spec.classes = 3;
        spec.dropout = 0.2;
        auto net = std::make_unique<ColorNet>(spec, 5);
        Optimizer optimizer(optimizer_spec("adam"));
        net->visit([&](const std::string& name, Parameter& p) { optimizer.add(name, p); });
        for (uint32_t step = 0; step < 10; ++step)
            train_step(*net, optimizer, Exec{{}, threads},
                       {random_tensor({5, 48, 48, 1}, step),
                        random_tensor({5, 24, 24, 2}, 100 + step),
                        {0, 1, 2, -1, 1}});
        return model_file(*net);
    };
    const TensorFile expected = train(1);
    for (int threads : {2, 4, 8}) {
        const TensorFile file = train(threads);
        for (const auto& [name, tensor] : expected.tensors) {
            CAPTURE(name);
            CHECK(bit_equal(file.tensors.at(name), tensor));
        }
    }
}

TEST_CASE("a training step is refused before a bad number reaches the weights") {
    ColorNet net(preset("tiny"), 1);
    Optimizer optimizer(optimizer_spec("adam"));
    net.visit([&](const std::string& name, Parameter& p) { optimizer.add(name, p); });
    const Tensor before = net.output.weight.value.clone();
    Tensor luma = random_tensor({2, 64, 64, 1}, 1);
    luma.data<float>()[7] = std::numeric_limits<float>::quiet_NaN();
    const Batch batch{luma, random_tensor({2, 32, 32, 2}, 2), {0, 1}};
    CHECK_THROWS_WITH_AS(
        train_step(net, optimizer, Exec{}, batch),
        doctest::Contains("step 1: the input of conv2d of low.1.conv.weight is not finite"), Error);
    CHECK(bit_equal(net.output.weight.value, before));
}

TEST_CASE("colorized photos keep size, depth, alpha and luma") {
    Colorizer colorizer = tiny_colorizer();
    const int64_t sizes[][2] = {{1, 1}, {1, 37}, {37, 1}, {5, 3}, {64, 64}, {101, 67}, {8, 300}};
    for (const auto& size : sizes)
        for (int channels : {1, 2, 3, 4})
            for (int bits : {8, 16}) {
                const Image photo = random_photo(size[0], size[1], channels, bits);
                const Colorized result = colorizer.colorize(photo);
                REQUIRE(result.image.width == photo.width);
                REQUIRE(result.image.height == photo.height);
                REQUIRE(result.image.bits == bits);
                REQUIRE(result.image.channels == (photo.has_alpha() ? 4 : 3));
                const Tensor before = luma(photo), after = luma(result.image);
                const double step = 1.0 / ((1 << bits) - 1);
                for (int64_t i = 0; i < before.numel(); ++i)
                    REQUIRE(std::fabs(before.item(i) - after.item(i)) <= step * 0.51);
                CHECK(result.scene.size() == 3);
            }
}

TEST_CASE("the naive path gives the same photo, and any number of threads the same bits") {
    const Image photo = random_photo(70, 50, 3, 8);
    const Colorized one = tiny_colorizer(1).colorize(photo),
                    four = tiny_colorizer(4).colorize(photo);
    CHECK(one.image.bytes == four.image.bytes);
    ColorizeSettings naive;
    naive.naive = true;
    const Colorized simple = tiny_colorizer().colorize(photo, naive);
    int64_t largest = 0;
    for (size_t i = 0; i < one.image.bytes.size(); ++i)
        largest = std::max<int64_t>(largest, std::abs(one.image.bytes[i] - simple.image.bytes[i]));
    CHECK(largest <= 1);
}

TEST_CASE("two scales change a large pass only, with the same bits on any number of threads") {
    const Image photo = random_photo(300, 240, 3, 8);
    const auto colored = [&](int64_t size, bool two_scale, int threads) {
        ColorizeSettings settings;
        settings.size = size;
        settings.two_scale = two_scale;
        return tiny_colorizer(threads).colorize(photo, settings).image.bytes;
    };
    const auto both = colored(232, true, 1);
    CHECK(both != colored(232, false, 1));
    CHECK(both == colored(232, true, 4));
    for (const int64_t size : {0, 96}) CHECK(colored(size, true, 1) == colored(size, false, 1));
}

TEST_CASE("network sizes are multiples of 8 and keep the aspect where they can") {
    const auto size = [](int64_t h, int64_t w, int64_t s, bool full = false) {
        ColorizeSettings settings;
        settings.size = s;
        settings.full = full;
        const NetworkSize n = network_size(h, w, settings);
        return std::pair(n.height, n.width);
    };
    CHECK(size(480, 640, 224) == std::pair<int64_t, int64_t>(224, 296));
    CHECK(size(100, 100, 0) == std::pair<int64_t, int64_t>(104, 104));
    CHECK(size(3000, 4000, 0) == std::pair<int64_t, int64_t>(176, 232));
    CHECK(size(1, 100000, 0) == std::pair<int64_t, int64_t>(8, 2048));
    CHECK(size(33, 41, 0, true) == std::pair<int64_t, int64_t>(40, 48));
    CHECK_THROWS_AS(size(10, 10, 4), UsageError);
    CHECK_THROWS_AS(size(10, 10, 100000), UsageError);
}

TEST_CASE("models come back from their files, in f32 and f16, and strangers are refused") {
    Spec spec = preset("tiny");
    spec.classes = 2;
    spec.class_names = {"a", "b"};
    spec.dropout = 0.25;
    ColorNet net(spec, 3);
    for (DType dtype : {DType::f32, DType::f16}) {
        const TensorFile file =
            parse_tensor_file(serialize(model_file(net, {{"licence", "x"}}, dtype)), "m");
        ColorNet again(from_metadata(file.metadata));
        load_state(again, file, "m");
        CHECK(to_metadata(again.spec) == to_metadata(spec));
        const double error = dtype == DType::f32 ? 1e-12 : 1e-3;
        CHECK(again.low[1].layer.weight.value.item(5) ==
              doctest::Approx(net.low[1].layer.weight.value.item(5)).epsilon(error));
    }
    TensorFile file = model_file(net);
    CHECK(file.tensors.at("low.2.conv.weight").shape() == Shape{16, 8, 3, 3});
    file.tensors["stranger"] = Tensor::zeros({1});
    CHECK_THROWS_WITH_AS(load_state(net, file, "m"), "m: tensor stranger belongs to no layer",
                         ModelError);
    file.tensors.erase("stranger");
    file.tensors.erase("mid.1.conv.bias");
    CHECK_THROWS_WITH_AS(load_state(net, file, "m"), "m: tensor mid.1.conv.bias is missing",
                         ModelError);
    file = model_file(net);
    file.tensors["mid.1.conv.bias"] = Tensor::zeros({3});
    CHECK_THROWS_AS(load_state(net, file, "m"), ModelError);
    for (const char* key : {"classes", "activation", "global_size", "width_divisor"}) {
        Metadata metadata = to_metadata(spec);
        metadata[key] = "-7";
        CHECK_THROWS_AS(from_metadata(metadata), ModelError);
        metadata.erase(key);
        CHECK_THROWS_AS(from_metadata(metadata), ModelError);
    }
}

TEST_CASE("filters change their order and widen in one pass, as in two") {
    const Tensor memory = random_tensor({5, 3, 3, 7}, 1), file = to_file_order(memory);
    CHECK(file.shape() == Shape{5, 7, 3, 3});
    for (int64_t k = 0; k < 5; ++k)
        for (int64_t tap = 0; tap < 9; ++tap)
            for (int64_t c = 0; c < 7; ++c)
                CHECK(file.item((k * 7 + c) * 9 + tap) == memory.item((k * 9 + tap) * 7 + c));
    CHECK(bit_equal(to_memory_order(file), memory));
    const Tensor half = to_f16(file), brain = Tensor::empty(file.shape(), DType::bf16);
    for (int64_t i = 0; i < file.numel(); ++i)
        reinterpret_cast<uint16_t*>(brain.raw())[i] = float_to_bf16(file.data<float>()[i]);
    for (const Tensor& stored : {half, brain})
        CHECK(bit_equal(to_memory_order(stored), to_memory_order(to_f32(stored))));
    CHECK(bit_equal(to_memory_order(file.to(DType::f64)), memory.to(DType::f64)));
    const Tensor row = random_tensor({6}, 2);
    CHECK(bit_equal(to_memory_order(to_f16(row)), to_f32(to_f16(row))));
    CHECK(to_memory_order(row).raw() == row.raw());
    CHECK(to_memory_order(Tensor::empty({0, 2, 3, 3}, DType::f16)).shape() == Shape{0, 3, 3, 2});
    const int64_t huge = int64_t{1} << 30;  // without elements, long to walk through
    CHECK(to_memory_order(Tensor::empty({2, 0, huge, huge}, DType::f16)).numel() == 0);
    CHECK(to_memory_order(Tensor::empty({2, 0, huge, huge})).numel() == 0);
}

TEST_CASE("a loaded network has memory of its own, and its type") {
    const Spec spec = preset("tiny");
    ColorNet net(spec, 3);
    for (DType stored : {DType::f32, DType::f16})
        for (DType dtype : {DType::f32, DType::f64}) {
            const TensorFile file = parse_tensor_file(serialize(model_file(net, {}, stored)), "m");
            ColorNet again(spec);
            again.cast(dtype);
            load_state(again, file, "m");
            again.visit([&](const std::string& name, Parameter& p) {
                const Tensor& in_file = file.tensors.at(name);
                CHECK(p.value.dtype() == dtype);
                CHECK(bit_equal(p.value, to_memory_order(in_file).to(dtype)));
                CHECK(p.value.raw() != in_file.raw());
            });
        }
}

TEST_CASE("the options build networks that differ as they should") {
    Spec spec = preset("tiny");
    spec.use_global = false;
    ColorNet baseline(spec, 1);
    Tape tape(Phase::eval, Exec{});
    const Var x = tape.input(random_tensor({1, 16, 24, 1}, 1));
    const ColorNet::Output output = baseline(x, x);
    CHECK_FALSE(output.logits.has_value());
    CHECK(output.color.shape() == Shape{1, 8, 12, 2});
    spec.fusion_kernel = 2;
    CHECK_THROWS_AS(ColorNet{spec}, UsageError);
    CHECK_THROWS_AS(preset("huge"), UsageError);
}
