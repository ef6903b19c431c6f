// Element types. f32 and f64 compute everywhere; bf16 is what activations of the GPU may be kept in
// (sums, weights, statistics and losses stay f32), and, like f16, a format of files.
#pragma once
#include <bit>
#include <cstdint>
#include <type_traits>

#include "tensor/error.hpp"

namespace lumachrome {

enum class DType { f32, f64, bf16, f16 };

inline int64_t size_in_bytes(DType dtype) {
    return dtype == DType::f64 ? 8 : dtype == DType::f32 ? 4 : 2;
}

inline const char* name(DType dtype) {
    constexpr const char* kNames[] = {"f32", "f64", "bf16", "f16"};
    return kNames[static_cast<int>(dtype)];
}

// The upper half of a float: its range, 8 bits of its precision. Rounds to nearest even; NaN stays
// NaN.
constexpr uint16_t float_to_bf16(float value) {
    const auto bits = std::bit_cast<uint32_t>(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40);
    return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
constexpr float bf16_to_float(uint16_t bits) {
    return std::bit_cast<float>(uint32_t{bits} << 16);
}
struct bf16 {
    uint16_t bits;
    bf16() = default;
    constexpr explicit bf16(float value) : bits(float_to_bf16(value)) {}
    constexpr explicit operator float() const { return bf16_to_float(bits); }
    constexpr explicit operator double() const { return double(bf16_to_float(bits)); }
};

template <class T>
constexpr DType dtype_of() {
    static_assert(std::is_same_v<T, float> || std::is_same_v<T, double> || std::is_same_v<T, bf16>);
    return std::is_same_v<T, float>    ? DType::f32
           : std::is_same_v<T, double> ? DType::f64
                                       : DType::bf16;
}

// Calls f with a value of the C++ type of `dtype`; kernels of the CPU are written once for f32 and
// f64.
template <class F>
decltype(auto) dispatch_float(DType dtype, F&& f) {
    if (dtype == DType::f32) return f(float{});
    if (dtype == DType::f64) return f(double{});
    throw Error(std::string("dtype ") + name(dtype) +
                " is a storage format, the CPU computes in f32 or f64");
}

// IEEE 754 half, round to nearest even; NaN stays NaN.
uint16_t float_to_f16(float value);
float f16_to_float(uint16_t bits);
// `count` numbers of f16 or bf16 as floats, each exactly.
void widen(DType stored, const uint16_t* in, int64_t count, float* out);

}  // namespace lumachrome
