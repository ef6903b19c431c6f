// One register of floats of the instruction set that this file is compiled for. Loops written with
// it are compiled once for each (tensor/isa.hpp): the widths differ, the source does not.
#pragma once
#include <cstdint>

#if defined(__AVX512F__)
#include <immintrin.h>  // all always inlined
#endif

#if !defined(LUMACHROME_ISA)
#error "only files that are compiled per instruction set include this"
#endif

namespace lumachrome::LUMACHROME_ISA {

#if defined(__AVX512F__)
inline constexpr int64_t kRegisterBytes = 64, kRegisters = 32;
#elif defined(__AVX__)
inline constexpr int64_t kRegisterBytes = 32, kRegisters = 16;
#else
inline constexpr int64_t kRegisterBytes = 16, kRegisters = 16;
#endif
inline constexpr int64_t kLanes = kRegisterBytes / sizeof(float);
inline constexpr int64_t kPanel = 2 * kLanes;  // columns of one register tile of a product

using Vector [[gnu::vector_size(kRegisterBytes)]] = float;
// The same from memory of any alignment, which may hold anything.
using Unaligned [[gnu::vector_size(kRegisterBytes), gnu::aligned(4), gnu::may_alias]] = float;

[[gnu::always_inline]] inline Vector load(const float* from) {
    return *reinterpret_cast<const Unaligned*>(from);
}
[[gnu::always_inline]] inline void store(float* to, Vector v) {
    *reinterpret_cast<Unaligned*>(to) = v;
}
// `count` may be less than a register, or nothing: the rest is zero, and not touched.
[[gnu::always_inline]] inline Vector load(const float* from, int64_t count) {
    if (count >= kLanes) return load(from);
    Vector v{};
    for (int64_t i = 0; i < count; ++i) v[i] = from[i];
    return v;
}
[[gnu::always_inline]] inline void store(float* to, Vector v, int64_t count) {
    if (count >= kLanes) return store(to, v);
    for (int64_t i = 0; i < count; ++i) to[i] = v[i];
}

// Stores for what is read again only after much else has passed through the caches: a register that
// is a whole cache line goes to memory as it is, where store() would read that line first. After
// the last of them comes end_stream(), before other threads look.
[[gnu::always_inline]] inline void stream(float* to, Vector v) {
#if defined(__AVX512F__)
    if (reinterpret_cast<uintptr_t>(to) % kRegisterBytes == 0) return _mm512_stream_ps(to, v);
#endif
    store(to, v);
}
[[gnu::always_inline]] inline void stream(float* to, Vector v, int64_t count) {
    if (count >= kLanes) return stream(to, v);
    store(to, v, count);
}
[[gnu::always_inline]] inline void end_stream() {
#if defined(__AVX512F__)
    _mm_sfence();
#endif
}

[[gnu::always_inline]] inline int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}
[[gnu::always_inline]] inline int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

}  // namespace lumachrome::LUMACHROME_ISA
