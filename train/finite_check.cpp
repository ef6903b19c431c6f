#include "train/finite_check.hpp"

#include "tensor/error.hpp"

namespace lumachrome {
namespace {

// The parameter that feeds this node, or the nearest op before it that has one.
const Parameter* nearest_parameter(const Tape& tape, const Tape::Node& node) {
    for (const Tape::Node* at = &node; !at->inputs.empty();
         at = &tape.nodes()[size_t(at->inputs.front())])
        for (const int input : at->inputs)
            if (const Parameter* p = tape.nodes()[size_t(input)].parameter) return p;
    return nullptr;
}

}  // namespace

std::string FiniteCheck::place(const Tape& tape, const Tape::Node& node) {
    const Parameter* nearest = nearest_parameter(tape, node);
    std::string name;
    net_.visit([&](const std::string& candidate, Parameter& p) {
        if (&p == nearest) name = candidate;
    });
    const bool own = !node.inputs.empty() && [&] {
        for (const int input : node.inputs)
            if (tape.nodes()[size_t(input)].parameter == nearest) return true;
        return false;
    }();
    return node.op->name() + (name.empty() ? "" : (own ? " of " : " after ") + name);
}

void FiniteCheck::forward(const Tape& tape, const Tape::Node& node, const Tensor& out) {
    if (inner_) inner_->forward(tape, node, out);
    for (const int input : node.inputs) {
        const Tape::Node& from = tape.nodes()[size_t(input)];
        if (from.op || all_finite(from.value)) continue;
        throw Error((from.parameter ? "a parameter of " : "the input of ") + place(tape, node) +
                    " is not finite");
    }
    if (!all_finite(out)) throw Error("the output of " + place(tape, node) + " is not finite");
}

void FiniteCheck::backward(const Tape& tape, const Tape::Node& node, std::span<const GradIn> din) {
    if (inner_) inner_->backward(tape, node, din);
    for (const GradIn& grad : din)
        if (grad && !all_finite(grad.grad))
            throw Error("the gradient made by " + place(tape, node) + " is not finite");
}

}  // namespace lumachrome
