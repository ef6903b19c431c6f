// Which implementation list serves a device. A build without the CUDA Toolkit links empty lists for
// it (cuda_missing.cpp beside the lists), so nothing here or in the ops depends on the build.
#pragma once
#include <span>

#include "tensor/choose.hpp"
#include "tensor/device.hpp"

namespace lumachrome {

template <class Impl>
std::span<const Impl> implementations(Device device, std::span<const Impl> (*cpu)(),
                                      std::span<const Impl> (*cuda)()) {
    const std::span<const Impl> list = device.kind == Device::cpu    ? cpu()
                                       : device.kind == Device::cuda ? cuda()
                                                                     : std::span<const Impl>();
    if (list.empty())
        throw ResourceError("device " + device.str() + ": this build has no kernels for it");
    return list;
}

}  // namespace lumachrome
