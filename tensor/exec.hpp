// Execution context handed to every op: where to run and on how many threads.
#pragma once
#include <exception>
#include <span>

#include "tensor/device.hpp"
#include "tensor/tensor.hpp"

namespace lumachrome {

// The processes that work on one batch together, each on its share (train/distributed).
struct Peers {
    virtual ~Peers() = default;
    virtual int count() const = 0;
    // Adds up `values` over all of them, element by element; every one calls it in the same order.
    virtual void sum(std::span<double> values) const = 0;
};

struct Exec {
    Device device{};
    int threads = 1;
    const Peers* peers = nullptr;  // who shares batch statistics; null: nobody
    bool tf32 = false;        // factors of products may be rounded to 10 bits of mantissa on a GPU
    DType maps = DType::f32;  // what activations are kept in; bf16: on a GPU
};

int available_threads();  // cores this process may use

// Runs task(0..count-1) on up to exec.threads threads. Tasks are cut by the problem alone, never by
// the number of threads, and write disjoint memory: so the bits of a result do not depend on it.
template <class Task>
void parallel_for(const Exec& exec, int64_t count, const Task& task) {
    const int threads = static_cast<int>(count < exec.threads ? count : exec.threads);
    if (threads <= 1) {
        for (int64_t i = 0; i < count; ++i) task(i);
        return;
    }
    std::exception_ptr failure;  // an exception must not leave a parallel region
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int64_t i = 0; i < count; ++i) {
        try {
            task(i);
        } catch (...) {
#pragma omp critical(lumachrome_failure)
            failure = std::current_exception();
        }
    }
    if (failure) std::rethrow_exception(failure);
}

// The same over elements: task(begin, end) on fixed chunks, large enough to be worth a thread.
template <class Task>
void parallel_chunks(const Exec& exec, int64_t count, const Task& task, int64_t chunk = 16384) {
    parallel_for(exec, (count + chunk - 1) / chunk, [&](int64_t i) {
        const int64_t end = (i + 1) * chunk;
        task(i * chunk, end < count ? end : count);
    });
}

// Call-lifetime memory of one thread: grows to a high-water mark and is reused from then on. Valid
// until the same thread asks again. A task of parallel_for may run on the thread that started it,
// so what a whole operation shares among its tasks lies in a second block.
enum class Scratch { task, operation };
template <class T, Scratch kBlock = Scratch::task>
T* scratch(int64_t count) {
    thread_local Tensor block;
    if (!block.defined() || block.bytes() < count * int64_t{sizeof(T)}) {
        block = {};
        block = Tensor::empty({count}, dtype_of<T>());
    }
    return reinterpret_cast<T*>(block.raw());
}

}  // namespace lumachrome
