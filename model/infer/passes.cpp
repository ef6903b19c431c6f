#include "model/infer/passes.hpp"

#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>

#include "layers/batch_norm.hpp"
#include "layers/conv2d.hpp"
#include "layers/flatten.hpp"
#include "layers/fusion.hpp"
#include "layers/linear.hpp"
#include "layers/upsample.hpp"
#include "tensor/error.hpp"

namespace lumachrome {
namespace {

template <class T>
const T* as(const Graph::Node& node) {
    return dynamic_cast<const T*>(node.op.get());
}

// Ops with weights and a bias as their last two inputs, output channels first.
bool has_weights(const Graph::Node& node) {
    return as<Conv2dOp>(node) || as<FusionOp>(node) || as<LinearOp>(node);
}

// The node that computes `value`, if only one reads it; or null.
Graph::Node* sole_producer(Graph& graph, int value) {
    if (graph.readers(value) != 1) return nullptr;
    const auto found = std::find_if(graph.nodes.begin(), graph.nodes.end(),
                                    [&](const auto& node) { return node.output == value; });
    return found == graph.nodes.end() ? nullptr : &*found;
}

// Lets what `node` computed be the output of `producer`, and removes `node`.
void absorb(Graph& graph, Graph::Node& producer, size_t node) {
    producer.output = graph.nodes[node].output;
    graph.nodes.erase(graph.nodes.begin() + static_cast<std::ptrdiff_t>(node));
}

int add_constant(Graph& graph, Tensor constant) {
    const Shape shape = constant.shape();
    graph.values.push_back({shape, std::move(constant)});
    return static_cast<int>(graph.values.size()) - 1;
}

struct Folded {
    int weight, bias;
};

// Folds into new weights: others may share the old ones.
// y = gamma (w x + b - mean) / std + beta = (s w) x + (s (b - mean) + beta),  s = gamma / std
Folded fold(Graph& graph, const BatchNormOp& norm, const Tensor& w, const Tensor& b,
            const Tensor& gamma, const Tensor& beta) {
    const int64_t K = w.shape()[0], taps = w.numel() / K;
    const Tensor weight = w.clone(), bias = b.clone();
    for (int64_t k = 0; k < K; ++k) {
        const double scale =
            gamma.item(k) / std::sqrt(norm.running_variance.item(k) + kBatchNormEpsilon);
        float* row = weight.data<float>() + k * taps;
        for (int64_t i = 0; i < taps; ++i) row[i] = static_cast<float>(row[i] * scale);
        bias.data<float>()[k] =
            static_cast<float>((b.item(k) - norm.running_mean.item(k)) * scale + beta.item(k));
    }
    const int first = add_constant(graph, weight);
    return {first, add_constant(graph, bias)};
}

constexpr Pass kPasses[] = {
    {"drop_unused", "leave out what no output depends on", drop_unused},
    {"fold_batch_norm", "scale the weights by the running statistics", fold_batch_norm},
    {"fuse_activation", "activate in the step before", fuse_activation},
    {"fuse_upsample_conv", "convolve the doubled map without writing it", fuse_upsample_conv},
};

}  // namespace

std::span<const Pass> passes() {
    return kPasses;
}

Graph run_passes(Graph graph, std::string_view choice) {
    std::set<std::string, std::less<>> without;
    while (!choice.empty()) {
        const size_t comma = choice.find(',');
        const std::string_view word = choice.substr(0, comma);
        const bool known = std::any_of(passes().begin(), passes().end(), [&](const Pass& pass) {
            return word.starts_with('-') && word.substr(1) == pass.name;
        });
        if (!known) {
            std::string names;
            for (const Pass& pass : passes()) names += std::string(" -") + pass.name;
            throw UsageError("passes: " + std::string(word) + " is none of" + names);
        }
        without.emplace(word.substr(1));
        choice = comma == choice.npos ? std::string_view{} : choice.substr(comma + 1);
    }
    for (const Pass& pass : passes())
        if (!without.contains(pass.name)) graph = pass.run(std::move(graph));
    return graph;
}

Graph drop_unused(Graph graph) {
    std::vector<bool> used(graph.values.size());
    for (int output : graph.outputs) used[size_t(output)] = true;
    for (size_t i = graph.nodes.size(); i-- > 0;) {
        const Graph::Node& node = graph.nodes[i];
        if (used[size_t(node.output)])
            for (int input : node.inputs) used[size_t(input)] = true;
        else
            graph.nodes.erase(graph.nodes.begin() + static_cast<std::ptrdiff_t>(i));
    }
    return graph;
}

Graph fold_batch_norm(Graph graph) {
    std::map<std::tuple<int, int>, Folded> folded;  // shared weights are folded once
    for (size_t i = 0; i < graph.nodes.size(); ++i) {
        const auto* norm = as<BatchNormOp>(graph.nodes[i]);
        Graph::Node* producer =
            norm && !norm->batch ? sole_producer(graph, graph.nodes[i].inputs[0]) : nullptr;
        if (!producer || !has_weights(*producer) || producer->activation) continue;
        const size_t last = producer->inputs.size() - 1;
        const int w = producer->inputs[last - 1], b = producer->inputs[last];
        const int gamma = graph.nodes[i].inputs[1], beta = graph.nodes[i].inputs[2];
        const auto constant = [&](int value) { return graph.values[size_t(value)].constant; };
        if (!constant(w).defined() || !constant(b).defined()) continue;
        const auto key = std::make_tuple(w, gamma);
        if (!folded.contains(key))
            folded[key] =
                fold(graph, *norm, constant(w), constant(b), constant(gamma), constant(beta));
        producer->inputs[last - 1] = folded[key].weight;
        producer->inputs[last] = folded[key].bias;
        absorb(graph, *producer, i--);
        for (const int value :
             {w, b, gamma, beta})  // gives its memory back before the next is folded
            if (graph.readers(value) == 0) graph.values[size_t(value)].constant = {};
    }
    return graph;
}

Graph fuse_activation(Graph graph) {
    for (size_t i = 0; i < graph.nodes.size(); ++i) {
        const auto* op = as<ActivationOp>(graph.nodes[i]);
        Graph::Node* producer = op ? sole_producer(graph, graph.nodes[i].inputs[0]) : nullptr;
        if (!producer || !has_weights(*producer) || producer->activation) continue;
        producer->activation = op->activation;
        absorb(graph, *producer, i--);
    }
    return graph;
}

Graph fuse_upsample_conv(Graph graph) {
    for (size_t i = 0; i < graph.nodes.size(); ++i) {
        const auto* conv = as<Conv2dOp>(graph.nodes[i]);
        if (!conv || conv->spec.stride != 1 || conv->spec.kernel != 3) continue;
        const Graph::Node* producer = sole_producer(graph, graph.nodes[i].inputs[0]);
        if (!producer || !as<UpsampleOp>(*producer)) continue;
        graph.nodes[i].inputs[0] = producer->inputs[0];
        graph.nodes[i].upsample = true;
        graph.nodes.erase(graph.nodes.begin() + (producer - graph.nodes.data()));
        --i;
    }
    return graph;
}

Graph fuse_flatten(Graph graph) {
    for (size_t i = 0; i < graph.nodes.size(); ++i) {
        if (!as<LinearOp>(graph.nodes[i])) continue;
        const Graph::Node* producer = sole_producer(graph, graph.nodes[i].inputs[0]);
        if (!producer || !as<FlattenOp>(*producer)) continue;
        graph.nodes[i].inputs[0] = producer->inputs[0];
        graph.nodes[i].flatten = true;
        graph.nodes.erase(graph.nodes.begin() + (producer - graph.nodes.data()));
        --i;
    }
    return graph;
}

}  // namespace lumachrome
