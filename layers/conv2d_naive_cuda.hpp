// The definition of conv2d.hpp on a GPU, an element a thread: what the other implementations are
// compared with.
#pragma once
#include "layers/conv2d.hpp"

namespace lumachrome {

extern const Conv2dKernel kConv2dNaiveCuda;

}  // namespace lumachrome
