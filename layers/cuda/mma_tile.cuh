// A block's share of a matrix product on tensor cores, without a word on where its operands come
// from: stages of shared memory filled ahead by cp.async, fragments, products, accumulators.
//
// Shared memory per stage: kM rows of A, then kN rows of B, 128 bytes of depth each (64 bf16 or 32
// floats): long enough for full lines of global memory, and four steps of an mma (32 bytes of depth
// each, for both types) between two barriers. Convolution gradients of weights lay the same bytes
// out by depth (conv2d_mma_weight_cuda.cu).
#pragma once
#include "tensor/cuda/launch.cuh"
#include "tensor/cuda/ptx.cuh"

namespace lumachrome::cuda {

constexpr int kDepthBytes = 128, kDepthSteps = 4;

// --- ways to multiply two fragments, four registers of A and two of B

template <int kRegisters>
struct Plain {
    uint32_t bits[kRegisters];
};
template <int kRegisters>
struct Split {
    uint32_t high[kRegisters], low[kRegisters];
};

struct Bf16Product {
    using Element = bf16;
    template <int n>
    using Operand = Plain<n>;
    static constexpr int kPasses = 1;

    template <int n>
    __device__ static __forceinline__ Plain<n> prepare(const Plain<n>& raw, bool) {
        return raw;
    }
    __device__ static __forceinline__ void add(float (&d)[4], const Plain<4>& a,
                                               const Plain<2>& b) {
        mma_bf16(d, a.bits, b.bits);
    }
};

// One product of factors rounded to tf32. Packed weights have been rounded before.
struct Tf32Product {
    using Element = float;
    template <int n>
    using Operand = Plain<n>;
    static constexpr int kPasses = 1;

    template <int n>
    __device__ static __forceinline__ Plain<n> prepare(const Plain<n>& raw, bool rounded) {
        if (rounded) return raw;
        Plain<n> out;
#pragma unroll
        for (int i = 0; i < n; ++i) out.bits[i] = to_tf32(__uint_as_float(raw.bits[i]));
        return out;
    }
    __device__ static __forceinline__ void add(float (&d)[4], const Plain<4>& a,
                                               const Plain<2>& b) {
        mma_tf32(d, a.bits, b.bits);
    }
};

// Nearly f32: each factor is the sum of two tf32 (21 bits), of whose four products the smallest is
// left out. Tensor cores cut sums off instead of rounding them, so they only ever add up the 8
// terms of a step, and the long sum is an f32 addition that rounds.
struct Tf32x3Product {
    using Element = float;
    template <int n>
    using Operand = Split<n>;
    static constexpr int kPasses = 3;

    template <int n>
    __device__ static __forceinline__ Split<n> prepare(const Plain<n>& raw, bool) {
        Split<n> out;
#pragma unroll
        for (int i = 0; i < n; ++i) {
            const float value = __uint_as_float(raw.bits[i]);
            out.high[i] = to_tf32(value);
            out.low[i] = __float_as_uint(value - __uint_as_float(out.high[i]));
        }
        return out;
    }
    __device__ static __forceinline__ void add(float (&d)[4], const Split<4>& a,
                                               const Split<2>& b) {
        float terms[4] = {};
        mma_tf32(terms, a.low, b.high);
        mma_tf32(terms, a.high, b.low);
        mma_tf32(terms, a.high, b.high);
#pragma unroll
        for (int i = 0; i < 4; ++i) d[i] += terms[i];
    }
};

// --- shapes

// kWarpsM x kWarpsN warps, each with kWarpM x kWarpN sums; kResident blocks to a multiprocessor.
template <int kWarpsM_, int kWarpsN_, int kWarpM_, int kWarpN_, int kStages_, int kResident_>
struct MmaTile {
    static constexpr int kWarpsM = kWarpsM_, kWarpsN = kWarpsN_, kWarpM = kWarpM_, kWarpN = kWarpN_,
                         kStages = kStages_, kResident = kResident_;
    static constexpr int kM = kWarpsM * kWarpM, kN = kWarpsN * kWarpN;
    static constexpr int kThreads = 32 * kWarpsM * kWarpsN;
    static constexpr int kMi = kWarpM / 16, kNi = kWarpN / 8;  // fragments of a warp
    static constexpr int kStageBytes = (kM + kN) * kDepthBytes;
    // Sums pass through shared memory on their way out. With 8 floats between rows, the eight rows
    // of a fragment fall into different banks.
    static constexpr int kPitch = kN + 8;
    static constexpr int kSumBytes = kM * kPitch * 4;
    static constexpr int kSharedBytes =
        kStages * kStageBytes > kSumBytes ? kStages* kStageBytes : kSumBytes;
};

template <class Tile>
using Sums = float[Tile::kMi][Tile::kNi][4];

// sums += A B over `stages` stages of depth. `copy` starts the copies of a stage, a third at a time
// (part 0, 1, 2; then next() moves on; prepare() writes what threads share about the stage to come,
// a barrier before its first part); `fragments` reads a step of a stage. Between two barriers lies
// a whole stage of products: while step k is multiplied, the fragments of step k + 1 and the copies
// of the stage kStages - 1 ahead are under way.
template <class Product, class Tile, class Copy, class Fragments>
__device__ __forceinline__ void multiply_stages(std::byte* shared, int stages, Copy& copy,
                                                const Fragments& fragments, Sums<Tile>& sums) {
    constexpr int kAhead = Tile::kStages - 1;
#pragma unroll
    for (int s = 0; s < kAhead; ++s) {
        copy.prepare();
        if constexpr (Copy::kShares) __syncthreads();
        if (s < stages)
#pragma unroll
            for (int part = 0; part < 3; ++part) copy.part(shared + s * Tile::kStageBytes, part);
        cp_async_commit();
        copy.next();
    }
    copy.prepare();
    cp_async_wait<kAhead - 1>();
    __syncthreads();

    Plain<4> a[2][Tile::kMi];
    Plain<4> b[2][Tile::kNi / 2];  // two fragments each
    fragments.load(shared, 0, a[0], b[0]);
    int reading = 0, writing = kAhead;
    for (int i = 0; i < stages; ++i) {
        const bool more = i + kAhead < stages;
#pragma unroll
        for (int k = 0; k < kDepthSteps; ++k) {
            if (k == kDepthSteps - 1) {
                // Nobody reads stage i any more, and stage i + 1 has arrived.
                cp_async_commit();
                cp_async_wait<kAhead - 1>();
                __syncthreads();
                reading = reading + 1 == Tile::kStages ? 0 : reading + 1;
            }
            fragments.load(shared + reading * Tile::kStageBytes, (k + 1) % kDepthSteps,
                           a[(k + 1) % 2], b[(k + 1) % 2]);
            if (k < kDepthSteps - 1 && more) copy.part(shared + writing * Tile::kStageBytes, k);
            if (k == kDepthSteps - 2) {
                copy.next();
                copy.prepare();
            }

            typename Product::template Operand<2> right[Tile::kNi];
#pragma unroll
            for (int n = 0; n < Tile::kNi; ++n) {
                const uint32_t(&pair)[4] = b[k % 2][n / 2].bits;
                right[n] = Product::prepare(Plain<2>{{pair[n % 2 * 2], pair[n % 2 * 2 + 1]}},
                                            Fragments::kRightRounded);
            }
#pragma unroll
            for (int m = 0; m < Tile::kMi; ++m) {
                const auto left = Product::prepare(a[k % 2][m], false);
#pragma unroll
                for (int n = 0; n < Tile::kNi; ++n) Product::add(sums[m][n], left, right[n]);
            }
        }
        writing = writing + 1 == Tile::kStages ? 0 : writing + 1;
    }
    cp_async_wait<0>();
    __syncthreads();  // from here on the stages' memory is free
}

// The sums of the block as [kM][kPitch] floats in shared memory.
template <class Tile>
__device__ __forceinline__ void share_sums(float* shared, const Sums<Tile>& sums) {
    const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    float* const corner = shared + (warp / Tile::kWarpsN * Tile::kWarpM + g) * Tile::kPitch +
                          warp % Tile::kWarpsN * Tile::kWarpN + 2 * t;
#pragma unroll
    for (int m = 0; m < Tile::kMi; ++m)
#pragma unroll
        for (int n = 0; n < Tile::kNi; ++n) {
            float* const at = corner + m * 16 * Tile::kPitch + n * 8;
            *reinterpret_cast<float2*>(at) = make_float2(sums[m][n][0], sums[m][n][1]);
            *reinterpret_cast<float2*>(at + 8 * Tile::kPitch) =
                make_float2(sums[m][n][2], sums[m][n][3]);
        }
    __syncthreads();
}

}  // namespace lumachrome::cuda
