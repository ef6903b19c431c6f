// Element types. f32 and f64 compute on the CPU; bf16 and f16 are storage formats here (files, and
// later GPU activations).
#pragma once
#include <cstdint>
#include <cstring>
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

template <class T>
constexpr DType dtype_of() {
    static_assert(std::is_same_v<T, float> || std::is_same_v<T, double>);
    return std::is_same_v<T, float> ? DType::f32 : DType::f64;
}

// Calls f with a value of the C++ type of `dtype`; kernels are written once for f32 and f64.
template <class F>
decltype(auto) dispatch_float(DType dtype, F&& f) {
    if (dtype == DType::f32) return f(float{});
    if (dtype == DType::f64) return f(double{});
    throw Error(std::string("dtype ") + name(dtype) +
                " is a storage format, the CPU computes in f32 or f64");
}

// IEEE 754 half and bfloat16, round to nearest even; NaN stays NaN.
uint16_t float_to_f16(float value);
float f16_to_float(uint16_t bits);
uint16_t float_to_bf16(float value);
// `count` numbers of f16 or bf16 as floats, each exactly.
void widen(DType stored, const uint16_t* in, int64_t count, float* out);
inline float bf16_to_float(uint16_t bits) {
    uint32_t wide = uint32_t{bits} << 16;
    float value;
    std::memcpy(&value, &wide, sizeof value);
    return value;
}

}  // namespace lumachrome
