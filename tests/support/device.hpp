// Tests that need a GPU (or the emulated one) are skipped without:
//   TEST_CASE("..." * doctest::skip(support::no_gpu()))
#pragma once
#include <doctest/doctest.h>

#include <cstdlib>

#include "tensor/cuda.hpp"

namespace lumachrome::support {

inline const Device kGpu{Device::cuda, 0};

inline bool no_gpu() {
    return !cuda::unavailable().empty();
}

// A product on tensor cores takes the emulated ones a while: what is not about them leaves them
// out.
inline bool emulated() {
    return !no_gpu() && cuda::properties(0).name == "emulated GPU";
}
inline const char* quick_kernels() {
    const char* const forced = std::getenv("LUMACHROME_FORCE");  // by who looks for a mistake
    return emulated() ? "conv2d:naive,conv2d_prepared:naive" : forced ? forced : "";
}

}  // namespace lumachrome::support
