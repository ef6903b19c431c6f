#include "layers/fusion.hpp"
#include "tensor/cuda/launch.cuh"

namespace lumachrome {

std::span<const FusionImpl> fusion_cuda() {
    return {};
}

}  // namespace lumachrome
