#include "layers/linear.hpp"
#include "tensor/cuda/launch.cuh"

namespace lumachrome {

std::span<const LinearImpl> linear_cuda() {
    return {};
}

}  // namespace lumachrome
