// Plain arithmetic of sizes, free of the standard library, so that loops compiled per instruction
// set may include it too (tensor/isa.hpp).
#pragma once
#include <cstdint>

namespace lumachrome {

constexpr int64_t divide_up(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

// Along one axis a kernel hangs over the start (1), over the end (2), over both (3, a map one cell
// high) or over neither (0).
constexpr int64_t border_case(int64_t position, int64_t size) {
    return (position == 0) + 2 * (position == size - 1);
}

}  // namespace lumachrome
