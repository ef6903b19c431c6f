// Where the first NaN or infinity of a step was born. Watching costs a pass over every value, so
// training looks only after a loss or a gradient has turned out bad (train_step.hpp).
#pragma once
#include <string>

#include "model/colornet.hpp"

namespace lumachrome {

// Throws Error at the first op whose output or input gradient is not finite, naming op and layer.
class FiniteCheck : public Watch {
  public:
    // `inner` is called first; may be null.
    explicit FiniteCheck(ColorNet& net, Watch* inner = nullptr) : net_(net), inner_(inner) {}
    void forward(const Tape& tape, const Tape::Node& node, const Tensor& out) override;
    void backward(const Tape& tape, const Tape::Node& node, std::span<const GradIn> din) override;

  private:
    std::string place(const Tape& tape, const Tape::Node& node);
    ColorNet& net_;
    Watch* inner_;
};

}  // namespace lumachrome
