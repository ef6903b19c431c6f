// A convolution prepared for inference. Weights no longer change, so they are packed once; bias,
// activation and a nearest upsampling in front of it belong to the same pass over memory; and
// output rows come in bands, so that a photo of any height needs only a few rows of each map.
//
//   y = activation(b + w * x)  or, with `upsample`,  activation(b + w * upsample(x))    paper,
//   Table 1
//
// Maps hold one photo: x [H,W,C], y [P,Q,K]. Bits do not depend on how the rows are cut into bands
// as long as bands begin at multiples of row_step.
#pragma once
#include <optional>

#include "layers/activation.hpp"
#include "layers/fusion.hpp"

namespace lumachrome {

struct PreparedConv2dProblem {
    Conv2dSpec spec;
    bool upsample = false;  // x is doubled, nearest neighbour, before the convolution reads it
    int64_t H, W, C;        // of x, before doubling
    int64_t P, Q, K;        // of y
    std::optional<Activation> activation;
    // The bias is [16,K] instead of [K], by border case: the global half of the fusion layer.
    bool border_bias = false;
    int64_t input_height() const { return upsample ? 2 * H : H; }
    int64_t input_width() const { return upsample ? 2 * W : W; }
    // Rows of x that the output rows need, clipped to the map.
    Rows input_rows(Rows out) const;
    std::string str() const;  // "112x112x64 -> 112x112x128, 3x3 stride 1, relu"
};
// Throws ShapeError unless x is [1,H,W,C] and w [K,R,R,C].
PreparedConv2dProblem prepared_problem(const Conv2dSpec& spec, const Shape& x, const Shape& w,
                                       bool upsample);

// Rows [begin, end) of a map, one after another in memory.
struct RowBand {
    float* data;
    Rows rows;
};

struct PreparedConv2dKernel {
    // Bands of y begin at multiples of this, and end there or at the last row.
    int64_t (*row_step)(const PreparedConv2dProblem&);
    // w [K,R,R,C] f32 in whatever form `run` wants it.
    Tensor (*pack)(const Exec&, const PreparedConv2dProblem&, const Tensor& w);
    // Computes the rows of `y`; `x` holds at least the rows that they need. No allocation once
    // scratch has grown.
    void (*run)(const Exec&, const PreparedConv2dProblem&, const Tensor& packed, const float* bias,
                const RowBand& x, const RowBand& y);
    double products = 1;  // multiplications it makes for each of the definition's
};
using PreparedConv2dImpl = Implementation<PreparedConv2dProblem, PreparedConv2dKernel>;
// Named conv2d_prepared in LUMACHROME_FORCE; best first, `naive` last.
std::span<const PreparedConv2dImpl> conv2d_prepared_cpu();

}  // namespace lumachrome
