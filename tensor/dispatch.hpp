// Which implementation list serves a device: the one place that knows whether this build has CUDA.
#pragma once
#include <span>

#include "tensor/choose.hpp"
#include "tensor/device.hpp"

namespace lumachrome {

template <class Impl>
std::span<const Impl> implementations(Device device, std::span<const Impl> (*cpu)()) {
    if (device.kind != Device::cpu)
        throw ResourceError("device " + device.str() + ": this build has no kernels for it");
    return cpu();
}

}  // namespace lumachrome
