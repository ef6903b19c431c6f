// A fully connected layer prepared for inference on a GPU. With few photos it reads each weight for
// a product or two, so memory sets its pace.
//
//   y(n,o) = activation(b(o) + sum_i w(o,i) x(n,i))
//
//   x [N,I] f32 or bf16   w [O,I]   b [O] f32   y [N,O] f32
//
// The global half of the fusion layer is one, too: see fusion_as_linear.
#pragma once
#include <optional>

#include "layers/activation.hpp"
#include "tensor/choose.hpp"

namespace lumachrome {

struct PreparedLinearGpuProblem {
    int64_t N, I, O;
    DType in = DType::f32, weights = DType::f32;  // f32 or bf16; of x, and what w is kept in
    std::optional<Activation> activation = {};
    std::string str() const;  // "8 of 25088 -> 1024, relu, bf16"
};

struct PreparedLinearGpuKernel {
    // w [O,I] f32 on the CPU, on the GPU as `run` wants it; the form does not depend on N.
    Tensor (*pack)(const Exec&, const PreparedLinearGpuProblem&, const Tensor& w);
    void (*run)(const Exec&, const PreparedLinearGpuProblem&, const Tensor& x, const Tensor& packed,
                const Tensor& bias, const Tensor& y);
};
using PreparedLinearGpuImpl = Implementation<PreparedLinearGpuProblem, PreparedLinearGpuKernel>;
// Named linear_prepared in LUMACHROME_FORCE.
std::span<const PreparedLinearGpuImpl> linear_prepared_cuda();

// w [O, C*H*W] as the layer behind flatten has it, for x that lies as the map [H,W,C] does.
Tensor columns_of_map(const Tensor& w, const Shape& map);

// The 16 border biases of the fusion layer (layers/fusion.hpp) as outputs of one layer:
// bias(case,k) = b(k) + sum_c g(c) times the sum of w(k,r,s,M+c) over the taps inside the image.
inline constexpr int64_t kBorderCases = 16;
Tensor fusion_as_linear(const Tensor& w, int64_t local_channels);  // [16 K, G]
Tensor for_border_cases(const Tensor& b);                          // [16 K]

}  // namespace lumachrome
