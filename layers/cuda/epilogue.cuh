// What ends a prepared layer, in kernels: activation(sum).
#pragma once
#include <optional>

#include "layers/activation.hpp"
#include "layers/epilogue.hpp"
#include "tensor/cuda/launch.cuh"

namespace lumachrome {

inline Epilogue epilogue_of(std::optional<Activation> activation) {
    if (!activation) return Epilogue::none;
    return *activation == Activation::relu ? Epilogue::relu : Epilogue::sigmoid;
}

__device__ __forceinline__ float finish(Epilogue epilogue, float sum) {
    return epilogue == Epilogue::relu      ? activate_reference(Activation::relu, sum)
           : epilogue == Epilogue::sigmoid ? activate_reference(Activation::sigmoid, sum)
                                           : sum;
}

}  // namespace lumachrome
