// The emulated GPU itself: that it notices the mistakes it is there for.
#include <cuda_runtime.h>
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>

#include "tensor/cuda/ptx.cuh"

namespace {

void run(unsigned threads, const std::function<void()>& body) {
    emulator::run(1, threads, 256, body);
}

}  // namespace

TEST_CASE("a barrier that some threads never reach is told, with their names") {
    CHECK_THROWS_WITH_AS(run(64,
                             [] {
                                 if (threadIdx.x == 5)
                                     __syncwarp();
                                 else
                                     __syncthreads();
                             }),
                         doctest::Contains("5 at a warp instruction"), emulator::Error);
}

TEST_CASE("a missing barrier shows when the warps run in reverse") {
    const auto last_reads_first = [](bool reverse) {
        emulator::reverse_warps(reverse);
        float result = 0;
        run(64, [&] {
            auto* shared = reinterpret_cast<float*>(emulator::dynamic_shared());
            if (threadIdx.x == 0) shared[0] = 1;
            if (threadIdx.x == 63) result = shared[0];
        });
        emulator::reverse_warps(false);
        return result;
    };
    CHECK(last_reads_first(false) == 1);
    CHECK(std::isnan(last_reads_first(true)));
}

TEST_CASE("asynchronous copies arrive when they are waited for, not before") {
    alignas(16) const float four[4] = {1, 2, 3, 4};
    float before = 0, after = 0;
    run(1, [&] {
        auto* shared = reinterpret_cast<float*>(emulator::dynamic_shared());
        lumachrome::cuda::cp_async_16(shared, four, true);
        lumachrome::cuda::cp_async_commit();
        before = shared[2];
        lumachrome::cuda::cp_async_wait<0>();
        after = shared[2];
    });
    CHECK(std::isnan(before));
    CHECK(after == 3);
    CHECK_THROWS_WITH(run(1,
                          [&] {
                              lumachrome::cuda::cp_async_16(emulator::dynamic_shared(), four, true);
                              lumachrome::cuda::cp_async_commit();
                          }),
                      doctest::Contains("copies under way"));
    CHECK_THROWS_WITH(
        run(1, [&] { lumachrome::cuda::cp_async_16(emulator::dynamic_shared() + 4, four, true); }),
        doctest::Contains("misaligned"));
}

TEST_CASE("lanes exchange values as the warp's instructions say") {
    bool right = true;
    run(32, [&] {
        const int lane = static_cast<int>(threadIdx.x);
        right &= __shfl_xor_sync(0xffffffffu, lane, 5) == (lane ^ 5);
        right &= __shfl_down_sync(0xffffffffu, lane, 3) == (lane + 3 < 32 ? lane + 3 : lane);
        right &= __shfl_sync(0xffffffffu, lane, 7) == 7;
        right &= __shfl_sync(0xffffffffu, lane, 1, 8) == lane / 8 * 8 + 1;
        right &= __ballot_sync(0xffffffffu, lane % 2) == 0xaaaaaaaau;
    });
    CHECK(right);
}

TEST_CASE("the CPU cannot touch the memory of the device") {
    void* memory = nullptr;
    REQUIRE(cudaMalloc(&memory, 4096) == cudaSuccess);
    const pid_t child = fork();
    if (child == 0) {
        std::signal(SIGSEGV, SIG_DFL);
        *static_cast<volatile char*>(memory) = 1;
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    CHECK(WIFSIGNALED(status));
    cudaFree(memory);
}
