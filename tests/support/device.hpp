// Tests that need a GPU (or the emulated one) are skipped without:
//   TEST_CASE("..." * doctest::skip(support::no_gpu()))
#pragma once
#include <doctest/doctest.h>

#include "tensor/cuda.hpp"

namespace lumachrome::support {

inline const Device kGpu{Device::cuda, 0};

inline bool no_gpu() {
    return !cuda::unavailable().empty();
}

}  // namespace lumachrome::support
