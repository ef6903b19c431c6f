#include "model/infer/graph.hpp"

#include <algorithm>

namespace lumachrome {

int Graph::readers(int value) const {
    auto count = std::count(outputs.begin(), outputs.end(), value);
    for (const Node& node : nodes)
        count += std::count(node.inputs.begin(), node.inputs.end(), value);
    return static_cast<int>(count);
}

std::vector<Shape> Graph::input_shapes(const Node& node) const {
    std::vector<Shape> shapes;
    for (int input : node.inputs) shapes.push_back(values[size_t(input)].shape);
    return shapes;
}

Graph trace(const Define& define, std::span<const Shape> inputs, const ParameterNames& names) {
    Tape tape(Phase::trace, {});
    Graph graph;
    std::vector<Var> vars;
    for (const Shape& shape : inputs) {
        vars.push_back(tape.input(Tensor::empty(shape, DType::f32, {Device::meta})));
        graph.inputs.push_back(vars.back().node);
    }
    for (const Var& output : define(tape, vars)) graph.outputs.push_back(output.node);
    // A node of the tape is a value here; those with an op are nodes as well.
    for (size_t i = 0; i < tape.nodes().size(); ++i) {
        const Tape::Node& node = tape.nodes()[i];
        graph.values.push_back(
            {node.value.shape(), node.parameter ? node.parameter->value : Tensor{}});
        if (!node.op) continue;
        std::string name = node.op->name();
        for (int input : node.inputs) {
            const auto found = names.find(tape.nodes()[size_t(input)].parameter);
            if (found == names.end()) continue;
            name = found->second.substr(0, found->second.rfind('.'));
            break;
        }
        graph.nodes.push_back({name, node.op, node.inputs, static_cast<int>(i)});
    }
    return graph;
}

}  // namespace lumachrome
