// The tape: every op applied, in execution order, with what its backward needs. Running it backward
// is one reverse loop: no sort, no recursion, no global graph. A parameter is one leaf per tape, so
// weights used twice (the low-level stack on photo and 224x224 copy) receive both gradients.
// Walk 2, stop 3: loss -> gradients -> optimizer.
#pragma once
#include <functional>
#include <initializer_list>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "autograd/op.hpp"
#include "autograd/parameter.hpp"

namespace lumachrome {

enum class Phase {
    train,  // records; batch norm uses batch statistics, dropout drops
    eval,   // records nothing; running statistics; memory of dead values is reused at once
    trace,  // as eval, on the meta device: shapes only, and the nodes are kept for reading
};

class Tape;

// A tensor and its place on a tape.
struct Var {
    Tape* tape = nullptr;
    int node = -1;
    Tensor value;
    const Shape& shape() const { return value.shape(); }
};

struct Watch;

class Tape {
  public:
    struct Node {
        std::shared_ptr<const Op> op;  // null: a leaf
        std::vector<int> inputs;
        Parameter* parameter = nullptr;  // leaf of a parameter
        bool wants_grad = false;
        // Of a leaf. Of an op in the phases train and trace only shape and type, on the meta
        // device: what backward needs again, the op saved.
        Tensor value;
        Saved saved;
    };

    Tape(Phase phase, const Exec& exec, Watch* watch = nullptr)
        : phase_(phase), exec_(exec), watch_(watch) {}
    Tape(const Tape&) = delete;
    Tape& operator=(const Tape&) = delete;

    Phase phase() const { return phase_; }
    const Exec& exec() const { return exec_; }
    const std::vector<Node>& nodes() const { return nodes_; }

    Var input(Tensor value, bool wants_grad = false);
    Var parameter(Parameter& parameter);  // memoised: one leaf per parameter
    Var apply(std::shared_ptr<const Op> op, std::initializer_list<Var> inputs);

    // Adds weight * root over all (scalar) roots and differentiates: afterwards `grad` of every
    // trainable parameter on this tape is assigned. May run once; needs Phase::train.
    // `ready` is called for each of them as soon as its gradient is complete, last used first, so
    // that it can travel to other processes while the rest is still being differentiated.
    using Ready = std::function<void(Parameter&)>;
    void backward(std::initializer_list<std::pair<Var, double>> roots, const Ready& ready = {});
    // The same from arbitrary output gradients dL/droot; for tests and explanations.
    void backward_from(std::initializer_list<std::pair<Var, Tensor>> roots);
    const Tensor& grad(const Var& input) const;  // of an input that wanted it, after backward

  private:
    int push(Node node);
    void run_backward(const Ready& ready);
    GradIn slot(int node);
    Phase phase_;
    bool differentiated_ = false;
    Exec exec_;
    Watch* watch_;
    std::vector<Node> nodes_;
    std::vector<Tensor> grads_;  // by node; freed as soon as the node is done
    std::unordered_map<const Parameter*, int> leaves_;
};

// Sees every op right after it ran: for statistics, and to find where a NaN was born.
struct Watch {
    virtual ~Watch() = default;
    virtual void forward(const Tape& tape, const Tape::Node& node, const Tensor& out) {
        (void)tape, (void)node, (void)out;
    }
    virtual void backward(const Tape& tape, const Tape::Node& node, std::span<const GradIn> din) {
        (void)tape, (void)node, (void)din;
    }
};

}  // namespace lumachrome
