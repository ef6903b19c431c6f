// Elements in registers, moved to and from memory in accesses as wide as the count allows (up to 16
// bytes), widened on the way in and rounded on the way out.
#pragma once
#include <array>
#include <bit>
#include <initializer_list>
#include <type_traits>

#include "tensor/cuda/launch.cuh"
#include "tensor/cuda/ptx.cuh"
#include "tensor/tensor.hpp"

namespace lumachrome::cuda {

template <class T>
constexpr int kPackOf = 16 / static_cast<int>(sizeof(T));  // elements of one access

// What every pointer of a kernel with packs must be a multiple of.
inline bool aligned_16(std::initializer_list<const void*> pointers) {
    for (const void* p : pointers)
        if (reinterpret_cast<uintptr_t>(p) % 16 != 0) return false;
    return true;
}

template <class T, int kCount>
struct Values {
    Wider<T> at[kCount];
};

template <int kBytes>
using AccessOf = std::conditional_t<kBytes % 16 == 0, uint4,
                                    std::conditional_t<kBytes % 8 == 0, uint2, uint32_t>>;

__device__ __forceinline__ float low_bf16(uint32_t pair) {
    return std::bit_cast<float>(pair << 16);
}
__device__ __forceinline__ float high_bf16(uint32_t pair) {
    return std::bit_cast<float>(pair & 0xffff0000u);
}

// `from` is a multiple of the access: of 16 bytes, or of kCount elements where they are fewer.
template <int kCount, class T>
__device__ __forceinline__ Values<T, kCount> load_pack(const T* from) {
    Values<T, kCount> values;
    if constexpr (kCount == 1 || kCount * sizeof(T) % 4 != 0) {
#pragma unroll
        for (int i = 0; i < kCount; ++i) values.at[i] = static_cast<Wider<T>>(from[i]);
    } else {
        constexpr int kBytes = kCount * static_cast<int>(sizeof(T));
        using Access = AccessOf<kBytes>;
        constexpr int kWords = sizeof(Access) / 4, kAccesses = kBytes / sizeof(Access);
        uint32_t words[kBytes / 4];
#pragma unroll
        for (int a = 0; a < kAccesses; ++a) {
            const auto some = std::bit_cast<std::array<uint32_t, kWords>>(
                reinterpret_cast<const Access*>(from)[a]);
#pragma unroll
            for (int i = 0; i < kWords; ++i) words[a * kWords + i] = some[i];
        }
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
            if constexpr (sizeof(T) == 8)
                values.at[i] =
                    std::bit_cast<double>(uint64_t{words[2 * i + 1]} << 32 | words[2 * i]);
            else if constexpr (sizeof(T) == 4)
                values.at[i] = std::bit_cast<float>(words[i]);
            else
                values.at[i] = i % 2 ? high_bf16(words[i / 2]) : low_bf16(words[i / 2]);
        }
    }
    return values;
}

template <int kCount, class T>
__device__ __forceinline__ void store_pack(T* to, const Values<T, kCount>& values) {
    if constexpr (kCount == 1 || kCount * sizeof(T) % 4 != 0) {
#pragma unroll
        for (int i = 0; i < kCount; ++i) to[i] = static_cast<T>(values.at[i]);
    } else {
        constexpr int kBytes = kCount * static_cast<int>(sizeof(T));
        using Access = AccessOf<kBytes>;
        constexpr int kWords = sizeof(Access) / 4, kAccesses = kBytes / sizeof(Access);
        uint32_t words[kBytes / 4];
#pragma unroll
        for (int i = 0; i < kBytes / 4; ++i) {
            if constexpr (sizeof(T) == 8)
                words[i] = static_cast<uint32_t>(std::bit_cast<uint64_t>(values.at[i / 2]) >>
                                                 (i % 2 * 32));
            else if constexpr (sizeof(T) == 4)
                words[i] = std::bit_cast<uint32_t>(values.at[i]);
            else
                words[i] = pack_bf16(values.at[2 * i], values.at[2 * i + 1]);
        }
#pragma unroll
        for (int a = 0; a < kAccesses; ++a) {
            std::array<uint32_t, kWords> some;
#pragma unroll
            for (int i = 0; i < kWords; ++i) some[i] = words[a * kWords + i];
            reinterpret_cast<Access*>(to)[a] = std::bit_cast<Access>(some);
        }
    }
}

// y = values, or y += values.
template <int kCount, class T>
__device__ __forceinline__ void store_or_add(T* to, Values<T, kCount> values, bool add) {
    if (add) {
        const Values<T, kCount> before = load_pack<kCount>(to);
#pragma unroll
        for (int i = 0; i < kCount; ++i) values.at[i] += before.at[i];
    }
    store_pack<kCount>(to, values);
}

// The same with arrays.
template <int kCount, class T>
__device__ __forceinline__ void load(const T* from, Wider<T> (&out)[kCount]) {
    const Values<T, kCount> values = load_pack<kCount>(from);
#pragma unroll
    for (int i = 0; i < kCount; ++i) out[i] = values.at[i];
}
template <int kCount, class T>
__device__ __forceinline__ void store(T* to, const Wider<T> (&in)[kCount]) {
    Values<T, kCount> values;
#pragma unroll
    for (int i = 0; i < kCount; ++i) values.at[i] = in[i];
    store_pack<kCount>(to, values);
}

// Whether rows of C elements can be moved in packs of 16 bytes in all of these tensors.
template <class... Tensors>
bool packs(int64_t C, const Tensors&... tensors) {
    const auto fits = [C](const Tensor& t) {
        return !t.defined() || (C * size_in_bytes(t.dtype()) % 16 == 0 && aligned_16({t.raw()}));
    };
    return (fits(tensors) && ...);
}

}  // namespace lumachrome::cuda
