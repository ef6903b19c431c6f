#include "autograd/tape.hpp"

#include <utility>

#include "tensor/error.hpp"

namespace lumachrome {

int Tape::push(Node node) {
    nodes_.push_back(std::move(node));
    return static_cast<int>(nodes_.size()) - 1;
}

Var Tape::input(Tensor value, bool wants_grad) {
    if (phase_ == Phase::trace) value = value.to(Device{Device::meta});
    Node node;
    node.wants_grad = wants_grad;
    if (phase_ != Phase::eval) node.value = value;
    return {this, push(std::move(node)), value};
}

Var Tape::parameter(Parameter& parameter) {
    const Tensor value =
        phase_ == Phase::trace ? parameter.value.to(Device{Device::meta}) : parameter.value;
    auto [it, added] = leaves_.try_emplace(&parameter, 0);
    if (added) {
        Node node;
        node.parameter = &parameter;
        node.wants_grad = phase_ == Phase::train && parameter.trainable;
        node.value = value;
        it->second = push(std::move(node));
    }
    return {this, it->second, value};
}

Var Tape::apply(std::shared_ptr<const Op> op, std::initializer_list<Var> inputs) {
    Node node;
    std::vector<Shape> shapes;
    std::vector<DType> types;
    std::vector<Tensor> values;
    for (const Var& input : inputs) {
        if (input.tape != this) throw Error(op->name() + ": input belongs to another tape");
        node.inputs.push_back(input.node);
        node.wants_grad |= nodes_[static_cast<size_t>(input.node)].wants_grad;
        shapes.push_back(input.shape());
        types.push_back(input.value.dtype());
        values.push_back(input.value);
    }
    const Device device = phase_ == Phase::trace ? Device{Device::meta} : exec_.device;
    Tensor out = Tensor::empty(op->infer(shapes), op->result_type(types), device);
    const bool record = phase_ == Phase::train && node.wants_grad;
    if (phase_ != Phase::trace) op->forward(exec_, values, out, record ? &node.saved : nullptr);
    node.op = std::move(op);
    if (watch_ && phase_ != Phase::trace) watch_->forward(*this, node, out);
    if (phase_ != Phase::eval) node.value = out.to(Device{Device::meta});
    return {this, push(std::move(node)), out};
}

GradIn Tape::slot(int index) {
    const auto i = static_cast<size_t>(index);
    if (!nodes_[i].wants_grad) return {};
    if (grads_[i].defined()) return {grads_[i], 1};
    // A parameter keeps its gradient tensor from step to step.
    Parameter* p = nodes_[i].parameter;
    const Tensor& value = nodes_[i].value;
    if (p && p->grad.defined() && p->grad.dtype() == p->value.dtype())
        grads_[i] = p->grad;
    else
        grads_[i] = Tensor::empty(value.shape(), value.dtype(), exec_.device);
    if (p) p->grad = grads_[i];
    return {grads_[i], 0};
}

void Tape::backward(std::initializer_list<std::pair<Var, double>> roots, const Ready& ready) {
    grads_.assign(nodes_.size(), {});
    for (const auto& [root, weight] : roots) {
        if (root.value.numel() != 1)
            throw ShapeError("backward: root must be a scalar, not " + root.shape().str());
        const GradIn grad = slot(root.node);
        if (!grad) continue;
        if (grad.beta == 0)
            grad.grad.fill(weight);
        else
            grad.grad.add(weight);
    }
    run_backward(ready);
}

void Tape::backward_from(std::initializer_list<std::pair<Var, Tensor>> roots) {
    grads_.assign(nodes_.size(), {});
    for (const auto& [root, dout] : roots)
        if (const GradIn grad = slot(root.node)) grad.grad.copy_from(dout);
    run_backward({});
}

void Tape::run_backward(const Ready& ready) {
    if (phase_ != Phase::train) throw Error("backward needs a tape of phase train");
    if (std::exchange(differentiated_, true)) throw Error("backward has run on this tape already");
    for (size_t i = nodes_.size(); i-- > 0;) {
        Node& node = nodes_[i];
        // A leaf stands before all that uses it: here its gradient is complete.
        if (Parameter* p = node.parameter; p && node.wants_grad) {
            if (!grads_[i].defined()) slot(static_cast<int>(i)).grad.fill(0);  // no path to a root
            if (ready) ready(*p);
        }
        if (!node.op || !grads_[i].defined()) continue;
        std::vector<GradIn> din;
        for (size_t k = 0; k < node.inputs.size(); ++k) {
            for (size_t earlier = 0; earlier < k; ++earlier)
                if (node.inputs[earlier] == node.inputs[k])
                    throw Error(node.op->name() + ": the same value given twice");
            din.push_back(slot(node.inputs[k]));
        }
        node.op->backward(exec_, grads_[i], node.saved, din);
        if (watch_) watch_->backward(*this, node, din);
        grads_[i] = {};
        node.saved = {};
        node.value = {};
    }
}

const Tensor& Tape::grad(const Var& input) const {
    const auto i = static_cast<size_t>(input.node);
    if (i >= grads_.size() || !grads_[i].defined())
        throw Error("no gradient of this value: it was not wanted, or backward has not run");
    return grads_[i];
}

}  // namespace lumachrome
