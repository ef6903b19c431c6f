#include "model/infer/gpu_plan.hpp"

#include <algorithm>

#include "layers/batch_norm.hpp"
#include "layers/linear.hpp"
#include "layers/linear_prepared_cuda.hpp"
#include "tensor/dispatch.hpp"

namespace lumachrome {
namespace {

constexpr int64_t kAlignment = 256;

class Compiler {
  public:
    Compiler(const Graph& graph, const Exec& exec, PackedWeights& weights)
        : graph_(graph), exec_(exec), weights_(weights) {
        plan_.inputs = graph.inputs;
        plan_.outputs = graph.outputs;
        for (const Graph::Value& value : graph.values)
            plan_.buffers.push_back({value.shape, map_type(value.shape), {}});
        for (int input : graph.inputs) used(input, -1);
        for (const Graph::Node& node : graph.nodes) add(node);
        const auto end = static_cast<int>(plan_.steps.size());
        std::vector<Lifetime*> places;
        for (int value : plan_.inputs) used(value, end);
        for (int value : plan_.outputs) used(value, -1), used(value, end);
        for (auto& buffer : plan_.buffers) places.push_back(&buffer.place);
        plan_.arena_bytes = place(places, kAlignment);
    }
    GpuPlan take() { return std::move(plan_); }

  private:
    DType map_type(const Shape& shape) const { return shape.rank() == 4 ? exec_.maps : DType::f32; }
    GpuPlan::Buffer& buffer(int value) { return plan_.buffers[size_t(value)]; }
    const Tensor& constant(int value) const { return graph_.values[size_t(value)].constant; }
    bool is_output(int value) const {
        return std::find(graph_.outputs.begin(), graph_.outputs.end(), value) !=
               graph_.outputs.end();
    }

    // A value lives while this task runs.
    void used(int value, int task) {
        GpuPlan::Buffer& b = buffer(value);
        Lifetime& life = b.place;
        if (life.bytes == 0) life.first = life.last = task;
        life.first = std::min(life.first, task);
        life.last = std::max(life.last, task);
        life.bytes = b.shape.numel() * size_in_bytes(b.dtype);
    }
    void push(GpuStep step) {
        const auto task = static_cast<int>(plan_.steps.size());
        for (int input : step.inputs) used(input, task);
        used(step.output, task);
        plan_.steps.push_back(std::move(step));
    }
    const Tensor& on_device(int value) {
        return weights_.tensor(value, "gpu", [&] { return constant(value).to(exec_.device); });
    }

    void add(const Graph::Node& node) {
        if (const auto* conv = dynamic_cast<const Conv2dOp*>(node.op.get()))
            add_conv(
                node, conv->spec, graph_.values[size_t(node.inputs[1])].shape,
                [&] { return constant_of(graph_, node, 1); }, on_device(node.inputs[2]), -1);
        else if (const auto* fusion = dynamic_cast<const FusionOp*>(node.op.get()))
            add_fusion(node, *fusion);
        else if (dynamic_cast<const LinearOp*>(node.op.get()))
            add_linear(node);
        else
            add_op(node);
    }

    // Weights as a kernel gets them to pack; made only if nobody packed them before.
    using Weights = std::function<Tensor()>;

    // w of this shape [K,R,R,C] is the second or, behind a vector, the third input of the node.
    // `border_bias`: the buffer with the bias; -1: `bias` is.
    void add_conv(const Graph::Node& node, const Conv2dSpec& spec, const Shape& shape,
                  const Weights& w, const Tensor& bias, int border_bias) {
        const Shape& x = graph_.values[size_t(node.inputs[0])].shape;
        PreparedConv2dGpuProblem problem{
            prepared_problem(spec, {1, x[1], x[2], x[3]}, shape, node.upsample)};
        if (is_output(node.output)) buffer(node.output).dtype = DType::f32;
        problem.activation = node.activation;
        problem.border_bias = border_bias >= 0;
        problem.N = x[0];
        problem.in = buffer(node.inputs[0]).dtype;
        problem.out = buffer(node.output).dtype;
        problem.tf32 = exec_.tf32;
        const auto& chosen = choose_implementation(
            "conv2d_prepared",
            implementations(exec_.device, no_list<PreparedConv2dGpuImpl>, conv2d_prepared_cuda),
            problem);
        const Tensor& packed =
            weights_.tensor(node.inputs[border_bias >= 0 ? 2 : 1],
                            std::string(chosen.name) + (node.upsample ? " upsample" : ""),
                            [&] { return chosen.kernel.pack(exec_, problem, w()); });
        GpuStep step{node.name, chosen.name, problem.str(), {node.inputs[0]}, node.output};
        if (border_bias >= 0) step.inputs.push_back(border_bias);
        step.weight_bytes = packed.bytes();
        step.products = double(problem.N * problem.P * problem.Q * problem.K) *
                        double(shape.numel() / problem.K) * chosen.kernel.products;
        step.convolution = problem;
        step.run = [run = chosen.kernel.run, problem, packed, bias](
                       const Exec& exec, std::span<const Tensor> in, const Tensor& out) {
            run(exec, problem, in[0], packed, problem.border_bias ? in[1] : bias, out);
        };
        push(std::move(step));
    }

    // A fully connected layer with `outputs` outputs; `form` tells weights made of one value apart.
    struct LinearLayer {
        std::string name;
        int input, weight, output;  // buffers; weight: value
        int64_t outputs;
        const char* form;
        Weights w;
        Tensor bias;
        std::optional<Activation> activation;
    };
    void add_linear(const LinearLayer& layer) {
        const Shape& x = buffer(layer.input).shape;
        const DType kept = exec_.maps == DType::bf16 ? DType::bf16 : DType::f32;
        const PreparedLinearGpuProblem problem{x[0],          x.numel() / x[0],
                                               layer.outputs, buffer(layer.input).dtype,
                                               kept,          layer.activation};
        const auto& chosen = choose_implementation(
            "linear_prepared",
            implementations(exec_.device, no_list<PreparedLinearGpuImpl>, linear_prepared_cuda),
            problem);
        const Tensor& packed =
            weights_.tensor(layer.weight, std::string(layer.form) + chosen.name,
                            [&] { return chosen.kernel.pack(exec_, problem, layer.w()); });
        GpuStep step{layer.name, chosen.name, problem.str(), {layer.input}, layer.output};
        step.weight_bytes = packed.bytes();
        step.products = double(problem.N * problem.I * problem.O);
        step.run = [run = chosen.kernel.run, problem, packed, bias = layer.bias](
                       const Exec& exec, std::span<const Tensor> in, const Tensor& out) {
            run(exec, problem, in[0], packed, bias, out);
        };
        push(std::move(step));
    }
    void add_linear(const Graph::Node& node) {
        const Tensor& w = constant_of(graph_, node, 1);
        const Shape& x = graph_.values[size_t(node.inputs[0])].shape;
        add_linear({node.name, node.inputs[0], node.inputs[1], node.output, w.shape()[0],
                    node.flatten ? "map " : "",
                    [&] { return node.flatten ? columns_of_map(w, x) : w; },
                    on_device(node.inputs[2]), node.activation});
    }

    // The global half becomes the bias of the convolution of the local half.
    void add_fusion(const Graph::Node& node, const FusionOp& op) {
        const Tensor &w = constant_of(graph_, node, 2), &b = constant_of(graph_, node, 3);
        const Shape &m = graph_.values[size_t(node.inputs[0])].shape, &s = w.shape();
        const auto biases = static_cast<int>(plan_.buffers.size());
        plan_.buffers.push_back({{m[0], kBorderCases * s[0]}, DType::f32, {}});
        add_linear({node.name + " global",
                    node.inputs[1],
                    node.inputs[2],
                    biases,
                    kBorderCases * s[0],
                    "global ",
                    [&] { return fusion_as_linear(w, m[3]); },
                    weights_.tensor(node.inputs[3], "border cases",
                                    [&] { return for_border_cases(b).to(exec_.device); }),
                    {}});
        add_conv(
            node, op.spec, {s[0], s[1], s[2], m[3]}, [&] { return channels_of(w, 0, m[3]); }, {},
            biases);
    }

    // Any other op, as training runs it.
    void add_op(const Graph::Node& node) {
        std::shared_ptr<const Op> op = node.op;
        if (const auto* norm = dynamic_cast<const BatchNormOp*>(op.get())) {
            auto moved = std::make_shared<BatchNormOp>(*norm);
            moved->running_mean = norm->running_mean.to(exec_.device);
            moved->running_variance = norm->running_variance.to(exec_.device);
            op = moved;
        }
        GpuStep step{node.name, op->name(), "", {}, node.output};
        std::vector<Tensor> operands;
        std::vector<size_t> places;  // of what is computed, among the operands
        for (int value : node.inputs) {
            operands.emplace_back();
            if (constant(value).defined()) {
                operands.back() = on_device(value);
                step.weight_bytes += operands.back().bytes();
                continue;
            }
            places.push_back(operands.size() - 1);
            step.inputs.push_back(value);
            step.problem += buffer(value).shape.str() + " ";
        }
        buffer(node.output).dtype = buffer(step.inputs[0]).dtype;
        step.problem += "-> " + buffer(node.output).shape.str();
        step.products = double(op->macs(graph_.input_shapes(node)));
        step.run = [op, operands, places](const Exec& exec, std::span<const Tensor> in,
                                          const Tensor& out) mutable {
            for (size_t i = 0; i < places.size(); ++i) operands[places[i]] = in[i];
            Tensor y = out;
            op->forward(exec, operands, y, nullptr);
        };
        push(std::move(step));
    }

    template <class Impl>
    static std::span<const Impl> no_list() {
        return {};
    }

    const Graph& graph_;
    Exec exec_;
    PackedWeights& weights_;
    GpuPlan plan_;
};

}  // namespace

GpuPlan compile_gpu(const Graph& graph, const Exec& exec, PackedWeights& weights) {
    return Compiler(graph, exec, weights).take();
}

}  // namespace lumachrome
