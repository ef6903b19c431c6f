// The composite that the network is made of: weights -> batch norm -> activation. This order is the
// only one that folds into the weights after training.
#pragma once
#include <optional>
#include <string>

#include "layers/activation.hpp"
#include "layers/batch_norm.hpp"
#include "layers/conv2d.hpp"
#include "layers/fusion.hpp"
#include "layers/linear.hpp"

namespace lumachrome {

template <class Layer>
struct Block {
    Block(Layer l, bool normalise, Activation a) : layer(std::move(l)), activation(a) {
        if (normalise) norm.emplace(layer.out_channels());
    }
    Layer layer;
    std::optional<BatchNorm> norm;
    Activation activation;

    template <class... Inputs>
    Var operator()(const Inputs&... inputs) {
        const Var y = layer(inputs...);
        if (!norm) return activate(y, activation);
        // Training makes one op of both; otherwise they stay apart, for whoever folds the norm into
        // the weights.
        if (y.tape->phase() == Phase::train) return (*norm)(y, activation);
        return activate((*norm)(y), activation);
    }
    template <class F>
    void visit(F&& f) {
        layer.visit([&](const char* name, Parameter& p) {
            f(std::string(Layer::kStateName) + "." + name, p);
        });
        if (norm)
            norm->visit([&](const char* name, Parameter& p) { f(std::string("norm.") + name, p); });
    }
};

using ConvBlock = Block<Conv2d>;
using LinearBlock = Block<Linear>;
using FusionBlock = Block<Fusion>;

}  // namespace lumachrome
