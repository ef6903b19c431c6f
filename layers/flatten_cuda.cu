#include "layers/flatten.hpp"
#include "tensor/cuda/launch.cuh"

namespace lumachrome {

std::span<const FlattenImpl> flatten_cuda() {
    return {};
}

}  // namespace lumachrome
