#include "tensor/dtype.hpp"

#include <cmath>
#include <cstring>

namespace lumachrome {
namespace {

uint32_t bits_of(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

float float_of(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// Without branches or subnormal floats (slow on some CPUs), so that loops over it vectorise.
inline float widen_f16(uint16_t bits) {
    constexpr uint32_t kRebias = (127 - 15) << 23;  // between the exponents of the two types
    const uint32_t magnitude = uint32_t{bits & 0x7fffu} << 13;  // the fields in a float's places
    const uint32_t normal = magnitude + kRebias;
    const uint32_t special = normal + kRebias;  // infinity and NaN: the largest exponent again
    // Subnormals count units of 2^-24: placed behind the leading one of 2^-14, that one taken off.
    const float subnormal = float_of(magnitude + kRebias + (1u << 23)) - 0x1p-14f;
    const uint32_t wide = magnitude < (1u << 23)      ? bits_of(subnormal)
                          : magnitude < (0x1fu << 23) ? normal
                                                      : special;
    return float_of(wide | uint32_t{bits & 0x8000u} << 16);
}

}  // namespace

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
    return widen_f16(bits);
}

void widen(DType stored, const uint16_t* in, int64_t count, float* out) {
    if (size_in_bytes(stored) != 2)
        throw Error(std::string("widen: ") + name(stored) + " is neither f16 nor bf16");
    if (stored == DType::f16)
        for (int64_t i = 0; i < count; ++i) out[i] = widen_f16(in[i]);
    else
        for (int64_t i = 0; i < count; ++i) out[i] = bf16_to_float(in[i]);
}

}  // namespace lumachrome
