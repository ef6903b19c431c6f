// The instructions of Hopper (compute capability 9.0a) that CUDA C++ has no name for: barriers in
// shared memory, products of four warps on tensor cores, and shares of the register file. Where
// kHasWarpgroupProducts is false, no kernel may call them.
//
// Facts: PTX ISA, "Parallel Synchronization and Communication Instructions: mbarrier", "Async
// Proxy", and "Asynchronous Warpgroup Level Matrix Multiply-Accumulate Instructions" (register
// fragments of m64nNk16, canonical layouts, strides, matrix descriptor format); the same layouts in
// CUTLASS, cute/atom/mma_traits_sm90_gmma.hpp.
#pragma once
#include "tensor/cuda/ptx.cuh"

namespace lumachrome::cuda {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
constexpr bool kHasWarpgroupProducts = true;
#else
constexpr bool kHasWarpgroupProducts = false;
#endif

// --- barriers in shared memory: a phase ends when all expected arrivals have come

struct alignas(8) Barrier {
    uint64_t bits;
};
__device__ __forceinline__ void barrier_init(Barrier* barrier, unsigned arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)),
                 "r"(arrivals)
                 : "memory");
}
// What this thread wrote before is seen by those that wait for the phase.
__device__ __forceinline__ void barrier_arrive(Barrier* barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier))
                 : "memory");
}
// Arrives when all cp.async that this thread started before have landed, without waiting for them.
__device__ __forceinline__ void barrier_arrive_after_copies(Barrier* barrier) {
    asm volatile(
        "cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(shared_address(barrier))
        : "memory");
}
// Waits for the end of the phase of that parity; phases count from 0, so a fresh barrier lets
// parity 1 pass. A phase lasts microseconds: one that does not end within 20 s is a mistake in the
// kernel, which then ends with an error instead of never. A try may itself take a while, so it is
// time that is measured.
__device__ __forceinline__ void barrier_wait(Barrier* barrier, unsigned parity) {
    uint32_t done;
    uint32_t tries = 0;
    uint64_t start = 0;
    do {
        if (++tries % 4096 == 0) {
            uint64_t now;  // ns
            asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
            if (start == 0) start = now;
            if (now - start > 20'000'000'000u) __trap();
        }
        asm volatile(
            "{\n.reg .pred p;\n"
            "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
            "selp.u32 %0, 1, 0, p;\n}\n"
            : "=r"(done)
            : "r"(shared_address(barrier)), "r"(parity)
            : "memory");
    } while (!done);
}

// --- the register file: a warpgroup gives up registers, others take them

template <int kRegisters>
__device__ __forceinline__ void give_up_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// --- products of a warpgroup

// What this thread sees in shared memory, products that it starts see too from here on. They read
// through another path, the async proxy; cp.async and ordinary stores write through the generic
// one. Goes behind the wait for the data.
__device__ __forceinline__ void fence_for_products() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
// Before the first product, and after registers of one were touched.
__device__ __forceinline__ void products_fence() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void products_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Until at most kPending groups of this warp's products are under way.
template <int kPending>
__device__ __forceinline__ void products_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
// Keeps the compiler from moving uses of a sum across a wait.
template <int kCount>
__device__ __forceinline__ void pin(float (&d)[kCount]) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}
// The same value, of which the compiler knows nothing: what is computed from it is computed behind
// this point, not kept in registers through the loops before.
__device__ __forceinline__ int computed_here(int value) {
    asm volatile("" : "+r"(value));
    return value;
}

// A matrix of 16-bit elements in shared memory as the products read it: in atoms of 8 rows of 128
// bytes, each at a multiple of 1024 bytes, whose 16-byte pieces are swizzled: piece j of row r lies
// at j ^ (r % 8).
//   depth along the 128 bytes (K-major): rows of the atom are rows of the matrix, 64 deep.
//     stride_bytes from 8 rows to the next 8; a step of 16 deep is 32 bytes further.
//   depth along the rows (MN-major): the 128 bytes are 64 rows of the matrix.
//     stride_bytes from 8 deep to the next 8, leading_bytes from 64 rows to the next 64.
__device__ __forceinline__ uint64_t swizzled_matrix(const void* shared, uint32_t leading_bytes,
                                                    uint32_t stride_bytes) {
    constexpr uint64_t kSwizzle128 = uint64_t{1} << 62;
    return kSwizzle128 | uint64_t{stride_bytes >> 4} << 32 | uint64_t{leading_bytes >> 4} << 16 |
           (shared_address(shared) & 0x3ffff) >> 4;
}
// The same matrix, `bytes` further.
__device__ __forceinline__ uint64_t advance(uint64_t matrix, uint32_t bytes) {
    return matrix + (bytes >> 4);
}

// d += a b (d = a b unless kAdd, whatever d held) on tensor cores, by the four warps of a
// warpgroup, done after products_wait.
//   a [64 rows, 16 deep]   b [16 deep, kColumns]
//   d: with t = thread of the warpgroup, d[4j + 2i + e] is row 16 (t / 32) + t % 32 / 4 + 8i,
//   column 8j + 2 (t % 4) + e
template <bool kAdd, bool kDepthAlongRows, int kColumns>
__device__ __forceinline__ void product(float (&d)[kColumns / 2], uint64_t a, uint64_t b) {
    static_assert(kColumns == 32 || kColumns == 64 || kColumns == 128);
    constexpr int kTransposed = kDepthAlongRows, kAccumulate = kAdd;
    if constexpr (kColumns == 32) {
        asm volatile(
            "{\n.reg .pred p;\nsetp.ne.b32 p, %19, 0;\n"
            "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {"
            "%0, %1, %2, %3, %4, %5, %6, %7, "
            "%8, %9, %10, %11, %12, %13, %14, %15}, "
            "%16, %17, p, 1, 1, %18, %18;\n}\n"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),
              "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]),
              "+f"(d[13]), "+f"(d[14]), "+f"(d[15])
            : "l"(a), "l"(b), "n"(kTransposed), "n"(kAccumulate)
            : "memory");
    } else if constexpr (kColumns == 64) {
        asm volatile(
            "{\n.reg .pred p;\nsetp.ne.b32 p, %35, 0;\n"
            "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
            "%0, %1, %2, %3, %4, %5, %6, %7, "
            "%8, %9, %10, %11, %12, %13, %14, %15, "
            "%16, %17, %18, %19, %20, %21, %22, %23, "
            "%24, %25, %26, %27, %28, %29, %30, %31}, "
            "%32, %33, p, 1, 1, %34, %34;\n}\n"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),
              "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]),
              "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]),
              "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),
              "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]),
              "+f"(d[31])
            : "l"(a), "l"(b), "n"(kTransposed), "n"(kAccumulate)
            : "memory");
    } else {
        asm volatile(
            "{\n.reg .pred p;\nsetp.ne.b32 p, %67, 0;\n"
            "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
            "%0, %1, %2, %3, %4, %5, %6, %7, "
            "%8, %9, %10, %11, %12, %13, %14, %15, "
            "%16, %17, %18, %19, %20, %21, %22, %23, "
            "%24, %25, %26, %27, %28, %29, %30, %31, "
            "%32, %33, %34, %35, %36, %37, %38, %39, "
            "%40, %41, %42, %43, %44, %45, %46, %47, "
            "%48, %49, %50, %51, %52, %53, %54, %55, "
            "%56, %57, %58, %59, %60, %61, %62, %63}, "
            "%64, %65, p, 1, 1, %66, %66;\n}\n"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),
              "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]),
              "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]),
              "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),
              "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]),
              "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]),
              "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]),
              "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]),
              "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]),
              "+f"(d[55]), "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]),
              "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
            : "l"(a), "l"(b), "n"(kTransposed), "n"(kAccumulate)
            : "memory");
    }
}

}  // namespace lumachrome::cuda
