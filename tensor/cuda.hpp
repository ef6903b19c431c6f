// The GPU as the rest of the program sees it, without a type of the CUDA Toolkit. A build without
// the toolkit links cuda_missing.cpp instead of cuda/*.cu: then unavailable() says so and nothing
// else is ever called.
//
// All work of one GPU goes through one stream: kernels and copies run in the order in which they
// were started, without the CPU waiting for them. Reading a result (copy to the CPU, item) waits.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "tensor/device.hpp"

namespace lumachrome {

class Tensor;

namespace cuda {

struct Properties {
    std::string name;          // "NVIDIA H200"
    int major = 0, minor = 0;  // compute capability
    int multiprocessors = 0;
    int64_t bytes = 0, l2_bytes = 0, shared_bytes = 0;  // shared: that one block can have
};

// Why no GPU can be used, in a sentence without its full stop; empty: one can.
const std::string& unavailable();
int device_count();  // 0 where there is none
const Properties& properties(int index);
std::string versions();  // of the toolkit and the driver; empty in a build without

// For tensor/storage.cpp. Null: no room.
std::byte* take_segment(int index, int64_t bytes);
void give_back_segment(int index, std::byte* segment);

// Contiguous bytes from one device to another, either may be the CPU.
void copy(std::byte* to, Device to_device, const std::byte* from, Device from_device,
          int64_t bytes);
// Page-locked memory of the CPU, which a GPU reads and writes while the CPU goes on.
std::byte* take_pinned(int64_t bytes);
void give_back_pinned(std::byte* memory);
void synchronize(Device device);  // waits for all work started so far

void fill(const Tensor& tensor, double value);
void add(const Tensor& tensor, double value);
void convert(const Tensor& to, const Tensor& from);  // same shape, any two of f32, f64, bf16
bool all_finite(const Tensor& tensor);

}  // namespace cuda
}  // namespace lumachrome
