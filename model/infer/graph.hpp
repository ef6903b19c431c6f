// The network as a list of nodes, for inference: traced once on the meta device, then rewritten by
// passes. Nothing here describes the network a second time; it is ColorNet's own ops, in the order
// in which they ran.
#pragma once
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "autograd/tape.hpp"
#include "layers/activation.hpp"

namespace lumachrome {

struct Graph {
    struct Value {
        Shape shape;
        Tensor constant;  // weights; undefined for what is computed
    };
    struct Node {
        std::string name;  // of its weights, "low.1"; of the op where it has none
        std::shared_ptr<const Op> op;
        std::vector<int> inputs;  // indices of values
        int output;
        // Found by passes; an op that has them computes activation(op(upsample(input 0), ...)).
        std::optional<Activation> activation = {};
        bool upsample = false;
        bool flatten = false;  // a fully connected layer that reads the map as it lies, on a GPU
    };
    std::vector<Value> values;
    std::vector<Node> nodes;  // in an order in which they can run
    std::vector<int> inputs, outputs;

    // Nodes that read a value; an output of the graph is read once more.
    int readers(int value) const;
    std::vector<Shape> input_shapes(const Node& node) const;
};

// Runs `define` on a tape of meta tensors of these shapes; the Vars it returns become the outputs.
// Parameters become constants that share their memory. `names` serves Node::name.
using Define = std::function<std::vector<Var>(Tape&, std::span<const Var>)>;
using ParameterNames = std::map<const Parameter*, std::string>;
Graph trace(const Define& define, std::span<const Shape> inputs, const ParameterNames& names = {});

}  // namespace lumachrome
