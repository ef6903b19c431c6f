#include "model/export_onnx.hpp"

#include <algorithm>
#include <set>
#include <variant>

#include "layers/conv2d.hpp"
#include "layers/flatten.hpp"
#include "layers/fusion.hpp"
#include "layers/linear.hpp"
#include "layers/upsample.hpp"
#include "model/infer/passes.hpp"
#include "model/infer/step.hpp"
#include "model/protobuf.hpp"
#include "tensor/error.hpp"
#include "tensor/file.hpp"

namespace lumachrome {
namespace {

using Names = std::vector<std::string>;
using Integers = std::vector<int64_t>;

constexpr int64_t kIrVersion = 7, kOpset = 13;

// Field numbers of onnx.proto.
namespace model_proto {
constexpr int kIrVersion = 1, kProducer = 2, kGraph = 7, kOpset = 8, kMetadata = 14;
}
namespace graph_proto {
constexpr int kNode = 1, kName = 2, kInitializer = 5, kInput = 11, kOutput = 12;
}
namespace node_proto {
constexpr int kInput = 1, kOutput = 2, kName = 3, kOpType = 4, kAttribute = 5;
}
namespace attribute_proto {
constexpr int kName = 1, kInteger = 3, kText = 4, kIntegers = 8, kType = 20;
constexpr int64_t kIntegerType = 2, kTextType = 3, kIntegersType = 7;
}  // namespace attribute_proto
namespace tensor_proto {
constexpr int kDims = 1, kDataType = 2, kName = 8, kRawData = 9;
constexpr int64_t kFloat = 1, kInt64 = 7, kFloat16 = 10, kBfloat16 = 16;
}  // namespace tensor_proto

int64_t data_type(DType dtype) {
    return dtype == DType::f16    ? tensor_proto::kFloat16
           : dtype == DType::bf16 ? tensor_proto::kBfloat16
                                  : tensor_proto::kFloat;
}

Message attribute(const std::string& name, int64_t value) {
    return Message()
        .text(attribute_proto::kName, name)
        .integer(attribute_proto::kInteger, value)
        .integer(attribute_proto::kType, attribute_proto::kIntegerType);
}
Message attribute(const std::string& name, const char* value) {
    return Message()
        .text(attribute_proto::kName, name)
        .text(attribute_proto::kText, value)
        .integer(attribute_proto::kType, attribute_proto::kTextType);
}
Message attribute(const std::string& name, const Integers& values) {
    Message message;
    message.text(attribute_proto::kName, name);
    for (const int64_t value : values) message.integer(attribute_proto::kIntegers, value);
    return message.integer(attribute_proto::kType, attribute_proto::kIntegersType);
}

// Everything of a TensorProto but its numbers, which follow.
Message tensor_head(const std::string& name, const Integers& dims, int64_t type, size_t bytes) {
    Message message;
    for (const int64_t extent : dims) message.integer(tensor_proto::kDims, extent);
    return message.integer(tensor_proto::kDataType, type)
        .text(tensor_proto::kName, name)
        .length(tensor_proto::kRawData, bytes);
}

// A dimension is a number or, in words, what it depends on.
using Dimension = std::variant<int64_t, std::string>;
Message value_info(const std::string& name, const std::vector<Dimension>& dims) {
    Message shape;
    for (const Dimension& dim : dims) {
        Message one;
        if (const auto* number = std::get_if<int64_t>(&dim))
            one.integer(1, *number);
        else
            one.text(2, std::get<std::string>(dim));
        shape.message(1, one);
    }
    const Message tensor = Message().integer(1, tensor_proto::kFloat).message(2, shape);
    return Message().text(1, name).message(2, Message().message(1, tensor));
}

class Exporter {
  public:
    Exporter(const Graph& traced, DType weights)
        : graph(traced), weights_(weights), names_(traced.values.size()) {}

    const Graph& graph;

    // The name of an input or a computed value; empty before it is set.
    const std::string& name(int value) const { return names_[size_t(value)]; }
    void set_name(int value, const std::string& name) { names_[size_t(value)] = name; }
    // `wish`, or with a number behind it where that is taken.
    std::string unused(const std::string& wish) {
        std::string name = wish;
        for (int i = 2; !taken_.insert(name).second; ++i) name = wish + ":" + std::to_string(i);
        return name;
    }

    void node(const char* type, const Names& inputs, const std::string& output,
              const std::vector<Message>& attributes = {}) {
        Message message;
        for (const std::string& input : inputs) message.text(node_proto::kInput, input);
        message.text(node_proto::kOutput, output).text(node_proto::kName, output);
        message.text(node_proto::kOpType, type);
        for (const Message& one : attributes) message.message(node_proto::kAttribute, one);
        nodes_.message(graph_proto::kNode, message);
    }

    // A weight or bias [K,R,S,C], [O,I] or [K], written once however often it is used. Returns the
    // name under which it is f32. `view` takes the part of it that is wanted.
    template <class View>
    std::string weight(int value, const std::string& name, const View& view) {
        auto [at, fresh] = weight_names_.try_emplace({value, name}, name);
        if (!fresh) return at->second;
        const Tensor& constant = graph.values[size_t(value)].constant;
        if (!constant.defined()) throw Error(name + ": an export needs constant weights");
        const Tensor part = view(constant);
        const DType dtype = part.shape().rank() >= 2 ? weights_ : DType::f32;
        initializers_.push_back({name, part, dtype});
        if (dtype == DType::f32) return name;
        at->second = name + "/f32";
        node("Cast", {name}, at->second, {attribute("to", tensor_proto::kFloat)});
        return at->second;
    }
    std::string weight(int value, const std::string& name) {
        return weight(value, name, [](const Tensor& whole) { return whole; });
    }
    template <class T>
    std::string constant(const std::string& name, const Integers& dims,
                         const std::vector<T>& numbers) {
        const int64_t type = std::is_same_v<T, float> ? tensor_proto::kFloat : tensor_proto::kInt64;
        if (!taken_.insert(name).second) return name;
        const size_t size = numbers.size() * sizeof(T);
        const Message head = tensor_head(name, dims, type, size);
        constants_.length(graph_proto::kInitializer, head.bytes().size() + size).raw(head.bytes());
        constants_.raw({reinterpret_cast<const char*>(numbers.data()), size});
        return name;
    }

    struct Initializer {
        std::string name;
        Tensor value;  // f32, in memory's order
        DType dtype;   // as written
        Message head() const {
            const Shape& s = value.shape();
            Integers dims;
            for (int axis = 0; axis < s.rank(); ++axis) dims.push_back(s[axis]);
            if (s.rank() == 4) dims = {s[0], s[3], s[1], s[2]};
            return tensor_head(name, dims, data_type(dtype), bytes());
        }
        size_t bytes() const { return size_t(value.numel() * size_in_bytes(dtype)); }
    };
    const std::vector<Initializer>& initializers() const { return initializers_; }
    std::string nodes_and_constants() const { return nodes_.bytes() + constants_.bytes(); }

  private:
    DType weights_;
    Names names_;
    std::set<std::string> taken_;
    std::map<std::pair<int, std::string>, std::string> weight_names_;
    std::vector<Initializer> initializers_;
    Message nodes_, constants_;
};

template <class T>
const T* as(const Graph::Node& node) {
    return dynamic_cast<const T*>(node.op.get());
}

std::vector<Message> window(const Conv2dSpec& spec) {
    const int64_t k = spec.kernel, s = spec.stride, p = spec.pad();
    return {attribute("kernel_shape", Integers{k, k}), attribute("strides", Integers{s, s}),
            attribute("pads", Integers{p, p, p, p})};
}

const std::vector<Message> kTransposed{attribute("transB", int64_t{1})};

// Each writes `node`, whose output is named `y`, if it is of its kind.
using Emit = bool (*)(Exporter&, const Graph::Node& node, const std::string& y);

bool convolution(Exporter& out, const Graph::Node& node, const std::string& y) {
    const auto* op = as<Conv2dOp>(node);
    if (!op) return false;
    out.node("Conv",
             {out.name(node.inputs[0]), out.weight(node.inputs[1], node.name + ".weight"),
              out.weight(node.inputs[2], node.name + ".bias")},
             y, window(op->spec));
    return true;
}

bool fully_connected(Exporter& out, const Graph::Node& node, const std::string& y) {
    if (!as<LinearOp>(node)) return false;
    out.node("Gemm",
             {out.name(node.inputs[0]), out.weight(node.inputs[1], node.name + ".weight"),
              out.weight(node.inputs[2], node.name + ".bias")},
             y, kTransposed);
    return true;
}

bool fusion(Exporter& out, const Graph::Node& node, const std::string& y) {
    const auto* op = as<FusionOp>(node);
    if (!op) return false;
    const std::vector<Shape> in = out.graph.input_shapes(node);
    const int64_t M = in[0][3], G = in[1][1], K = in[2][0], R = op->spec.kernel;
    const std::string name = node.name + ".weight", m = out.name(node.inputs[0]);
    out.node("Conv",
             {m,
              out.weight(node.inputs[2], name + ".local",
                         [&](const Tensor& w) { return channels_of(w, 0, M); }),
              out.weight(node.inputs[3], node.name + ".bias")},
             y + "/local", window(op->spec));
    out.node("Gemm",
             {out.name(node.inputs[1]),
              out.weight(node.inputs[2], name + ".global",
                         [&](const Tensor& w) {
                             return channels_of(w, M, M + G).reshape({K * R * R, G});
                         })},
             y + "/taps", kTransposed);
    if (R == 1) {
        out.node("Reshape", {y + "/taps", out.constant<int64_t>(y + "/shape", {4}, {1, K, 1, 1})},
                 y + "/global");
    } else {
        out.node("Reshape", {y + "/taps", out.constant<int64_t>(y + "/shape", {4}, {K, 1, R, R})},
                 y + "/filters");
        // As many ones as the map has cells, whatever its size.
        const auto zeros = std::vector<float>(size_t(M));
        out.node("Conv",
                 {m, out.constant<float>(y + "/no_weights", {1, M, 1, 1}, zeros),
                  out.constant<float>(y + "/one", {1}, {1})},
                 y + "/ones", window({1, 1}));
        out.node("Conv", {y + "/ones", y + "/filters"}, y + "/global", window(op->spec));
    }
    out.node("Add", {y + "/local", y + "/global"}, y);
    return true;
}

bool activation(Exporter& out, const Graph::Node& node, const std::string& y) {
    const auto* op = as<ActivationOp>(node);
    if (!op) return false;
    out.node(op->activation == Activation::relu ? "Relu" : "Sigmoid", {out.name(node.inputs[0])},
             y);
    return true;
}

bool enlargement(Exporter& out, const Graph::Node& node, const std::string& y) {
    if (!as<UpsampleOp>(node)) return false;
    const std::string scales = out.constant<float>("twice", {4}, {1, 1, 2, 2});
    out.node("Resize", {out.name(node.inputs[0]), "", scales}, y,
             {attribute("coordinate_transformation_mode", "asymmetric"),
              attribute("mode", "nearest"), attribute("nearest_mode", "floor")});
    return true;
}

bool flattening(Exporter& out, const Graph::Node& node, const std::string& y) {
    if (!as<FlattenOp>(node)) return false;  // both in the order C,H,W
    out.node("Flatten", {out.name(node.inputs[0])}, y, {attribute("axis", int64_t{1})});
    return true;
}

constexpr Emit kEmitters[] = {convolution, fully_connected, fusion,
                              activation,  enlargement,     flattening};

Graph traced(ColorNet& net) {
    ParameterNames names;
    net.visit([&](const std::string& name, Parameter& p) { names[&p] = name; });
    const bool use_global = net.spec.use_global;
    const auto define = [&](Tape&, std::span<const Var> in) {
        const ColorNet::Output output = net(in[0], in[use_global ? 1 : 0]);
        std::vector<Var> outputs{output.color};
        if (output.logits) outputs.push_back(*output.logits);
        return outputs;
    };
    const int64_t side = net.spec.global_size;
    std::vector<Shape> shapes{{1, side, side, 1}};
    if (use_global) shapes.push_back(shapes[0]);
    return fold_batch_norm(drop_unused(trace(define, shapes, names)));
}

// Maps, inputs and outputs of the network, and what they mean.
Message describe(const Spec& spec, const Metadata& metadata, Message& graph) {
    const int64_t S = spec.global_size;
    Metadata notes = metadata;
    for (const auto& [key, value] : to_metadata(spec)) notes.try_emplace(key, value);
    const auto input = [&](const char* name, const std::vector<Dimension>& dims, std::string note) {
        graph.message(graph_proto::kInput, value_info(name, dims));
        notes[std::string("input ") + name] = std::move(note);
    };
    const auto output = [&](const char* name, const std::vector<Dimension>& dims,
                            std::string note) {
        graph.message(graph_proto::kOutput, value_info(name, dims));
        notes[std::string("output ") + name] = std::move(note);
    };
    input("x", {int64_t{1}, int64_t{1}, "height", "width"},
          "the photo's luma (0.299 R + 0.587 G + 0.114 B of sRGB in 0..1) minus luma_mean; height "
          "and width are multiples of 8");
    if (spec.use_global)
        input("copy", {int64_t{1}, int64_t{1}, S, S},
              "the same photo at " + std::to_string(S) + "x" + std::to_string(S) +
                  ", aspect not kept");
    output("color", {int64_t{1}, kOutputChannels, "height/2", "width/2"},
           "a and b of CIELAB (D65) at half the size: ab_scale * (2 * color - 1)");
    if (spec.has_class_head())
        output("logits", {int64_t{1}, spec.classes},
               "of the scenes class_names; softmax gives probabilities");
    Message props;
    for (const auto& [key, value] : notes)
        props.message(model_proto::kMetadata, Message().text(1, key).text(2, value));
    return props;
}

std::span<const uint8_t> bytes_of(const std::string& text) {
    return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

}  // namespace

OnnxSize export_onnx(const std::string& path, ColorNet net, const Metadata& metadata,
                     const OnnxOptions& options) {
    const Spec spec = net.spec;
    Graph graph;
    {
        ColorNet network = std::move(net);  // its norms are folded, the graph holds the rest
        graph = traced(network);
    }
    Exporter out(graph, options.weights);
    const char* inputs[] = {"x", "copy"};
    for (size_t i = 0; i < graph.inputs.size(); ++i)
        out.set_name(graph.inputs[i], out.unused(inputs[i]));
    const char* outputs[] = {"color", "logits"};
    for (size_t i = 0; i < graph.outputs.size(); ++i)
        out.set_name(graph.outputs[i], out.unused(outputs[i]));
    for (const Graph::Node& node : graph.nodes) {
        // Ops without weights are called after what they read: "low.1.conv/relu".
        if (out.name(node.output).empty()) {
            const bool weights = node.inputs.size() > 1;
            out.set_name(
                node.output,
                out.unused(weights ? node.name : out.name(node.inputs[0]) + "/" + node.op->name()));
        }
        const bool written =
            std::any_of(std::begin(kEmitters), std::end(kEmitters),
                        [&](Emit emit) { return emit(out, node, out.name(node.output)); });
        if (!written) throw Error(node.name + ": " + node.op->name() + " has no ONNX form");
    }

    Message graph_start;
    graph_start.text(graph_proto::kName, "lumachrome");
    const Message props = describe(spec, metadata, graph_start);
    size_t graph_bytes = graph_start.bytes().size() + out.nodes_and_constants().size();
    std::vector<std::string> heads;  // of initializers
    for (const Exporter::Initializer& one : out.initializers()) {
        const Message head = one.head();
        heads.push_back(
            Message().length(graph_proto::kInitializer, head.bytes().size() + one.bytes()).bytes() +
            head.bytes());
        graph_bytes += heads.back().size() + one.bytes();
    }
    Message start;
    start.integer(model_proto::kIrVersion, kIrVersion)
        .text(model_proto::kProducer, "lumachrome")
        .message(model_proto::kOpset, Message().text(1, "").integer(2, kOpset));
    AtomicFile file(path, options.overwrite);
    file.write(bytes_of(start.bytes() + props.bytes() +
                        Message().length(model_proto::kGraph, graph_bytes).bytes() +
                        graph_start.bytes() + out.nodes_and_constants()));
    OnnxSize size;
    for (size_t i = 0; i < heads.size(); ++i) {
        const Exporter::Initializer& one = out.initializers()[i];
        const Tensor ordered = to_file_order(one.value);
        const Tensor stored = one.dtype == DType::f16 ? to_f16(ordered) : ordered.to(one.dtype);
        file.write(bytes_of(heads[i]));
        file.write({reinterpret_cast<const uint8_t*>(stored.raw()), one.bytes()});
        ++size.tensors;
        size.parameters += one.value.numel();
    }
    file.commit();
    return size;
}

}  // namespace lumachrome
