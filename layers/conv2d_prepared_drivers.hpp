// What the drivers of the convolutions prepared for inference share, and their kernels.
#pragma once
#include "layers/conv2d_prepared.hpp"
#include "layers/epilogue.hpp"
#include "layers/extents.hpp"

namespace lumachrome {

using RowStep = int64_t(const PreparedConv2dProblem&);
using PackWeights = Tensor(const Exec&, const PreparedConv2dProblem&, const Tensor& w);
using RunRows = void(const Exec&, const PreparedConv2dProblem&, const Tensor& packed,
                     const float* bias, const RowBand& x, const RowBand& y);
using Objection = const char*(const PreparedConv2dProblem&);

// conv2d_prepared_direct.cpp: kernels up to 3x3, any stride and channels
extern Objection direct_reject;
extern RowStep direct_row_step;
extern PackWeights direct_pack;
extern RunRows direct_run;
// conv2d_prepared_narrow.cpp: kernels up to 3x3, few output channels
extern Objection narrow_reject, narrow_avoid;
extern RowStep narrow_row_step;
extern PackWeights narrow_pack;
extern RunRows narrow_run;
// conv2d_prepared_upsample.cpp: nine products for four outputs
extern Objection upsample_reject, upsample_avoid;
extern RowStep upsample_row_step;
extern PackWeights upsample_pack;
extern RunRows upsample_run;
// conv2d_prepared_stride2.cpp: the phases of a stride of 2 through Winograd's F(2,2) or F(4,2)
extern Objection stride2_reject, stride2_p2_avoid, stride2_p4_avoid;
extern RowStep stride2_p2_row_step, stride2_p4_row_step;
extern PackWeights stride2_p2_pack, stride2_p4_pack;
extern RunRows stride2_p2_run, stride2_p4_run;

inline Epilogue epilogue_of(const PreparedConv2dProblem& p) {
    return !p.activation                          ? Epilogue::none
           : *p.activation == Activation::sigmoid ? Epilogue::sigmoid
                                                  : Epilogue::relu;
}
// Of a pixel of y, from channel k on.
inline const float* bias_of(const PreparedConv2dProblem& p, const float* bias, int64_t row,
                            int64_t column, int64_t k) {
    return bias + k +
           (p.border_bias ? (border_case(row, p.P) * 4 + border_case(column, p.Q)) * p.K : 0);
}
// Part i of 0..size-1 cut into `parts` that differ by one at most.
inline Rows part_of(int64_t size, int64_t parts, int64_t i) {
    return {size * i / parts, size * (i + 1) / parts};
}

}  // namespace lumachrome
