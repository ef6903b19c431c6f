// A GPU on the CPU, for tests: runs the kernels of this project block by block, their very source,
// compiled by the C++ compiler against the headers of this folder instead of the CUDA Toolkit's.
//
// Every thread of a block is a fiber: it runs until it waits (barrier, warp instruction) or ends.
// So what threads exchange, and where they may wait, is as the programming model says. What is not
// modelled: time, caches, two blocks at once, and a compiler that differs.
//
// Made to find mistakes: memory of the device can be touched by kernels and copies only; fresh
// memory, fresh shared memory and targets of copies under way hold NaN; barriers that not all
// threads reach are errors; the order in which warps run can be reversed (a race then shows as
// inequality).
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>

#include "products.hpp"

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

extern thread_local uint3 threadIdx, blockIdx;
extern thread_local dim3 blockDim, gridDim;

namespace emulator {

struct Error : std::logic_error {
    using std::logic_error::logic_error;
};

// Runs body for every thread of the grid.
void run(dim3 grid, dim3 block, size_t dynamic_shared_bytes, const std::function<void()>& body);
// Last warp first, from now on; so does LUMACHROME_EMULATOR_REVERSE in the environment, whatever
// its value, for tests that also run without the emulator.
void reverse_warps(bool reverse);

// Called from within a running kernel:
std::byte* dynamic_shared();
void sync_block(int barrier = 0, unsigned threads = 0);  // threads 0: all that have not ended
void sync_warp(uint32_t mask = 0xffffffffu);
void yield();  // of a thread that waits for memory to change
unsigned lane();
unsigned linear_thread();

// Gives `bytes` of every lane to all lanes of the warp: afterwards of_lane(l) is what lane l gave,
// until the exchange after the next.
constexpr size_t kExchangeBytes = 256;
void exchange(const void* given, size_t bytes, uint32_t mask = 0xffffffffu);
const std::byte* of_lane(unsigned lane);

template <class T>
T value_of_lane(unsigned l) {
    T value;
    std::memcpy(&value, of_lane(l), sizeof value);
    return value;
}

// Work that is done later on behalf of the calling thread (cp.async).
struct Pending {
    std::byte* to;
    const std::byte* from;
    unsigned bytes, zeros;  // zeros: behind the bytes
};
void start_copy(const Pending& copy);  // poisons the target until it is done
// Closes a group; `then` is called when it has landed, as late as other threads can wait for it.
void commit_copies(std::function<void()> then = {});
void wait_copies(int groups_left);

Products& products();  // of the calling thread
void start_product(const Product& product);
void wait_products(int groups_left);
// What was copied asynchronously and has landed may be read by products of the calling thread from
// here on; before, that is an error.
void fence_for_products();

}  // namespace emulator
