// The end of a layer prepared for inference, on registers: sums (which hold the bias) to outputs.
#pragma once
#include "layers/epilogue.hpp"
#include "tensor/isa/vector.hpp"

namespace lumachrome::LUMACHROME_ISA {

using Integers [[gnu::vector_size(kRegisterBytes)]] = int32_t;

// NaN passes, as in activate_reference().
[[gnu::always_inline]] inline Vector relu(Vector x) {
    return x < Vector{} ? Vector{} : x;
}

// e^x = 2^n e^r, n the nearest integer to x / ln 2 and |r| <= ln 2 / 2, where the Taylor series up
// to r^7 / 7! is within 1.2e-8 of e^r. Between -87.3 and 88.3, beyond which x is held. NaN passes.
[[gnu::always_inline]] inline Vector exponential(Vector x) {
    constexpr float kLeast = -87.3f, kMost = 88.3f;
    x = x < kLeast ? Vector{} + kLeast : x;
    x = x > kMost ? Vector{} + kMost : x;
    constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
    const Vector shifted = x * 1.44269504089f + kRound;
    const Vector n = shifted - kRound;
    // ln 2 in two parts: n times the first is exact
    Vector r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    Vector e = r * (1.0f / 5040) + 1.0f / 720;
    e = e * r + 1.0f / 120;
    e = e * r + 1.0f / 24;
    e = e * r + 1.0f / 6;
    e = e * r + 0.5f;
    e = e * r + 1.0f;
    e = e * r + 1.0f;
    // n as an exponent: the low bits of `shifted` hold it
    const Integers power = (reinterpret_cast<Integers>(shifted) - 0x4b400000 + 127) << 23;
    return e * reinterpret_cast<Vector>(power);
}

[[gnu::always_inline]] inline Vector sigmoid(Vector x) {
    return 1.0f / (1.0f + exponential(-x));
}

template <Epilogue kEpilogue>
[[gnu::always_inline]] inline Vector activated(Vector x) {
    if constexpr (kEpilogue == Epilogue::relu) return relu(x);
    if constexpr (kEpilogue == Epilogue::sigmoid) return sigmoid(x);
    return x;
}
[[gnu::always_inline]] inline Vector activated(Epilogue epilogue, Vector x) {
    if (epilogue == Epilogue::relu) return relu(x);
    if (epilogue == Epilogue::sigmoid) return sigmoid(x);
    return x;
}

}  // namespace lumachrome::LUMACHROME_ISA
