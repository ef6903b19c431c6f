// The composite that the network is made of: weights -> batch norm -> activation. This order is the
// only one that folds into the weights after training.
#pragma once
#include <optional>

#include "layers/activation.hpp"
#include "layers/batch_norm.hpp"
#include "layers/conv2d.hpp"
#include "layers/fusion.hpp"
#include "layers/linear.hpp"

namespace lumachrome {

struct ConvBlock {
    ConvBlock(int64_t in, int64_t out, Conv2dSpec spec, bool normalise, Activation a)
        : conv(in, out, spec), activation(a) {
        if (normalise) norm.emplace(out);
    }
    Conv2d conv;
    std::optional<BatchNorm> norm;
    Activation activation;

    Var operator()(const Var& x) {
        Var y = conv(x);
        return activate(norm ? (*norm)(y) : y, activation);
    }
    template <class F>
    void visit(F&& f) {
        conv.visit([&](const char* name, Parameter& p) { f(std::string("conv.") + name, p); });
        if (norm)
            norm->visit([&](const char* name, Parameter& p) { f(std::string("norm.") + name, p); });
    }
};

struct LinearBlock {
    LinearBlock(int64_t in, int64_t out, bool normalise, Activation a)
        : linear(in, out), activation(a) {
        if (normalise) norm.emplace(out);
    }
    Linear linear;
    std::optional<BatchNorm> norm;
    Activation activation;

    Var operator()(const Var& x) {
        Var y = linear(x);
        return activate(norm ? (*norm)(y) : y, activation);
    }
    template <class F>
    void visit(F&& f) {
        linear.visit([&](const char* name, Parameter& p) { f(std::string("linear.") + name, p); });
        if (norm)
            norm->visit([&](const char* name, Parameter& p) { f(std::string("norm.") + name, p); });
    }
};

struct FusionBlock {
    FusionBlock(int64_t local, int64_t global, int64_t out, int64_t kernel, bool normalise,
                Activation a)
        : fusion(local, global, out, kernel), activation(a) {
        if (normalise) norm.emplace(out);
    }
    Fusion fusion;
    std::optional<BatchNorm> norm;
    Activation activation;

    Var operator()(const Var& m, const Var& g) {
        Var y = fusion(m, g);
        return activate(norm ? (*norm)(y) : y, activation);
    }
    // Without the global branch (the paper's baseline) the fusion is a plain convolution of m.
    Var operator()(const Var& m) {
        Var y = fusion.conv(m);
        return activate(norm ? (*norm)(y) : y, activation);
    }
    template <class F>
    void visit(F&& f) {
        fusion.conv.visit(
            [&](const char* name, Parameter& p) { f(std::string("conv.") + name, p); });
        if (norm)
            norm->visit([&](const char* name, Parameter& p) { f(std::string("norm.") + name, p); });
    }
};

}  // namespace lumachrome
