// ONNX files, read by a reader of their own and run by the definitions of ONNX's operators,
// N,C,H,W.
#include <doctest/doctest.h>

#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <set>

#include "model/export_onnx.hpp"
#include "model/infer/inference.hpp"
#include "support/random_tensor.hpp"
#include "support/trained_network.hpp"
#include "tensor/error.hpp"
#include "tensor/file.hpp"
#include "tensor/larger_or_nan.hpp"

using namespace lumachrome;

namespace {

using Span = std::span<const uint8_t>;

// A message as the fields it is made of.
struct Field {
    uint64_t number = 0;  // its value, of a varint
    Span bytes;           // of a string, message or float
    std::string text() const { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }
};
using Fields = std::multimap<uint64_t, Field>;

Fields fields_of(Span bytes) {
    Fields fields;
    size_t at = 0;
    const auto varint = [&] {
        uint64_t value = 0;
        for (int shift = 0;; shift += 7) {
            REQUIRE(at < bytes.size());
            const uint8_t byte = bytes[at++];
            value |= uint64_t{byte & 0x7fu} << shift;
            if (byte < 0x80) return value;
        }
    };
    while (at < bytes.size()) {
        const uint64_t key = varint();
        Field field;
        const uint64_t form = key & 7;
        if (form == 0) {
            field.number = varint();
        } else {
            REQUIRE((form == 2 || form == 5));
            const uint64_t size = form == 5 ? 4 : varint();
            REQUIRE(size <= bytes.size() - at);
            field.bytes = bytes.subspan(at, size);
            at += size;
        }
        fields.emplace(key >> 3, field);
    }
    return fields;
}

std::vector<Field> all(const Fields& fields, uint64_t number) {
    std::vector<Field> found;
    for (auto [at, end] = fields.equal_range(number); at != end; ++at) found.push_back(at->second);
    return found;
}
Field one(const Fields& fields, uint64_t number) {
    const auto found = all(fields, number);
    REQUIRE(found.size() == 1);
    return found[0];
}

struct Array {
    std::vector<int64_t> dims;
    std::vector<double> data;
    double at(int64_t n, int64_t c, int64_t h, int64_t w) const {
        return data[size_t(((n * dims[1] + c) * dims[2] + h) * dims[3] + w)];
    }
};

struct Onnx {
    struct Node {
        std::string type, name, output;
        std::vector<std::string> inputs;
        std::map<std::string, std::vector<int64_t>> integers;
        std::map<std::string, std::string> texts;
    };
    uint64_t ir = 0, opset = 0;
    std::map<std::string, std::string> metadata;
    std::vector<Node> nodes;
    std::map<std::string, Array> initializers;
    std::map<std::string, uint64_t> types;  // of initializers
    std::vector<std::string> inputs, outputs;
    std::map<std::string, std::string> shapes;  // "1x1xheightxwidth"
};

double number_at(Span raw, uint64_t type, size_t i) {
    const auto read = [&](auto value) {
        REQUIRE((i + 1) * sizeof value <= raw.size());
        std::memcpy(&value, raw.data() + i * sizeof value, sizeof value);
        return value;
    };
    if (type == 7) return double(read(int64_t{}));
    if (type == 10) return f16_to_float(read(uint16_t{}));
    if (type == 16) return bf16_to_float(read(uint16_t{}));
    REQUIRE(type == 1);
    return read(float{});
}

Onnx read(const std::vector<uint8_t>& bytes) {
    Onnx onnx;
    const Fields model = fields_of(bytes);
    onnx.ir = one(model, 1).number;
    onnx.opset = one(fields_of(one(model, 8).bytes), 2).number;
    for (const Field& pair : all(model, 14)) {
        const Fields entry = fields_of(pair.bytes);
        onnx.metadata[one(entry, 1).text()] = one(entry, 2).text();
    }
    const Fields graph = fields_of(one(model, 7).bytes);
    for (const Field& field : all(graph, 1)) {
        const Fields from = fields_of(field.bytes);
        Onnx::Node node{one(from, 4).text(), one(from, 3).text(), one(from, 2).text(), {}, {}, {}};
        for (const Field& input : all(from, 1)) node.inputs.push_back(input.text());
        for (const Field& attribute : all(from, 5)) {
            const Fields parts = fields_of(attribute.bytes);
            const std::string name = one(parts, 1).text();
            auto& integers = node.integers[name];
            for (const uint64_t place : {3, 8})
                for (const Field& value : all(parts, place))
                    integers.push_back(int64_t(value.number));
            for (const Field& value : all(parts, 4)) node.texts[name] = value.text();
            const uint64_t type = one(parts, 20).number;
            CHECK(type == (node.texts.contains(name) ? 3u : all(parts, 3).empty() ? 7u : 2u));
        }
        onnx.nodes.push_back(node);
    }
    for (const Field& field : all(graph, 5)) {
        const Fields from = fields_of(field.bytes);
        const std::string name = one(from, 8).text();
        Array array;
        int64_t count = 1;
        for (const Field& extent : all(from, 1)) {
            array.dims.push_back(int64_t(extent.number));
            count *= array.dims.back();
        }
        const uint64_t type = onnx.types[name] = one(from, 2).number;
        const Span raw = one(from, 9).bytes;
        CHECK(raw.size() == size_t(count) * (type == 7 ? 8 : type == 1 ? 4 : 2));
        for (size_t i = 0; i < size_t(count); ++i) array.data.push_back(number_at(raw, type, i));
        CHECK(onnx.initializers.emplace(name, array).second);
    }
    const auto values = [&](uint64_t place, std::vector<std::string>& names) {
        for (const Field& field : all(graph, place)) {
            const Fields info = fields_of(field.bytes);
            names.push_back(one(info, 1).text());
            const Fields tensor = fields_of(one(fields_of(one(info, 2).bytes), 1).bytes);
            CHECK(one(tensor, 1).number == 1);
            std::string& shape = onnx.shapes[names.back()];
            for (const Field& dim : all(fields_of(one(tensor, 2).bytes), 1)) {
                const Fields extent = fields_of(dim.bytes);
                if (!shape.empty()) shape += "x";
                shape += extent.contains(1) ? std::to_string(one(extent, 1).number)
                                            : one(extent, 2).text();
            }
        }
    };
    values(11, onnx.inputs);
    values(12, onnx.outputs);
    return onnx;
}

// The few operators, by ONNX's own definitions.
Array run_node(const Onnx::Node& node, const std::vector<const Array*>& in) {
    const Array& x = *in[0];
    Array y;
    if (node.type == "Conv") {
        const Array& w = *in[1];
        const int64_t stride = node.integers.at("strides")[0], pad = node.integers.at("pads")[0];
        const int64_t R = node.integers.at("kernel_shape")[0];
        REQUIRE(w.dims[2] == R);
        REQUIRE(w.dims[1] == x.dims[1]);
        y.dims = {1, w.dims[0], (x.dims[2] + 2 * pad - R) / stride + 1,
                  (x.dims[3] + 2 * pad - R) / stride + 1};
        for (int64_t k = 0; k < y.dims[1]; ++k)
            for (int64_t p = 0; p < y.dims[2]; ++p)
                for (int64_t q = 0; q < y.dims[3]; ++q) {
                    double sum = in.size() > 2 ? in[2]->data[size_t(k)] : 0;
                    for (int64_t r = 0; r < R; ++r)
                        for (int64_t s = 0; s < R; ++s) {
                            const int64_t h = p * stride + r - pad, v = q * stride + s - pad;
                            if (h < 0 || h >= x.dims[2] || v < 0 || v >= x.dims[3]) continue;
                            for (int64_t c = 0; c < x.dims[1]; ++c)
                                sum += w.at(k, c, r, s) * x.at(0, c, h, v);
                        }
                    y.data.push_back(sum);
                }
    } else if (node.type == "Gemm") {
        REQUIRE(node.integers.at("transB")[0] == 1);
        const Array& w = *in[1];
        REQUIRE(w.dims[1] == x.dims[1]);
        y.dims = {1, w.dims[0]};
        for (int64_t o = 0; o < w.dims[0]; ++o) {
            double sum = in.size() > 2 ? in[2]->data[size_t(o)] : 0;
            for (int64_t i = 0; i < w.dims[1]; ++i)
                sum += w.data[size_t(o * w.dims[1] + i)] * x.data[size_t(i)];
            y.data.push_back(sum);
        }
    } else if (node.type == "Resize") {
        CHECK(node.texts.at("mode") == "nearest");
        CHECK(node.texts.at("coordinate_transformation_mode") == "asymmetric");
        CHECK(node.texts.at("nearest_mode") == "floor");
        CHECK(in[1]->data == std::vector<double>{1, 1, 2, 2});
        y.dims = {1, x.dims[1], 2 * x.dims[2], 2 * x.dims[3]};
        for (int64_t c = 0; c < y.dims[1]; ++c)
            for (int64_t h = 0; h < y.dims[2]; ++h)
                for (int64_t w = 0; w < y.dims[3]; ++w) y.data.push_back(x.at(0, c, h / 2, w / 2));
    } else if (node.type == "Add") {  // the second may be one number a channel
        y = x;
        const size_t area = in[1]->data.size() == x.data.size() ? 1 : size_t(x.dims[2] * x.dims[3]);
        for (size_t i = 0; i < y.data.size(); ++i) y.data[i] += in[1]->data[i / area];
    } else if (node.type == "Reshape") {
        y = x;
        y.dims.assign(in[1]->data.begin(), in[1]->data.end());
    } else if (node.type == "Flatten") {
        CHECK(node.integers.at("axis")[0] == 1);
        y = x;
        y.dims = {1, std::ssize(x.data)};
    } else if (node.type == "Cast") {
        CHECK(node.integers.at("to")[0] == 1);
        y = x;
    } else {
        REQUIRE((node.type == "Relu" || node.type == "Sigmoid"));
        y = x;
        for (double& value : y.data)
            value = node.type == "Relu" ? std::max(value, 0.0) : 1 / (1 + std::exp(-value));
    }
    return y;
}

Array nchw(const Tensor& t) {
    const Shape& s = t.shape();
    Array array{{s[0], s[3], s[1], s[2]}, {}};
    const Tensor ordered = to_file_order(t);
    for (int64_t i = 0; i < t.numel(); ++i) array.data.push_back(ordered.item(i));
    return array;
}

std::map<std::string, Array> run(const Onnx& onnx, const std::vector<Tensor>& in) {
    std::map<std::string, Array> values = onnx.initializers;
    REQUIRE(onnx.inputs.size() == in.size());
    for (size_t i = 0; i < in.size(); ++i) values[onnx.inputs[i]] = nchw(in[i]);
    for (const Onnx::Node& node : onnx.nodes) {
        std::vector<const Array*> inputs;
        for (const std::string& name : node.inputs) {
            if (name.empty()) continue;
            CAPTURE(name);
            REQUIRE(values.contains(name));  // defined by a node before
            inputs.push_back(&values[name]);
        }
        Array y = run_node(node, inputs);
        CHECK(values.emplace(node.output, std::move(y)).second);
    }
    return values;
}

struct Exported {
    std::string path;
    OnnxSize size;
    Onnx onnx;

    Exported(const ColorNet& net, const Metadata& metadata, const OnnxOptions& options = {})
        : path((std::filesystem::temp_directory_path() /
                ("lumachrome-export-" + std::to_string(getpid()) + ".onnx"))
                   .string()) {
        std::filesystem::remove(path);
        size = export_onnx(path, net, metadata, options);
        onnx = read(read_file(path));
    }
    ~Exported() { std::filesystem::remove(path); }
};

Spec small_spec() {
    Spec spec = preset("tiny");
    spec.width_divisor = 32;
    spec.classes = 5;
    return spec;
}

struct Outputs {
    Tensor color, logits;
};
Outputs ours(ColorNet net, const std::vector<Tensor>& in) {
    Tape tape(Phase::eval, Exec{});
    const Var x = tape.input(in[0]);
    const ColorNet::Output out = net(x, in.size() > 1 ? tape.input(in[1]) : x);
    return {out.color.value, out.logits ? out.logits->value : Tensor{}};
}

std::vector<Tensor> inputs(const Spec& spec, int64_t height, int64_t width) {
    std::vector<Tensor> in{random_tensor({1, height, width, 1}, 1, DType::f32, -0.5, 0.5)};
    const int64_t side = spec.global_size;
    if (spec.use_global) in.push_back(random_tensor({1, side, side, 1}, 2, DType::f32, -0.5, 0.5));
    return in;
}

double distance(const Array& a, const std::vector<double>& b) {
    REQUIRE(a.data.size() == b.size());
    double worst = 0;
    for (size_t i = 0; i < b.size(); ++i) worst = larger_or_nan(worst, std::fabs(a.data[i] - b[i]));
    return worst;
}

}  // namespace

TEST_CASE("an exported network gives the same colours and logits, at any size") {
    for (int variant = 0; variant < 6; ++variant) {
        CAPTURE(variant);
        Spec spec = small_spec();
        if (variant == 1) spec.fusion_kernel = 1;
        if (variant == 2) spec.use_global = false;
        if (variant == 3) spec.activation = Activation::sigmoid;
        if (variant == 4) spec.batch_norm = false, spec.classes = 0;
        if (variant == 5) spec.dropout = 0.5;
        const ColorNet net = trained_network(spec);
        const Exported exported(net, to_metadata(spec));
        const int64_t sizes[][2] = {{8, 8}, {8, 24}, {40, 16}, {64, 64}};
        for (const auto& [height, width] : sizes) {
            const std::vector<Tensor> in = inputs(spec, height, width);
            auto values = run(exported.onnx, in);
            const Outputs expected = ours(net, in);
            CHECK(values["color"].dims == std::vector<int64_t>{1, 2, height / 2, width / 2});
            // Rounding of f32, through 15 layers, against sums in double.
            CHECK(distance(values["color"], nchw(expected.color).data) < 1e-5);
            CHECK(values.contains("logits") == expected.logits.defined());
            if (!expected.logits.defined()) continue;
            std::vector<double> logits;
            for (int64_t i = 0; i < spec.classes; ++i) logits.push_back(expected.logits.item(i));
            CHECK(distance(values["logits"], logits) < 1e-4);
        }
    }
}

TEST_CASE("an ONNX file says what it is, and has each weight once") {
    const Spec spec = small_spec();
    const ColorNet net = trained_network(spec);
    const Exported exported(net, {{"licence", "CC0-1.0"}, {"source_sha256", "00ff"}});
    const Onnx& onnx = exported.onnx;
    CHECK(onnx.ir == 7);
    CHECK(onnx.opset == 13);
    CHECK(onnx.inputs == std::vector<std::string>{"x", "copy"});
    CHECK(onnx.outputs == std::vector<std::string>{"color", "logits"});
    CHECK(onnx.shapes.at("x") == "1x1xheightxwidth");
    CHECK(onnx.shapes.at("copy") == "1x1x64x64");
    CHECK(onnx.shapes.at("color") == "1x2xheight/2xwidth/2");
    CHECK(onnx.shapes.at("logits") == "1x5");
    CHECK(onnx.metadata.at("licence") == "CC0-1.0");
    CHECK(onnx.metadata.at("source_sha256") == "00ff");
    for (const char* key : {"luma_mean", "ab_scale", "input x", "input copy", "output color"})
        CHECK(onnx.metadata.contains(key));
    std::map<std::string, int> types;
    std::set<std::string> names;
    for (const Onnx::Node& node : onnx.nodes) {
        ++types[node.type];
        CHECK(names.insert(node.name).second);
    }
    // low twice, mid, global, fusion (the local half; ones; spread), colour, output.
    CHECK(types["Conv"] == 6 + 6 + 2 + 4 + 3 + 4 + 1);
    CHECK(types["Gemm"] == 3 + 1 + 2);
    CHECK(types["Resize"] == 2);
    CHECK(types.contains("BatchNormalization") == false);
    // 18 convolutions and 5 fully connected layers; the fusion's weights in two parts.
    CHECK(exported.size.tensors == 2 * (6 + 2 + 4 + 3 + 1 + 4 + 1 + 2) + 1);
    int64_t published = 0;
    ColorNet(spec).visit([&](const std::string& name, Parameter& p) {
        if (name.find(".norm.") == name.npos) published += p.value.numel();
    });
    CHECK(exported.size.parameters == published);
}

TEST_CASE("weights are stored in the type asked for, biases in f32") {
    const ColorNet net = trained_network(small_spec());
    const std::vector<Tensor> in = inputs(net.spec, 16, 24);
    const std::vector<double> expected = nchw(ours(net, in).color).data;
    const auto size = [](const Exported& e) { return std::filesystem::file_size(e.path); };
    uintmax_t full;
    {
        const Exported exported(net, {});
        full = size(exported);
        CHECK(exported.onnx.types.at("mid.1.conv.weight") == 1);
    }
    for (const DType dtype : {DType::f16, DType::bf16}) {
        const Exported exported(net, {}, {dtype, false});
        CHECK(exported.onnx.types.at("mid.1.conv.weight") == (dtype == DType::f16 ? 10 : 16));
        CHECK(exported.onnx.types.at("mid.1.conv.bias") == 1);
        CHECK(double(size(exported)) < 0.75 * double(full));
        // Four roundings of the weights.
        const double bound = 4 * (dtype == DType::f16 ? 0x1p-11 : 0x1p-8);
        CHECK(distance(run(exported.onnx, in)["color"], expected) < bound);
    }
}

TEST_CASE("an export replaces nothing unasked, and leaves nothing behind when it fails") {
    ColorNet net = trained_network(small_spec());
    const Exported exported(net, {});
    CHECK_THROWS_AS(export_onnx(exported.path, net, {}), UsageError);
    net.output.weight.value.fill(1e6);
    CHECK_THROWS_AS(export_onnx(exported.path, net, {}, {DType::f16, true}), ModelError);
    CHECK(read(read_file(exported.path)).nodes.size() == exported.onnx.nodes.size());
    for (const auto& entry :
         std::filesystem::directory_iterator(std::filesystem::path(exported.path).parent_path()))
        CHECK_FALSE(entry.path().string().starts_with(exported.path + ".tmp"));
}
