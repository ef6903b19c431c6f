// Kernels whose threads share nothing: element i of the output from element i of the inputs. For
// .cu files only.
#pragma once
#include "tensor/cuda/pack.cuh"

namespace lumachrome::cuda {

// A Job is what the kernel is given by value:
//   static constexpr int kWidth     elements in one go, a multiple of 16 bytes of every tensor
//   bool aligned() const            whether all pointers are multiples of 16 bytes
//   load<width>(i) const            elements i..i+width-1 of the inputs, in registers
//   store<width>(i, loaded) const   the result of them, to memory
//
// A thread takes two packs a block's width apart, both loaded before the first is stored: twice the
// bytes under way. What is left of the last pack goes one by one, to the first threads.
constexpr int kPacksPerThread = 2;

template <class Job, int kWidth>
__global__ void __launch_bounds__(kThreads) elementwise_kernel(Job job, int64_t count) {
    const int64_t packs = count / kWidth;
    const int64_t step = int64_t{gridDim.x} * (kThreads * kPacksPerThread);
    for (int64_t i = int64_t{blockIdx.x} * (kThreads * kPacksPerThread) + threadIdx.x; i < packs;
         i += step) {
        const int64_t first = i * kWidth, second = (i + kThreads) * kWidth;
        const auto one = job.template load<kWidth>(first);
        if (i + kThreads < packs) {
            const auto two = job.template load<kWidth>(second);
            job.template store<kWidth>(first, one);
            job.template store<kWidth>(second, two);
        } else {
            job.template store<kWidth>(first, one);
        }
    }
    if constexpr (kWidth > 1) {
        const int64_t i = packs * kWidth + first_index();
        if (i < count) job.template store<1>(i, job.template load<1>(i));
    }
}

template <class Job>
void elementwise(Device device, const Job& job, int64_t count) {
    if (job.aligned())
        launch<elementwise_kernel<Job, Job::kWidth>>(
            device, blocks_for(count / Job::kWidth, kPacksPerThread), kThreads, 0, job, count);
    else
        launch<elementwise_kernel<Job, 1>>(device, blocks_for(count, kPacksPerThread), kThreads, 0,
                                           job, count);
}

}  // namespace lumachrome::cuda
