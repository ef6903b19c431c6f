#include "layers/upsample.hpp"
#include "tensor/cuda/launch.cuh"

namespace lumachrome {

std::span<const UpsampleImpl> upsample_cuda() {
    return {};
}

}  // namespace lumachrome
