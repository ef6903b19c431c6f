#include "model/import_torch7.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "model/torch7_file.hpp"
#include "tensor/error.hpp"

namespace lumachrome {
namespace {

using Value = Torch7Value;
using Object = Torch7Object;

constexpr size_t kMaxModules = 256;  // of the whole graph; the published one has 46
constexpr size_t kMaxDepth = 8;      // of containers in containers, of nodes between two blocks

std::string conv_item(int64_t kernel, int64_t in, int64_t out, int64_t stride) {
    return "conv" + std::to_string(kernel) + " " + std::to_string(in) + "-" + std::to_string(out) +
           "/" + std::to_string(stride);
}
std::string linear_item(int64_t in, int64_t out) {
    return "linear " + std::to_string(in) + "-" + std::to_string(out);
}

// What a node of the graph must hold, read off our network, and where its numbers go.
struct Stage {
    std::string name;
    std::vector<std::string> items;  // "conv3 1-64/2", "relu", ...
    struct Weights {
        Parameter *weight, *bias;
    };
    std::vector<Weights> weights;

    void add(Conv2d& conv) {
        const Shape& w = conv.weight.value.shape();
        items.push_back(conv_item(conv.spec.kernel, w[3], w[0], conv.spec.stride));
        weights.push_back({&conv.weight, &conv.bias});
    }
    void add(Linear& linear) {
        const Shape& w = linear.weight.value.shape();
        items.push_back(linear_item(w[1], w[0]));
        weights.push_back({&linear.weight, &linear.bias});
    }
    void add(Fusion& fusion) { add(fusion.conv); }
    template <class Layer>
    void add(Block<Layer>& block) {
        add(block.layer);
        items.push_back(lumachrome::name(block.activation));
    }
};

constexpr const char *kLow = "low", *kMid = "mid", *kFeatures = "global.fc3",
                     *kFusionName = "fusion";

// In the order in which network.bin has them.
std::vector<Stage> stages_of(ColorNet& net) {
    std::vector<Stage> stages{{kLow, {}, {}},
                              {kMid, {}, {}},
                              {"global", {}, {}},
                              {kFeatures, {}, {}},
                              {kFusionName, {}, {}}};
    for (ConvBlock& block : net.low) stages[0].add(block);
    for (ConvBlock& block : net.mid) stages[1].add(block);
    for (ConvBlock& block : net.global_conv) stages[2].add(block);
    stages[2].add(net.global_fc[0]);
    stages[2].add(net.global_fc[1]);
    stages[3].add(net.global_fc[2]);
    stages[4].add(net.fusion);
    for (size_t i = 0; i < net.color.size(); ++i) {
        stages[4].add(net.color[i]);
        if (kUpsampleAfter[i]) stages[4].items.push_back("upsample");
    }
    stages[4].add(net.output);
    stages[4].items.push_back("sigmoid");
    if (net.classifier_hidden) {
        Stage& head = stages.emplace_back(Stage{"classifier", {}, {}});
        head.add(*net.classifier_hidden);
        head.add(*net.classifier_out);
    }
    return stages;
}

// A layer with weights, in PyTorch's axis order, or one without.
struct Layer {
    std::string item;
    Tensor weight, bias;
    bool is_linear() const { return weight.defined() && weight.shape().rank() == 2; }
};

// The module of one node, containers taken apart.
struct Chain {
    size_t data;  // object of the node's data, by which others refer to it
    std::vector<Layer> layers;
};

class Importer {
  public:
    explicit Importer(const Torch7File& file) : file_(file) {}

    std::unique_ptr<ColorNet> run(std::optional<double> luma_mean) {
        const Object& root = file_.object(file_.root(), "the root");
        const bool bare = root.class_name == "nn.gModule";
        const Value* model = bare ? &file_.root() : file_.find(root, "model");
        if (!model) throw ModelError("the root table has no model");
        Spec spec;
        spec.batch_norm = false;
        if (luma_mean) {
            spec.luma_mean = *luma_mean;
        } else {
            const Value* mean = bare ? nullptr : file_.find(root, "mean");
            if (!mean || mean->kind != Value::Kind::number)
                throw ModelError("the root table has no number mean; give --luma-mean");
            spec.luma_mean = mean->number;
        }
        read_nodes(file_.object(*model, "model"));
        find_sizes(spec);
        try {
            spec.check();
        } catch (const UsageError& error) {
            throw ModelError(error.what());
        }
        auto net = std::make_unique<ColorNet>(spec);
        fill(*net);
        return net;
    }

  private:
    const Value& field(const Object& object, std::string_view key) const {
        if (const Value* value = file_.find(object, key)) return *value;
        throw ModelError(std::string(object.class_name.substr(0, 60)) + " has no field " +
                         std::string(key));
    }
    int64_t integer(const Object& object, std::string_view key) const {
        const Value& value = field(object, key);
        if (value.kind != Value::Kind::number || !(std::fabs(value.number) <= 1e9) ||
            value.number != std::floor(value.number))
            throw ModelError(std::string(object.class_name.substr(0, 60)) + "." + std::string(key) +
                             " is no whole number");
        return static_cast<int64_t>(value.number);
    }
    Tensor tensor(const Object& module, std::string_view key) {
        try {
            Tensor result = file_.to_f32(file_.object(field(module, key), "it"));
            // One tensor, read again and again, must not grow into more than a file can hold.
            elements_ += result.numel();
            if (elements_ > file_.bytes()) throw ModelError("layers share too many weights");
            return result;
        } catch (const ModelError& error) {
            throw ModelError(std::string(module.class_name.substr(0, 60)) + "." + std::string(key) +
                             ": " + error.what());
        }
    }

    void read_nodes(const Object& graph) {
        if (graph.class_name != "nn.gModule")
            throw ModelError("model is \"" + std::string(graph.class_name.substr(0, 60)) +
                             "\", a nn.gModule is needed");
        const auto nodes =
            file_.sequence(file_.object(field(graph, "forwardnodes"), "forwardnodes"));
        for (const Value& node : nodes) {
            const Value& data = field(file_.object(node, "a node"), "data");
            const Object& about = file_.object(data, "a node's data");
            const Value* module = file_.find(about, "module");
            if (!module || module->kind == Value::Kind::nil) continue;
            const Object& root = file_.object(*module, "a node's module");
            if (root.class_name == "nn.JoinTable") {
                if (join_) throw ModelError("more than one nn.JoinTable");
                join_ = &about;
                continue;
            }
            Chain chain{data.object, {}};
            collect(root, chain.layers, 0);
            if (!chain.layers.empty()) chains_.push_back(std::move(chain));
        }
    }

    void collect(const Object& module, std::vector<Layer>& layers, size_t depth) {
        if (++modules_ > kMaxModules || depth > kMaxDepth)
            throw ModelError("more than 256 modules, or containers more than 8 deep");
        std::string_view type = module.class_name;
        for (const std::string_view prefix : {"nn.", "cudnn."})
            if (type.starts_with(prefix)) type.remove_prefix(prefix.size());
        const auto is = [&](std::initializer_list<std::string_view> names) {
            return std::find(names.begin(), names.end(), type) != names.end();
        };
        if (is({"Sequential"})) {
            const auto inner = file_.sequence(file_.object(field(module, "modules"), "modules"));
            for (const Value& next : inner)
                collect(file_.object(next, "a module"), layers, depth + 1);
        } else if (is({"SpatialConvolution", "SpatialConvolutionMM"})) {
            layers.push_back(convolution(module));
        } else if (is({"Linear"})) {
            Layer layer{"", tensor(module, "weight"), tensor(module, "bias")};
            const Shape& w = layer.weight.shape();
            if (w.rank() != 2) throw ModelError("nn.Linear.weight is " + w.str());
            layer.item = linear_item(w[1], w[0]);
            layers.push_back(checked(std::move(layer)));
        } else if (is({"SpatialBatchNormalization", "BatchNormalization"})) {
            fold(module, layers);
        } else if (is({"ReLU", "Threshold"})) {
            const bool plain = !file_.find(module, "threshold") ||
                               (integer(module, "threshold") == 0 && integer(module, "val") == 0);
            if (!plain) throw ModelError("a threshold that is no ReLU");
            layers.push_back({"relu", {}, {}});
        } else if (is({"Sigmoid"})) {
            layers.push_back({"sigmoid", {}, {}});
        } else if (is({"SpatialUpSamplingNearest"})) {
            if (integer(module, "scale_factor") != 2)
                throw ModelError("a scale_factor other than 2");
            layers.push_back({"upsample", {}, {}});
        } else if (!is({"View", "Reshape", "Replicate", "Identity", "Dropout"})) {
            throw ModelError("module " + std::string(module.class_name.substr(0, 60)) +
                             " is no part of this network");
        }
    }

    static Layer checked(Layer layer) {
        if (layer.bias.shape() != Shape{layer.weight.shape()[0]})
            throw ModelError(layer.item + ": bias " + layer.bias.shape().str() + " does not fit");
        return layer;
    }

    Layer convolution(const Object& module) {
        Layer layer{"", tensor(module, "weight"), tensor(module, "bias")};
        const int64_t kernel = integer(module, "kW"), stride = integer(module, "dW");
        if (layer.weight.shape().rank() == 2) {  // older files: one row a filter
            const int64_t in = integer(module, "nInputPlane"), out = layer.weight.shape()[0];
            if (in < 1 || kernel < 1 || in > layer.weight.numel() || kernel > kMaxKernel ||
                layer.weight.shape()[1] != in * kernel * kernel)
                throw ModelError("a convolution's weight " + layer.weight.shape().str() +
                                 " does not fit its fields");
            layer.weight = layer.weight.reshape({out, in, kernel, kernel});
        }
        const auto pad = [&](std::string_view key) {
            for (const std::string_view name : {key, std::string_view("padding")})
                if (file_.find(module, name)) return integer(module, name);
            return int64_t{0};
        };
        const Shape& w = layer.weight.shape();
        if (w.rank() != 4 || w[2] != kernel || w[3] != kernel || integer(module, "kH") != kernel ||
            integer(module, "dH") != stride || pad("padW") != kernel / 2 ||
            pad("padH") != kernel / 2 ||
            (file_.find(module, "groups") && integer(module, "groups") != 1))
            throw ModelError("a convolution of weight " + w.str() +
                             " whose kernel, stride, pads or groups are not this network's");
        layer.item = conv_item(kernel, w[1], w[0], stride);
        return checked(std::move(layer));
    }

    // y = gamma (w x + b - mean) s + beta,  s = 1 / sqrt(var + eps), into the layer before.
    void fold(const Object& module, std::vector<Layer>& layers) {
        if (layers.empty() || !layers.back().weight.defined())
            throw ModelError("a batch normalisation that follows no weights");
        Layer& layer = layers.back();
        const int64_t K = layer.weight.shape()[0], taps = layer.weight.numel() / K;
        const auto statistic = [&](std::string_view key) {
            const Tensor t = tensor(module, key);
            if (t.shape() != Shape{K})
                throw ModelError("a batch normalisation's " + std::string(key) + " is " +
                                 t.shape().str() + " behind " + layer.item);
            return t;
        };
        const bool inverse = !file_.find(module, "running_var");  // before version 2
        const Tensor mean = statistic("running_mean"),
                     spread = statistic(inverse ? "running_std" : "running_var");
        const bool affine = file_.find(module, "weight") != nullptr;
        const Tensor gamma = affine ? statistic("weight") : Tensor::full({K}, 1),
                     beta = affine ? statistic("bias") : Tensor::zeros({K});
        const Value* given = file_.find(module, "eps");
        const double eps =
            given && given->kind == Value::Kind::number ? given->number : kBatchNormEpsilon;
        for (int64_t k = 0; k < K; ++k) {
            const double s =
                gamma.item(k) * (inverse ? spread.item(k) : 1 / std::sqrt(spread.item(k) + eps));
            float* row = layer.weight.data<float>() + k * taps;
            for (int64_t i = 0; i < taps; ++i) row[i] = static_cast<float>(row[i] * s);
            layer.bias.data<float>()[k] =
                static_cast<float>((layer.bias.item(k) - mean.item(k)) * s + beta.item(k));
        }
    }

    // The choices of Spec, from the few layers that show them.
    void find_sizes(Spec& spec) const {
        const Layer* widest = nullptr;  // fully connected, it sees all of the last map
        spec.classes = 0;
        for (const Chain& chain : chains_) {
            const auto& layers = chain.layers;
            if (!layers[0].weight.defined()) continue;
            const Shape& first = layers[0].weight.shape();
            if (first.rank() == 4 && first[1] == 1 && layers.size() > 1) {
                spec.width_divisor = kLowLevel[0].out / first[0];
                spec.activation =
                    layers[1].item == "sigmoid" ? Activation::sigmoid : Activation::relu;
            }
            for (const Layer& layer : layers) {
                if (layer.item == "upsample" && first.rank() == 4) spec.fusion_kernel = first[2];
                if (layer.is_linear() && !layers[0].is_linear() && !widest) widest = &layer;
                if (layer.is_linear() && layers[0].is_linear() && &layer != &layers[0])
                    spec.classes = layer.weight.shape()[0];
            }
        }
        if (!widest) throw ModelError("no fully connected layer follows the global convolutions");
        if (spec.width_divisor < 1) throw ModelError("the first convolution has too many filters");
        // Two strides of 2 lie between the local features and that map.
        const int64_t channels = spec.channels(kGlobal[3].out), in = widest->weight.shape()[1];
        const int64_t side = std::llround(std::sqrt(double(in) / double(channels)));
        if (side < 1 || channels * side * side != in ||
            widest->weight.shape()[0] != spec.channels(kGlobalFeatures[0]))
            throw ModelError(widest->item + " does not fit a square map of " +
                             std::to_string(channels) + " channels");
        spec.preset = "imported";
        spec.global_size = side * kStride * 4;
        // Several sizes of photo end in the same map; a preset's is the likeliest.
        for (const char* name : {"paper", "compact", "tiny"}) {
            const Spec known = preset(name);
            if (known.width_divisor != spec.width_divisor || known.global_map() != side) continue;
            spec.preset = name;
            spec.global_size = known.global_size;
        }
    }

    void fill(ColorNet& net) const {
        std::vector<Stage> stages = stages_of(net);
        std::map<std::string, const Chain*> found;
        for (const Chain& chain : chains_) {
            const Stage& stage = stage_of(chain, stages);
            const auto [at, fresh] = found.try_emplace(stage.name, &chain);
            if (!fresh && stage.name != kLow) throw ModelError("two nodes hold " + stage.name);
            if (!fresh) {
                require_equal(*at->second, chain);
                continue;
            }
            size_t next = 0;
            for (const Layer& layer : chain.layers) {
                if (!layer.weight.defined()) continue;
                if (!all_finite(layer.weight) || !all_finite(layer.bias))
                    throw ModelError(stage.name + ": " + layer.item +
                                     " has numbers that are not finite");
                const Stage::Weights& to = stage.weights[next++];
                to.weight->value = to_memory_order(layer.weight);
                to.bias->value = layer.bias;
            }
        }
        for (const Stage& stage : stages)
            if (!found.contains(stage.name)) throw ModelError("no node holds " + stage.name);
        if (!join_) throw ModelError("no nn.JoinTable joins local and global features");
        if (parent(1) == found[kFeatures]->data && parent(2) == found[kMid]->data)
            swap_inputs(net);
        else if (parent(1) != found[kMid]->data || parent(2) != found[kFeatures]->data)
            throw ModelError("nn.JoinTable does not join mid and global.fc3");
    }

    static const Stage& stage_of(const Chain& chain, const std::vector<Stage>& stages) {
        size_t best = 0;
        const Stage* closest = nullptr;
        for (const Stage& stage : stages) {
            size_t same = 0;
            while (same < stage.items.size() && same < chain.layers.size() &&
                   stage.items[same] == chain.layers[same].item)
                ++same;
            if (same == stage.items.size() && same == chain.layers.size()) return stage;
            if (!closest || same > best) {
                best = same;
                closest = &stage;
            }
        }
        const auto item = [&](size_t count, const std::string& text) {
            return best < count ? text : std::string("nothing");
        };
        throw ModelError(
            "a node's layer " + std::to_string(best + 1) + " is " +
            item(chain.layers.size(), best < chain.layers.size() ? chain.layers[best].item : "") +
            ", " + closest->name + " has " +
            item(closest->items.size(), best < closest->items.size() ? closest->items[best] : ""));
    }

    static void require_equal(const Chain& one, const Chain& other) {
        for (size_t i = 0; i < one.layers.size(); ++i)
            if (one.layers[i].weight.defined() &&
                (!bit_equal(one.layers[i].weight, other.layers[i].weight) ||
                 !bit_equal(one.layers[i].bias, other.layers[i].bias)))
                throw ModelError("the two low-level stacks differ in " + one.layers[i].item);
    }

    // The data of the node with a chain that input `index` of the join comes from; nodes without
    // layers in between (Replicate, Identity) are passed through.
    size_t parent(int64_t index) const {
        const Object* child = join_;
        for (size_t depth = 0; depth < kMaxDepth; ++depth) {
            const Value* data =
                file_.find(file_.object(field(*child, "mapindex"), "mapindex"), index);
            if (!data || data->kind != Value::Kind::object) break;
            for (const Chain& chain : chains_)
                if (chain.data == data->object) return data->object;
            child = &file_.object(*data, "mapindex");
            index = 1;
        }
        throw ModelError("nn.JoinTable has an input that comes from no layer");
    }

    // The file's fusion has the global channels first.
    static void swap_inputs(ColorNet& net) {
        const Tensor& w = net.fusion.layer.conv.weight.value;  // [K,R,S,G+M]
        const int64_t channels = w.shape()[3], local = net.spec.channels(kMidLevel[1].out);
        for (int64_t row = 0; row < w.shape().rows(); ++row) {
            float* at = w.data<float>() + row * channels;
            std::rotate(at, at + (channels - local), at + channels);
        }
    }

    static constexpr int64_t kMaxKernel = 64;
    const Torch7File& file_;
    std::vector<Chain> chains_;
    const Object* join_ = nullptr;  // data of that node
    size_t modules_ = 0;
    int64_t elements_ = 0;
};

LoadedModel licensed(std::unique_ptr<ColorNet> net, const char* source) {
    Metadata metadata = to_metadata(net->spec);
    metadata["licence"] = kPublishedLicence;
    metadata["source"] = source;
    return {std::move(net), std::move(metadata)};
}

}  // namespace

LoadedModel import_torch7(std::span<const uint8_t> bytes, const std::string& name,
                          std::optional<double> luma_mean) {
    try {
        const Torch7File file = Torch7File::parse(bytes);
        return licensed(Importer(file).run(luma_mean), "Torch7 file (colornet.t7)");
    } catch (const ModelError& error) {
        throw ModelError(name + ": " + error.what());
    }
}

Spec network_bin_spec() {
    Spec spec = preset("paper");
    spec.batch_norm = false;
    spec.classes = 0;
    return spec;
}

LoadedModel import_network_bin(std::span<const uint8_t> bytes, const std::string& name,
                               const Spec& spec) {
    auto net = std::make_unique<ColorNet>(spec);
    std::vector<Stage> stages = stages_of(*net);
    size_t position = 0;
    const auto read = [&](Parameter& p) {
        const Shape& s = p.value.shape();
        const Tensor stored = Tensor::empty(s.rank() == 4 ? Shape{s[0], s[3], s[1], s[2]} : s);
        const auto size = static_cast<size_t>(stored.bytes());
        if (size > bytes.size() - position)
            throw ModelError(name + ": too short for a network.bin: truncated");
        std::memcpy(stored.raw(), bytes.data() + position, size);
        if (!all_finite(stored))
            throw ModelError(name + ": numbers behind byte " + std::to_string(position) +
                             " are not finite, so this is no network.bin");
        position += size;
        p.value = to_memory_order(stored);
    };
    for (const Stage& stage : stages)
        for (const Stage::Weights& weights : stage.weights) {
            read(*weights.weight);
            read(*weights.bias);
        }
    if (position != bytes.size())
        throw ModelError(name + ": " + std::to_string(bytes.size()) + " bytes, a network.bin has " +
                         std::to_string(position));
    return licensed(std::move(net), "network.bin");
}

}  // namespace lumachrome
