#include "layers/batch_norm.hpp"
#include "tensor/cuda/launch.cuh"

namespace lumachrome {

std::span<const BatchNormImpl> batch_norm_cuda() {
    return {};
}

}  // namespace lumachrome
