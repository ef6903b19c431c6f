// A tensor that training changes. `version` counts the changes, so that whoever keeps something
// derived from the value (packed or folded weights) knows when it is stale.
#pragma once
#include <cstdint>

#include "tensor/tensor.hpp"

namespace lumachrome {

struct Parameter {
    Tensor value;
    Tensor grad;  // dL/dvalue of the last Tape::backward; undefined before the first
    bool trainable = true;
    uint64_t version = 0;
};

}  // namespace lumachrome
