// Convolutions with very few channels on one side: the first layer (C = 1) and the last (K = 2).
// Rows of im2col would be most of the work where they are long, and a product of two columns wastes
// the registers. So taps and channels of the narrow side together are one axis:
//
//   narrow side: x if C is small, else y; F channels      wide side: the other; D channels
//   column(i) [R*S*F]: what the taps of wide pixel i see on the narrow side, 0 outside
//
//   wide = column w      narrow(j) = sum of (wide w^T) over the pixels and taps that see j
//   dw = sum of column^T wide
#pragma once
#include "layers/conv2d.hpp"

namespace lumachrome {

const char* narrow_reject(const Conv2dProblem& p);  // why it cannot; null: it can

void forward_narrow(const Exec& exec, const Conv2dProblem& p, const Tensor& x, const Tensor& w,
                    const Tensor& b, const Tensor& y);
void grad_input_narrow(const Exec& exec, const Conv2dProblem& p, const Tensor& dy, const Tensor& w,
                       const GradIn& dx);
void grad_weight_narrow(const Exec& exec, const Conv2dProblem& p, const Tensor& x, const Tensor& dy,
                        const GradIn& dw);

}  // namespace lumachrome
