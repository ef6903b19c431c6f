#include "tensor/random.hpp"

#include <cmath>
#include <numbers>

namespace lumachrome {

uint32_t Random::bits() {
    if (used_ == 4) {
        block_ = philox4x32(counter_, key_);
        ++counter_[0];
        used_ = 0;
    }
    return block_[static_cast<size_t>(used_++)];
}

double Random::uniform() {
    return bits() * 0x1p-32;
}

int64_t Random::below(int64_t n) {
    return static_cast<int64_t>((uint64_t{bits()} * static_cast<uint64_t>(n)) >> 32);
}

double Random::normal() {
    const double radius = std::sqrt(-2 * std::log(1 - uniform()));
    return radius * std::cos(2 * std::numbers::pi * uniform());
}

}  // namespace lumachrome
