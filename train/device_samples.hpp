// What kernels make of photos that lie on a GPU: the samples of augment.hpp, and what the network
// is fed. Nothing here waits.
#pragma once
#include "tensor/exec.hpp"
#include "train/augment.hpp"

namespace lumachrome::cuda {

// A photo in memory of the device, rows without gaps, and what becomes of it.
struct SampleSource {
    const std::byte* pixels;
    int64_t width;
    int32_t channels, bits;
    Crop crop;
};

// Linear light of 8-bit and of 16-bit samples, on the device.
struct LinearTables {
    Tensor of_8_bits, of_16_bits;
    explicit LinearTables(Device device);
};

// As augment() makes them: luma [N,S,S,1] and ab [N,S/2,S/2,2], f32, from `sources`, N of them in
// memory of the device. near_gray: N ints there, 1 where Sample::near_gray would be true.
//
// Equal to the CPU's within rounding (1e-5), not in every bit: a GPU fuses multiplications and
// additions where the CPU's compiler may not, and adds up the spread of colours in another order.
void make_samples(Device device, const SampleSource* sources, const AugmentSpec& spec,
                  const LinearTables& tables, const Tensor& luma, const Tensor& ab,
                  int32_t* near_gray);

// out = luma - mean at the size of `out`, in its type: luma [N,S,S,1] f32, out [N,G,G,1], resized
// as resize.hpp does where G differs from S.
void network_input(Device device, const Tensor& luma, double mean, const Tensor& out);

}  // namespace lumachrome::cuda
