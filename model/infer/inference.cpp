#include "model/infer/inference.hpp"

#include <algorithm>

#include "model/infer/passes.hpp"
#include "tensor/error.hpp"
#include "tensor/storage.hpp"

namespace lumachrome {
namespace {

// Photos of an album come in few sizes: so many stay ready on a GPU, while their maps are small.
constexpr size_t kGpuSizes = 8;
constexpr int64_t kGpuArenas = int64_t{1} << 30;

// What kernels, resizing and encoding hold besides the maps.
constexpr int64_t kScratchBytes = int64_t{24} << 20;

}  // namespace

Graph with_input_shapes(Graph graph, std::span<const Shape> shapes) {
    for (size_t i = 0; i < graph.inputs.size(); ++i)
        graph.values[size_t(graph.inputs[i])].shape = shapes[i];
    for (const Graph::Node& node : graph.nodes) {
        std::vector<Shape> in = graph.input_shapes(node);
        if (node.upsample) in[0] = {in[0][0], 2 * in[0][1], 2 * in[0][2], in[0][3]};
        if (node.flatten) in[0] = {in[0][0], in[0].numel() / in[0][0]};
        graph.values[size_t(node.output)].shape = node.op->infer(in);
    }
    return graph;
}

Graph between(Graph graph, std::vector<int> inputs, std::vector<int> outputs) {
    std::erase_if(graph.nodes, [&](const Graph::Node& node) {
        return std::find(inputs.begin(), inputs.end(), node.output) != inputs.end();
    });
    graph.inputs = std::move(inputs);
    graph.outputs = std::move(outputs);
    return drop_unused(std::move(graph));
}

Graph share_input(Graph graph, size_t first, size_t second) {
    std::vector<int> same(graph.values.size());
    for (size_t v = 0; v < same.size(); ++v) same[v] = static_cast<int>(v);
    same[size_t(graph.inputs[second])] = graph.inputs[first];
    graph.inputs.erase(graph.inputs.begin() + static_cast<std::ptrdiff_t>(second));
    std::vector<Graph::Node> nodes;
    for (Graph::Node& node : graph.nodes) {
        for (int& input : node.inputs) input = same[size_t(input)];
        // The same weights and inputs make the same op: a weight belongs to one layer. An op
        // without weights has the same name and input.
        const auto twin = std::find_if(nodes.begin(), nodes.end(), [&](const Graph::Node& other) {
            return other.inputs == node.inputs && other.op->name() == node.op->name() &&
                   other.upsample == node.upsample && other.activation == node.activation;
        });
        if (twin == nodes.end())
            nodes.push_back(node);
        else
            same[size_t(node.output)] = twin->output;
    }
    for (int& output : graph.outputs) output = same[size_t(output)];
    graph.nodes = std::move(nodes);
    return graph;
}

Inference::Inference(ColorNet net, const Exec& exec, InferenceOptions options)
    : exec_(exec),
      options_(std::move(options)),
      global_size_(net.spec.global_size),
      use_global_(net.spec.use_global),
      has_class_head_(net.spec.has_class_head()) {
    Graph graph;
    {
        ColorNet network = std::move(net);  // gone before weights are folded
        ParameterNames names;
        network.visit([&](const std::string& name, Parameter& p) { names[&p] = name; });
        const std::string middle = "mid." + std::to_string(network.mid.size());
        network.observe = [&](const std::string& stage, const Var& value) {
            if (stage == middle) cuts_.middle = value.node;
            if (stage == "global.fc2") cuts_.semantics = value.node;
            if (stage == "global.fc3") cuts_.style = value.node;
        };
        const auto define = [&](Tape&, std::span<const Var> in) {
            const ColorNet::Output output = network(in[0], in[use_global_ ? 1 : 0]);
            std::vector<Var> outputs{output.color};
            if (gives_logits()) outputs.push_back(*output.logits);
            return outputs;
        };
        const Shape map{1, global_size_, global_size_, 1};
        std::vector<Shape> shapes{map};
        if (use_global_) shapes.push_back(map);
        graph = trace(define, shapes, names);
    }
    graph_ = run_passes(std::move(graph), options_.passes);
    cuts_.photo = graph_.inputs[0];
    if (use_global_) cuts_.copy = graph_.inputs[1];
    if (exec_.device.kind == Device::cuda) {
        graph_ = fuse_flatten(std::move(graph_));
        return;
    }
    // Most of the network's weights, packed the same way for any size: the originals go first, so
    // that their memory is there for what comes.
    for (const Graph::Node& node : graph_.nodes)
        if (prepare_linear(graph_, node, exec_, weights_))
            graph_.values[size_t(node.inputs[1])].constant = {};
}

Inference::Inference(const Inference& other, const Exec& exec)
    : exec_(exec),
      options_(other.options_),
      global_size_(other.global_size_),
      use_global_(other.use_global_),
      has_class_head_(other.has_class_head_),
      graph_(other.graph_),
      cuts_(other.cuts_),
      weights_(other.weights_),
      limit_(other.limit_) {}

void Inference::limit_memory(int64_t process_bytes) {
    if (process_bytes != limit_) ready_.clear();
    limit_ = process_bytes;
}

bool Inference::takes_copy(int64_t height, int64_t width) const {
    return use_global_ && (height != global_size_ || width != global_size_);
}

Graph Inference::graph_at(int64_t height, int64_t width, int64_t photos, Part part) const {
    if (height % kStride != 0 || width % kStride != 0 || height < kStride || width < kStride)
        throw ShapeError("inference: a photo of " + std::to_string(height) + "x" +
                         std::to_string(width) + "; both must be multiples of 8");
    if (part == Part::global && !use_global_)
        throw ModelError("inference: the network has no global branch");
    const auto channels = [&](int value) { return graph_.values[size_t(value)].shape.back(); };
    const auto part_of = [&](std::vector<int> inputs, std::vector<int> outputs) {
        std::vector<Shape> shapes;
        for (int value : inputs)
            if (value == cuts_.photo)
                shapes.push_back({photos, height, width, 1});
            else if (value == cuts_.copy)
                shapes.push_back({photos, global_size_, global_size_, 1});
            else if (value == cuts_.middle)
                shapes.push_back({photos, height / kStride, width / kStride, channels(value)});
            else
                shapes.push_back({photos, channels(value)});
        return with_input_shapes(between(graph_, std::move(inputs), std::move(outputs)), shapes);
    };
    const auto with = [&](int first, int second) {
        return use_global_ ? std::vector<int>{first, second} : std::vector<int>{first};
    };
    const int color = graph_.outputs[0];
    switch (part) {
        case Part::global: {
            std::vector<int> outputs{cuts_.style, cuts_.semantics};
            if (gives_logits()) outputs.push_back(graph_.outputs[1]);
            return part_of({cuts_.copy}, std::move(outputs));
        }
        case Part::styled:
            return part_of(with(cuts_.photo, cuts_.style), {color});
        case Part::middle:
            return part_of({cuts_.photo}, {cuts_.middle});
        case Part::tail:
            return part_of(with(cuts_.middle, cuts_.style), {color});
        case Part::whole:
            break;
    }
    Graph graph = part_of(graph_.inputs, graph_.outputs);
    if (use_global_ && !takes_copy(height, width)) graph = share_input(std::move(graph), 0, 1);
    return graph;
}

GpuRunner& Inference::on_gpu(int64_t height, int64_t width, int64_t photos, Part part) {
    const auto ready = std::find_if(gpu_sizes_.begin(), gpu_sizes_.end(), [&](const GpuSize& size) {
        return size.height == height && size.width == width && size.photos == photos &&
               size.part == part;
    });
    if (ready != gpu_sizes_.end()) {
        std::rotate(ready, ready + 1, gpu_sizes_.end());
        return *gpu_sizes_.back().runner;
    }
    if (!gpu_temporary_) gpu_temporary_ = std::make_shared<ReservedStorage>(exec_.device);
    GpuPlan plan = compile_gpu(graph_at(height, width, photos, part), exec_, weights_);
    int64_t bytes = plan.arena_bytes;
    for (const GpuSize& size : gpu_sizes_) bytes += size.runner->plan().arena_bytes;
    while (!gpu_sizes_.empty() && (gpu_sizes_.size() >= kGpuSizes || bytes > kGpuArenas)) {
        bytes -= gpu_sizes_.front().runner->plan().arena_bytes;
        gpu_sizes_.erase(gpu_sizes_.begin());
    }
    gpu_sizes_.push_back({height, width, photos, part,
                          std::make_unique<GpuRunner>(std::move(plan), exec_, gpu_temporary_)});
    return *gpu_sizes_.back().runner;
}

Runner& Inference::at(int64_t height, int64_t width, Part part) {
    const auto found = ready_.find(part);
    if (found != ready_.end() && found->second.height == height && found->second.width == width)
        return *found->second.runner;
    Graph graph = graph_at(height, width, 1, part);
    // Its arena goes first; with a limit, all do.
    if (limit_ > 0)
        ready_.clear();
    else
        ready_.erase(part);
    release_cached_storage();
    PlanOptions options = options_.plan;
    if (limit_ > 0) {
        compile(graph, exec_, weights_);  // packs the weights, so that they are counted
        const int64_t taken = resident_bytes() + kScratchBytes;
        if (taken >= limit_)
            throw MemoryLimitError("photo and weights take " + std::to_string(taken >> 20) +
                                   " MiB, the limit is " + std::to_string(limit_ >> 20) + " MiB");
        options.max_bytes = limit_ - taken;
    }
    auto runner = std::make_unique<Runner>(compile(graph, exec_, weights_, options), exec_);
    return *(ready_[part] = {height, width, std::move(runner)}).runner;
}

std::vector<Tensor> Inference::run(Part part, int64_t height, int64_t width,
                                   std::span<const Tensor> inputs) {
    return exec_.device.kind == Device::cuda ? on_gpu(height, width, 1, part).run(inputs)
                                             : at(height, width, part).run(inputs);
}

}  // namespace lumachrome
