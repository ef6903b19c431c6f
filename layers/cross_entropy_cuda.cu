#include "layers/cross_entropy.hpp"
#include "tensor/cuda/launch.cuh"

namespace lumachrome {

std::span<const CrossEntropyImpl> cross_entropy_cuda() {
    return {};
}

}  // namespace lumachrome
