// How gradients change weights. Every rule is element by element, with up to two slots of state.
//
//   adadelta  E[g2] <- rho E[g2] + (1-rho) g2,  D = g sqrt(E[D2]+eps) / sqrt(E[g2]+eps),  w -= lr
//   D,
//             E[D2] <- rho E[D2] + (1-rho) D2           (Zeiler 2012; the paper's choice, lr = 1)
//   adam      m <- b1 m + (1-b1) g,  v <- b2 v + (1-b2) g2,
//             w -= lr (m / (1-b1^t)) / (sqrt(v / (1-b2^t)) + eps)         (Kingma and Ba 2015)
//             weight decay is decoupled, w -= lr decay w              (Loshchilov and Hutter 2019)
//   sgd       m <- momentum m + g,  w -= lr m
// Walk 2, stop 4: loss -> gradients -> optimizer.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "autograd/parameter.hpp"
#include "tensor/exec.hpp"

namespace lumachrome {

struct OptimizerSpec {
    // first, second: E[g2], E[D2] of adadelta; m, v of adam; m and nothing of sgd
    enum Rule { adadelta, adam, sgd };
    Rule rule = adadelta;
    double learning_rate = 1;
    double rho = 0.9, momentum = 0.9, beta1 = 0.9, beta2 = 0.999;
    double epsilon = 1e-6;
    double weight_decay = 0;
};
// Defaults of a rule by name: adadelta (lr 1, torch's rho), adam (lr 1e-3), sgd (lr 0.01). Throws
// UsageError. adamw is adam with weight decay 0.01.
OptimizerSpec optimizer_spec(const std::string& rule);
const char* name(OptimizerSpec::Rule rule);

// What one step multiplies with, beyond the constants of the rule.
struct StepFactors {
    double rate = 0, decay = 0;       // of the weights: decay is the rate times weight_decay
    double adam_rate = 0, root2 = 1;  // adam: the rate over 1-b1^t, the root of 1-b2^t
    double gradient = 1;              // of every gradient
    double clip_norm = 0;             // longer gradients are scaled down to it; 0: never
};

class DeviceStep;

class Optimizer {
  public:
    struct Slot {
        std::string name;
        Parameter* parameter;
        Tensor first, second;  // undefined where the rule needs none
    };
    explicit Optimizer(const OptimizerSpec& spec) : spec_(spec) {}
    void add(const std::string& name, Parameter& parameter);  // ignores what is not trainable

    // One step from the gradients in the parameters: the learning rate is multiplied by
    // `rate_factor`, every gradient by `gradient_factor`. Returns the first slot whose weights are
    // no longer finite; null: all are. On a GPU that answer waits for it.
    const Slot* step(const Exec& exec, double rate_factor = 1, double gradient_factor = 1);

    // A step that is done elsewhere (DeviceStep): counts it, marks all weights as changed and says
    // what it multiplies with.
    StepFactors begin_step(double rate_factor = 1, double clip_norm = 0);

    int64_t steps() const { return steps_; }
    void set_steps(int64_t steps) { steps_ = steps; }
    std::vector<Slot>& slots() { return slots_; }
    const OptimizerSpec& spec() const { return spec_; }

  private:
    StepFactors factors(double rate_factor) const;
    OptimizerSpec spec_;
    std::vector<Slot> slots_;
    int64_t steps_ = 0;
    std::shared_ptr<DeviceStep> on_device_;  // null before the first step on a GPU
};

}  // namespace lumachrome
