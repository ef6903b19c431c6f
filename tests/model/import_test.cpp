// The authors' files, as an independent writer makes them (support/colornet_t7.hpp).
#include <doctest/doctest.h>

#include <chrono>
#include <cmath>
#include <cstring>

#include "model/import_torch7.hpp"
#include "model/infer/inference.hpp"
#include "model/torch7_file.hpp"
#include "support/colornet_t7.hpp"
#include "support/random_tensor.hpp"
#include "support/trained_network.hpp"
#include "tensor/error.hpp"
#include "tensor/larger_or_nan.hpp"
#include "tensor/sha256.hpp"

using namespace lumachrome;
using namespace lumachrome::torch7_writer;

namespace {

// As published, 1/1024 of the weights; the global branch ends in 2x2 cells, so the flattening
// shows.
Spec small_spec(int64_t classes = 0) {
    Spec spec = preset("paper");
    spec.width_divisor = 32;
    spec.global_size = 64;
    spec.batch_norm = false;
    spec.classes = classes;
    return spec;
}

Tensor output_of(ColorNet net) {
    Inference inference(std::move(net), Exec{}, {.classify = false});
    const Tensor in[] = {random_tensor({1, 40, 24, 1}, 1, DType::f32, -0.5, 0.5),
                         random_tensor({1, 64, 64, 1}, 2, DType::f32, -0.5, 0.5)};
    return inference.at(40, 24).run(in)[0].clone();
}

double distance(const Tensor& a, const Tensor& b) {
    REQUIRE(a.shape() == b.shape());
    double worst = 0;
    for (int64_t i = 0; i < a.numel(); ++i)
        worst = larger_or_nan(worst, std::fabs(a.item(i) - b.item(i)));
    return worst;
}

void check_same(ColorNet& net, ColorNet& other) {
    std::map<std::string, Tensor> expected;
    net.visit([&](const std::string& name, Parameter& p) { expected[name] = p.value; });
    size_t count = 0;
    other.visit([&](const std::string& name, Parameter& p) {
        CAPTURE(name);
        CHECK(bit_equal(p.value, expected[name]));
        ++count;
    });
    CHECK(count == expected.size());
}

std::string error_of(std::span<const uint8_t> bytes, std::optional<double> mean = {}) {
    try {
        import_torch7(bytes, "file.t7", mean);
    } catch (const ModelError& error) {
        const std::string text = error.what();
        CHECK(text.starts_with("file.t7: "));
        CHECK(text.find('\n') == text.npos);
        return text;
    }
    return "accepted";
}

std::string error_after(const std::function<void(Writer&, const std::string&, Lua*)>& change,
                        std::optional<double> mean = {}) {
    ColorNet net = trained_network(small_spec());
    ColornetOptions options;
    options.change = change;
    return error_of(ColornetFile(net, options).bytes, mean);
}

Lua* field(Lua* object, const std::string& key) {
    for (auto& [name, value] : (object->body ? object->body : object)->entries)
        if (name->kind == Lua::text && name->name == key) return value;
    FAIL("no field ", key);
    return nullptr;
}

}  // namespace

TEST_CASE("a colornet.t7 comes back bit for bit, however it was written") {
    std::vector<ColornetOptions> all(8);
    all[1].long_bytes = 4;
    all[2].doubles = true;
    all[3].global_first = true;
    all[4].strided = true;
    all[5].flat_filters = true;
    all[6].gradients = false;
    all[7].long_bytes = 4;
    all[7].doubles = all[7].strided = all[7].global_first = true;
    ColorNet net = trained_network(small_spec());
    for (const ColornetOptions& options : all) {
        CAPTURE(&options - all.data());
        LoadedModel model = import_torch7(ColornetFile(net, options).bytes, "file.t7");
        check_same(net, *model.net);
        CHECK(model.net->spec.luma_mean == net.spec.luma_mean);
        CHECK(model.metadata.at("licence").starts_with("CC BY-NC-SA 4.0"));
        CHECK(bit_equal(output_of(*model.net), output_of(net)));
        // And as a file of ours.
        const TensorFile file =
            parse_tensor_file(serialize(model_file(*model.net, model.metadata)), "m");
        LoadedModel again = load_model(file, "m");
        check_same(net, *again.net);
        CHECK(again.metadata == model.metadata);
    }
}

TEST_CASE("other fusion kernels, activations, sizes and class heads are found") {
    for (int variant = 0; variant < 5; ++variant) {
        CAPTURE(variant);
        Spec spec = small_spec(variant == 2 ? 7 : 0);
        if (variant == 4) {  // ends in 4x4 cells, as 128 would
            spec = preset("compact");
            spec.batch_norm = false;
            spec.classes = 0;
        }
        if (variant == 0) spec.fusion_kernel = 1;
        if (variant == 1) spec.activation = Activation::sigmoid;
        if (variant == 3) spec.global_size = 96;
        ColorNet net = trained_network(spec);
        LoadedModel model = import_torch7(ColornetFile(net, {}).bytes, "file.t7");
        check_same(net, *model.net);
        CHECK(model.net->spec.fusion_kernel == spec.fusion_kernel);
        CHECK(model.net->spec.activation == spec.activation);
        CHECK(model.net->spec.classes == spec.classes);
        CHECK(model.net->spec.global_size == spec.global_size);
    }
}

TEST_CASE("batch norm is folded, from variances and from the older inverse deviations") {
    Spec spec = small_spec();
    spec.batch_norm = true;
    ColorNet net = trained_network(spec);
    for (const bool inverse : {false, true}) {
        ColornetOptions options;
        options.inverse_std = inverse;
        LoadedModel model = import_torch7(ColornetFile(net, options).bytes, "file.t7");
        CHECK_FALSE(model.net->spec.batch_norm);
        // Rounding of the folded weights, through 15 layers.
        CHECK(distance(output_of(*model.net), output_of(net)) < 1e-5);
    }
}

TEST_CASE("a model without a class head loads, infers and answers no class") {
    ColorNet net = trained_network(small_spec());
    Inference inference(net, Exec{});
    CHECK_FALSE(inference.gives_logits());
    Tape tape(Phase::eval, Exec{});
    const Var x = tape.input(random_tensor({1, 16, 16, 1}, 1)),
              copy = tape.input(random_tensor({1, 64, 64, 1}, 2));
    CHECK_FALSE(net(x, copy).logits.has_value());
}

TEST_CASE("a .t7 cut anywhere is refused at once") {
    ColorNet net = trained_network([] {
        Spec spec = small_spec();
        spec.global_size = 32;
        return spec;
    }());
    for (const int long_bytes : {8, 4}) {
        ColornetOptions options;
        options.long_bytes = long_bytes;
        options.gradients = false;
        const ColornetFile file(net, options);
        REQUIRE(error_of(file.bytes) == "accepted");
        int accepted = 0;
        std::string last;
        const auto refused = [&](size_t length) {
            try {
                import_torch7({file.bytes.data(), length}, "file.t7");
                ++accepted;
            } catch (const ModelError& error) {
                last = error.what();
            }
        };
        for (size_t length = 0; length < file.bytes.size(); ++length) {
            const bool in_numbers =
                std::any_of(file.storages.begin(), file.storages.end(), [&](const auto& range) {
                    return length > range.first + 64 && length + 64 < range.second;
                });
            // In the middle of numbers one place is as another; so it is, nearly, for short longs.
            const size_t step = in_numbers ? 256 : long_bytes == 4 ? 7 : 1;
            if (length % step == 0) refused(length);
        }
        CHECK(accepted == 0);
        CHECK(last.find("truncated") != last.npos);
    }
}

TEST_CASE("2,000 damaged .t7 files are refused or read, nothing else") {
    ColorNet net = trained_network(small_spec());
    const ColornetFile file(net, {});
    std::vector<size_t> structure;  // bytes that are not numbers of a storage
    for (size_t at = 0; at < file.bytes.size(); ++at)
        if (std::none_of(file.storages.begin(), file.storages.end(),
                         [&](const auto& range) { return at >= range.first && at < range.second; }))
            structure.push_back(at);
    Random random(23, Random::Purpose::test);
    int refused = 0;
    for (int i = 0; i < 2000; ++i) {
        std::vector<uint8_t> bytes = file.bytes;
        for (uint32_t changes = 1 + random.bits() % 3; changes > 0; --changes) {
            uint8_t& byte = random.bits() % 8 == 0
                                ? bytes[random.bits() % bytes.size()]
                                : bytes[structure[random.bits() % structure.size()]];
            // Small steps and edges find more than noise alone.
            const uint32_t kind = random.bits() % 3;
            byte = static_cast<uint8_t>(kind == 0   ? random.bits()
                                        : kind == 1 ? byte + 1
                                                    : (random.bits() % 2 ? 0xff : 0));
        }
        try {
            import_torch7(bytes, "file.t7");
        } catch (const ModelError&) {
            ++refused;
        }
    }
    CHECK(refused > 200);
    MESSAGE(refused << " of 2000 refused");
}

TEST_CASE("a .t7 that is not this network is refused, and the text says why") {
    const auto contains = [](const std::string& text, const std::string& part) {
        CAPTURE(text);
        CAPTURE(part);
        CHECK(text.find(part) != text.npos);
    };
    const auto number = [](const char* module, const char* key, double value) {
        return [=](Writer&, const std::string& name, Lua* made) {
            if (name == module) field(made, key)->value = value;
        };
    };
    contains(error_after(number("low.1", "dW", 1)), "stride");
    contains(error_after(number("low.1", "kH", 5)), "kernel");
    contains(error_after(number("low.1", "padW", 0)), "pads");
    contains(error_after(number("low.2", "kW", 3.5)), "no whole number");
    contains(error_after(number("upsample", "scale_factor", 3)), "scale_factor");
    contains(error_after(number("activation", "threshold", 1)), "no ReLU");
    contains(error_after(number("root", "mean", 2)), "luma_mean");
    contains(error_after([](Writer&, const std::string& name, Lua* made) {
                 if (name == "mid.1") made->name = "nn.SpatialFullConvolution";
             }),
             "SpatialFullConvolution is no part");
    contains(error_after([](Writer&, const std::string& name, Lua* made) {
                 if (name == "join") made->name = "nn.Identity";
             }),
             "JoinTable");
    contains(error_after([](Writer&, const std::string& name, Lua* made) {
                 if (name == "mid") made->body->entries.erase(made->body->entries.begin());
             }),
             "modules");
    contains(error_after([](Writer&, const std::string& name, Lua* made) {
                 if (name == "mid") field(made, "modules")->entries.pop_back();
             }),
             "a node's layer 4 is nothing, mid has relu");
    contains(error_after([](Writer& writer, const std::string& name, Lua* made) {
                 if (name == "low copy.3") {  // another number in one of the two copies
                     Lua* bias = field(made, "bias");
                     bias->body->numbers[size_t(bias->offset - 1)] += 1;
                 }
                 (void)writer;
             }),
             "the two low-level stacks differ in conv3 4-4/2");
    contains(error_after([](Writer&, const std::string& name, Lua* made) {
                 if (name == "global.fc2") {
                     Lua* weight = field(made, "weight");
                     weight->body->numbers[size_t(weight->offset)] = NAN;
                 }
             }),
             "not finite");
    contains(error_after([](Writer&, const std::string& name, Lua* made) {
                 if (name == "color.1") field(made, "weight")->offset += 100'000'000;
             }),
             "beyond its storage");
    contains(error_after([](Writer&, const std::string& name, Lua* made) {
                 if (name == "color.1") field(made, "weight")->strides[0] = int64_t{1} << 62;
             }),
             "too large");
    contains(error_after([](Writer&, const std::string& name, Lua* made) {
                 if (name == "global.fc1")
                     field(made, "weight")->sizes = {1 << 20, 1 << 20},
                                 field(made, "weight")->strides = {0, 0};
             }),
             "repeats its numbers");
    contains(error_after([](Writer& writer, const std::string& name, Lua* made) {
                 if (name == "view") made->body = writer.table({{"self", made}});
                 if (name == "root") made->entries.erase(made->entries.begin());
             }),
             "no model");

    ColorNet net = trained_network(small_spec());
    ColornetOptions options;
    options.mean = false;
    const std::vector<uint8_t> without = ColornetFile(net, options).bytes;
    contains(error_of(without), "--luma-mean");
    CHECK(import_torch7(without, "file.t7", 0.25).net->spec.luma_mean == 0.25);
    std::vector<uint8_t> trailing = ColornetFile(net, {}).bytes;
    trailing.insert(trailing.end(), 4, 0);
    contains(error_of(trailing), "bytes follow");
}

TEST_CASE("counts beyond the file and endless chains cost nothing") {
    const auto words = [](std::initializer_list<int32_t> list) {
        std::vector<uint8_t> bytes(list.size() * 4);
        std::memcpy(bytes.data(), list.begin(), bytes.size());
        return bytes;
    };
    const auto contains = [](const std::string& text, const char* part) {
        CAPTURE(text);
        CHECK(text.find(part) != text.npos);
    };
    contains(error_of(words({3, 1, 0x7fffffff})), "truncated");
    contains(error_of(words({3, 1, -1})), "negative");
    contains(error_of(words({2, 0x7fffffff, 0, 0})), "truncated");
    contains(error_of(words({4, 1, -5, 0})), "negative");
    contains(error_of(words({9, 1, 0})), "unknown type 9");
    contains(error_of(words({5, 7})), "boolean");
    contains(error_of({}), "truncated");
    contains(error_of(words({0})), "no object");
    std::vector<uint8_t> chain;  // each table is the only value of the one before
    for (int32_t i = 1; i <= 200'000; ++i) {
        const auto link = words({3, i, 1, 0});  // its key is nil
        chain.insert(chain.end(), link.begin(), link.end());
    }
    contains(error_of(chain), "more than 100000 values");
    chain.resize(16 * 40'000);
    contains(error_of(chain), "truncated");
    // Of all things, an object that is its own body, and a function without a number.
    std::vector<uint8_t> self = words({4, 1, 6});
    for (const char c : std::string("nn.Foo")) self.push_back(uint8_t(c));
    const auto end = words({4, 1});
    self.insert(self.end(), end.begin(), end.end());
    contains(error_of(self), "holds no table");
    contains(error_of(words({6, 4, 0, 0})), "holds no table");
    CHECK(Torch7File::begins(words({3, 1, 2})));
    CHECK_FALSE(Torch7File::begins(words({3, 0, 2})));
}

TEST_CASE("network.bin is the weights in order, and nothing else") {
    const Spec spec = small_spec();
    ColorNet net = trained_network(spec);
    std::vector<uint8_t> bytes;
    const auto append = [&](const Tensor& t) {
        const auto* at = reinterpret_cast<const uint8_t*>(t.raw());
        bytes.insert(bytes.end(), at, at + t.bytes());
    };
    // low, mid, global, fully connected, fusion, colour, output: the order of visit, of the file.
    net.visit([&](const std::string&, Parameter& p) { append(to_file_order(p.value)); });
    check_same(net, *import_network_bin(bytes, "network.bin", spec).net);
    CHECK_THROWS_WITH_AS(import_network_bin({bytes.data(), bytes.size() - 1}, "n", spec),
                         doctest::Contains("n: too short"), ModelError);
    bytes.push_back(0);
    CHECK_THROWS_WITH_AS(import_network_bin(bytes, "n", spec),
                         doctest::Contains("a network.bin has"), ModelError);
    std::memset(bytes.data() + 8, 0xff, 4);
    CHECK_THROWS_WITH_AS(import_network_bin(bytes, "n", spec), doctest::Contains("not finite"),
                         ModelError);
    // The published size is what the paper's network has.
    int64_t numbers = 0;
    ColorNet(network_bin_spec()).visit([&](const std::string&, Parameter& p) {
        numbers += p.value.numel();
    });
    CHECK(4 * numbers == kNetworkBinBytes);
}
