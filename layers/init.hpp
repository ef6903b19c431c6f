// Weight initialisation. Uniform over +-gain sqrt(3 / fan_in), so that each layer keeps the
// variance of its input: gain sqrt(2) before ReLU (He et al. 2015), 1 before sigmoid and logits.
// Gain sqrt(1/3), so +-1 / sqrt(fan_in), is what the paper's Torch7 and PyTorch begin with. Each
// tensor draws from its own counter, so the values do not depend on the order of creation.
#pragma once
#include <cstdint>

#include "autograd/parameter.hpp"

namespace lumachrome {

// weight: [K,R,S,C] or [O,I]; `index` tells the tensors of one network apart.
void init_weight(Parameter& weight, double gain, uint64_t seed, uint32_t index);

}  // namespace lumachrome
