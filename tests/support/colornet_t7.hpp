// A colornet.t7 with the weights of a network of ours: the published graph of 12 nodes with all
// that surrounds them, which the importer has to pass over.
#pragma once
#include <algorithm>
#include <functional>

#include "model/state.hpp"
#include "support/torch7_writer.hpp"

namespace lumachrome::torch7_writer {

struct ColornetOptions : Writer::Options {
    bool global_first = false;  // in nn.JoinTable
    bool strided = false;       // filters with their axes the other way round in memory
    bool flat_filters = false;  // weights [out, in*kH*kW], as older files have them
    bool inverse_std = false;   // norms as before version 2
    bool gradients = true;
    bool mean = true;
    // Called with each module before it is written, and with the root at last.
    std::function<void(Writer&, const std::string& name, Lua* module)> change = {};
};

class ColornetFile {
  public:
    ColornetFile(ColorNet& net, const ColornetOptions& options)
        : net_(net), options_(options), writer_(options) {
        weights_ = writer_.storage();
        gradients_ = writer_.storage();
        weights_->numbers.assign(7, -1e30);  // somebody else's part
        root_ = build();
        if (options_.change) options_.change(writer_, "root", root_);
        bytes = writer_.file(root_);
        storages = writer_.storages();
    }
    std::vector<uint8_t> bytes;
    std::vector<std::pair<size_t, size_t>> storages;

  private:
    struct Node {
        Lua *node, *data;
    };

    Lua* module(const std::string& name, Lua* made) {
        made->body->entries.emplace_back(writer_.text("train"), writer_.boolean(false));
        made->body->entries.emplace_back(writer_.text("_type"), writer_.text("torch.FloatTensor"));
        for (const char* buffer : {"output", "gradInput"})
            made->body->entries.emplace_back(writer_.text(buffer), writer_.empty_tensor());
        if (options_.change) options_.change(writer_, name, made);
        return made;
    }

    static std::vector<double> numbers(const Tensor& t) {
        std::vector<double> all;
        for (int64_t i = 0; i < t.numel(); ++i) all.push_back(t.item(i));
        return all;
    }
    static std::vector<int64_t> sizes(const Tensor& t) {
        std::vector<int64_t> all;
        for (int axis = 0; axis < t.shape().rank(); ++axis) all.push_back(t.shape()[axis]);
        return all;
    }

    // In the flat storage that all share.
    Lua* tensor(const Tensor& t) { return writer_.tensor(weights_, sizes(t), numbers(t)); }

    Lua* filters(Tensor t, const Conv2d* of) {
        const Shape s = t.shape();
        if (options_.global_first && of == &net_.fusion.layer.conv) t = swapped(t);
        if (options_.flat_filters) return tensor(t.reshape({s[0], s[1] * s[2] * s[3]}));
        if (!options_.strided) return tensor(t);
        std::vector<double> turned;  // [kW, kH, in, out]
        for (int64_t d = 0; d < s[3]; ++d)
            for (int64_t c = 0; c < s[2]; ++c)
                for (int64_t b = 0; b < s[1]; ++b)
                    for (int64_t a = 0; a < s[0]; ++a)
                        turned.push_back(t.item(((a * s[1] + b) * s[2] + c) * s[3] + d));
        Lua* made = writer_.tensor(weights_, sizes(t), turned);
        made->strides = {1, s[0], s[0] * s[1], s[0] * s[1] * s[2]};
        return made;
    }
    // Global channels first, as our own order has them last.
    Tensor swapped(const Tensor& t) {
        const Shape s = t.shape();
        const int64_t area = s[2] * s[3], local = net_.spec.channels(kMidLevel[1].out);
        const Tensor out = Tensor::empty(s);
        for (int64_t k = 0; k < s[0]; ++k)
            for (int64_t c = 0; c < s[1]; ++c)
                std::copy_n(t.data<float>() + (k * s[1] + c) * area, area,
                            out.data<float>() + (k * s[1] + (c + s[1] - local) % s[1]) * area);
        return out;
    }

    using Fields = std::vector<std::pair<std::string, Lua*>>;
    void add_gradients(Fields& fields, const Tensor& weight, const Tensor& bias) {
        if (!options_.gradients) return;
        const auto zeros = [&](const Tensor& t) {
            return writer_.tensor(gradients_, sizes(t), std::vector<double>(size_t(t.numel())));
        };
        fields.emplace_back("gradWeight", zeros(weight));
        fields.emplace_back("gradBias", zeros(bias));
    }
    Lua* convolution(const std::string& name, const Conv2d& conv) {
        const Tensor weight = to_file_order(conv.weight.value), bias = conv.bias.value;
        const auto number = [&](int64_t value) { return writer_.number(double(value)); };
        const int64_t k = conv.spec.kernel, pad = conv.spec.pad(), stride = conv.spec.stride;
        Fields fields{{"nInputPlane", number(weight.shape()[1])},
                      {"nOutputPlane", number(weight.shape()[0])},
                      {"kW", number(k)},
                      {"kH", number(k)},
                      {"dW", number(stride)},
                      {"dH", number(stride)},
                      {"weight", filters(weight, &conv)},
                      {"bias", tensor(bias)},
                      {"finput", writer_.empty_tensor()},
                      {"fgradInput", writer_.empty_tensor()}};
        if (options_.flat_filters)
            fields.emplace_back("padding", number(pad));
        else
            fields.insert(fields.end(), {{"padW", number(pad)}, {"padH", number(pad)}});
        add_gradients(fields, weight, bias);
        return module(name, writer_.torch(options_.flat_filters ? "nn.SpatialConvolutionMM"
                                                                : "nn.SpatialConvolution",
                                          fields));
    }
    Lua* fully_connected(const std::string& name, const Linear& linear) {
        Fields fields{{"weight", tensor(linear.weight.value)}, {"bias", tensor(linear.bias.value)}};
        add_gradients(fields, linear.weight.value, linear.bias.value);
        return module(name, writer_.torch("nn.Linear", fields));
    }
    Lua* norm(const std::string& name, const BatchNorm& n, const char* type) {
        Tensor spread = n.running_var.value;
        if (options_.inverse_std) {
            spread = spread.clone();
            for (int64_t c = 0; c < spread.numel(); ++c)
                spread.data<float>()[c] = float(1 / std::sqrt(spread.item(c) + kBatchNormEpsilon));
        }
        Lua* made = writer_.torch(
            type, {{"eps", writer_.number(kBatchNormEpsilon)},
                   {"momentum", writer_.number(0.1)},
                   {"affine", writer_.boolean(true)},
                   {"running_mean", tensor(n.running_mean.value)},
                   {options_.inverse_std ? "running_std" : "running_var", tensor(spread)},
                   {"weight", tensor(n.weight.value)},
                   {"bias", tensor(n.bias.value)}});
        made->version = options_.inverse_std ? "" : "V 2";
        return module(name, made);
    }
    Lua* activation() {
        if (net_.spec.activation == Activation::sigmoid)
            return module("activation", writer_.torch("nn.Sigmoid"));
        return module("activation", writer_.torch("nn.ReLU", {{"inplace", writer_.boolean(true)},
                                                              {"threshold", writer_.number(0)},
                                                              {"val", writer_.number(0)}}));
    }
    void add(std::vector<Lua*>& to, const std::string& name, const Conv2d& conv) {
        to.push_back(convolution(name, conv));
    }
    void add(std::vector<Lua*>& to, const std::string& name, const Linear& linear) {
        to.push_back(fully_connected(name, linear));
    }
    void add(std::vector<Lua*>& to, const std::string& name, const Fusion& fusion) {
        to.push_back(convolution(name, fusion.conv));
    }
    template <class Layer>
    void add(std::vector<Lua*>& to, const std::string& name, const Block<Layer>& block) {
        add(to, name, block.layer);
        if (block.norm)
            to.push_back(norm(name + ".norm", *block.norm,
                              std::is_same_v<Layer, Linear> ? "nn.BatchNormalization"
                                                            : "nn.SpatialBatchNormalization"));
        to.push_back(activation());
    }
    Lua* sequential(const std::string& name, const std::vector<Lua*>& modules) {
        return module(name, writer_.torch("nn.Sequential", {{"modules", writer_.list(modules)}}));
    }
    Lua* low(const std::string& name) {
        std::vector<Lua*> modules;
        for (size_t i = 0; i < net_.low.size(); ++i)
            add(modules, name + "." + std::to_string(i + 1), net_.low[i]);
        return sequential(name, modules);
    }

    Node node(const std::string& label, Lua* module, const std::vector<Node>& parents) {
        Lua* mapindex = writer_.table();
        Lua* data = writer_.table(
            {{"mapindex", mapindex},
             {"forwardNodeId", writer_.number(double(nodes_.size() + 1))},
             {"annotations", writer_.table({{"_debugLabel", writer_.text("[convert.lua]:37")},
                                            {"name", writer_.text(label)}})}});
        if (module) data->entries.emplace_back(writer_.text("module"), module);
        Lua* children = writer_.table();
        Lua* made = writer_.torch("nngraph.Node", {{"data", data},
                                                   {"id", writer_.number(double(nodes_.size()))},
                                                   {"children", children},
                                                   {"visited", writer_.boolean(false)},
                                                   {"marked", writer_.boolean(false)}});
        // Both ways: a cycle of tables.
        data->entries.emplace_back(writer_.text("reverseMap"), made);
        for (size_t i = 0; i < parents.size(); ++i) {
            Lua* index = writer_.number(double(i + 1));
            mapindex->entries.emplace_back(index, parents[i].data);
            mapindex->entries.emplace_back(parents[i].data, index);
            Lua* of = children_[parents[i].node];
            Lua* place = writer_.number(double(of->entries.size() / 2 + 1));
            of->entries.emplace_back(place, made);
            of->entries.emplace_back(made, place);
        }
        children_[made] = children;
        nodes_.push_back(made);
        return {made, data};
    }

    Lua* build() {
        const Node input = node("input", nullptr, {}), split = node("split", nullptr, {input}),
                   full = node("select 2", nullptr, {split});
        const Node low_full = node("low", low("low"), {full});
        std::vector<Lua*> modules;
        for (size_t i = 0; i < net_.mid.size(); ++i)
            add(modules, "mid." + std::to_string(i + 1), net_.mid[i]);
        const Node mid = node("mid", sequential("mid", modules), {low_full});
        const Node copy = node("select 1", nullptr, {split});
        const Node low_copy = node("low 224", low("low copy"), {copy});
        modules.clear();
        for (size_t i = 0; i < net_.global_conv.size(); ++i)
            add(modules, "global." + std::to_string(i + 1), net_.global_conv[i]);
        modules.push_back(module("view", writer_.torch("nn.View")));
        add(modules, "global.fc1", net_.global_fc[0]);
        add(modules, "global.fc2", net_.global_fc[1]);
        const Node global = node("global", sequential("global", modules), {low_copy});
        modules.clear();
        add(modules, "global.fc3", net_.global_fc[2]);
        for (int i = 0; i < 2; ++i)
            modules.push_back(module("replicate", writer_.torch("nn.Replicate")));
        const Node features = node("imgfeatlayer", sequential("features", modules), {global});
        std::vector<Node> joined{mid, features};
        if (options_.global_first) std::swap(joined[0], joined[1]);
        const Node join =
            node("join",
                 module("join", writer_.torch("nn.JoinTable", {{"dimension", writer_.number(1)},
                                                               {"nInputDims", writer_.number(3)}})),
                 joined);
        modules.clear();
        add(modules, "fusion", net_.fusion);
        for (size_t i = 0; i < net_.color.size(); ++i) {
            add(modules, "color." + std::to_string(i + 1), net_.color[i]);
            if (kUpsampleAfter[i])
                modules.push_back(
                    module("upsample", writer_.torch("nn.SpatialUpSamplingNearest",
                                                     {{"scale_factor", writer_.number(2)}})));
        }
        add(modules, "output", net_.output);
        modules.push_back(module("sigmoid", writer_.torch("nn.Sigmoid")));
        const Node color = node("color", sequential("color", modules), {join});
        if (net_.classifier_hidden) {
            modules.clear();
            add(modules, "classifier.1", *net_.classifier_hidden);
            add(modules, "classifier.2", *net_.classifier_out);
            node("classes", sequential("classes", modules), {global});
        }
        const Node output = node("output", nullptr, {color});

        // The graph itself, with nodes as keys; a function; all modules once more.
        Lua *places = writer_.table(), *edges = writer_.table();
        for (size_t i = 0; i < nodes_.size(); ++i) {
            Lua* place = writer_.number(double(i + 1));
            places->entries.emplace_back(place, nodes_[i]);
            places->entries.emplace_back(nodes_[i], place);
            if (i == 0) continue;
            Lua* edge = writer_.torch("graph.Edge", {{"from", nodes_[i - 1]}, {"to", nodes_[i]}});
            edges->entries.emplace_back(place, edge);
            edges->entries.emplace_back(edge, place);
        }
        Lua* graph = writer_.torch("graph.Graph", {{"nodes", places}, {"edges", edges}});
        Lua* function = writer_.make(Lua::function);
        function->body = writer_.table({{"name", writer_.text("_ENV")}});
        Lua* model =
            module("model", writer_.torch("nn.gModule", {{"innode", input.node},
                                                         {"outnode", output.node},
                                                         {"fg", graph},
                                                         {"bg", graph},
                                                         {"forwardnodes", writer_.list(nodes_)},
                                                         {"hook", function},
                                                         {"nInputs", writer_.number(2)},
                                                         {"verbose", writer_.boolean(false)}}));
        Lua* root = writer_.table({{"model", model}});
        if (options_.mean)
            root->entries.emplace_back(writer_.text("mean"), writer_.number(net_.spec.luma_mean));
        return root;
    }

    ColorNet& net_;
    ColornetOptions options_;
    Writer writer_;
    Lua *weights_ = nullptr, *gradients_ = nullptr, *root_ = nullptr;
    std::vector<Lua*> nodes_;
    std::map<const Lua*, Lua*> children_;
};

}  // namespace lumachrome::torch7_writer
