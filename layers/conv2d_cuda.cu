#include "layers/conv2d.hpp"
#include "tensor/cuda/launch.cuh"

namespace lumachrome {

std::span<const Conv2dImpl> conv2d_cuda() {
    return {};
}

}  // namespace lumachrome
