#include "tensor/dtype.hpp"

#include <cmath>

namespace lumachrome {
namespace {

uint32_t bits_of(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

}  // namespace

uint16_t float_to_bf16(float value) {
    const uint32_t bits = bits_of(value);
    if (std::isnan(value)) return static_cast<uint16_t>((bits >> 16) | 0x40);
    return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

uint16_t float_to_f16(float value) {
    const uint32_t bits = bits_of(value);
    const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
    const uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return sign | 0x7e00;
    if (magnitude >= 0x477ff000) return sign | 0x7c00;  // rounds to 65536 or more: infinity
    if (magnitude < 0x38800000) {                       // below 2^-14: subnormal, units of 2^-24
        const float scaled = std::nearbyint(std::fabs(value) * 0x1p24f);
        return sign | static_cast<uint16_t>(scaled);
    }
    const uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
    return sign | static_cast<uint16_t>((rounded - 0x38000000) >> 13);
}

float f16_to_float(uint16_t bits) {
    // The fields in a float's places, then the exponent's bias corrected by a product, which also
    // normalises subnormals.
    uint32_t wide = uint32_t{bits & 0x7fffu} << 13;
    const bool special = (bits & 0x7c00) == 0x7c00;  // infinity or NaN
    if (special) wide |= 0x7f800000;
    float magnitude;
    std::memcpy(&magnitude, &wide, sizeof magnitude);
    if (!special) magnitude *= 0x1p112f;
    return bits & 0x8000 ? -magnitude : magnitude;
}

}  // namespace lumachrome
