#include "layers/dropout.hpp"
#include "tensor/cuda/launch.cuh"

namespace lumachrome {

std::span<const DropoutImpl> dropout_cuda() {
    return {};
}

}  // namespace lumachrome
