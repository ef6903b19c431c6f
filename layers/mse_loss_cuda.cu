#include "layers/mse_loss.hpp"
#include "tensor/cuda/launch.cuh"

namespace lumachrome {

std::span<const MseLossImpl> mse_loss_cuda() {
    return {};
}

}  // namespace lumachrome
