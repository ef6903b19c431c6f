// 3x3 convolution at stride 2 with 25 products where the definition has 36.
//
// Along one axis the odd and the even pixels of x (x[-1] is the pixel before the tile) are two
// convolutions at stride 1,
//   y[0] = w0 x[-1] + w2 x[1] + w1 x[0]      y[1] = w0 x[1] + w2 x[3] + w1 x[2]
// and the one of two taps needs three products for two outputs instead of four:
//   y[0] = w0 (x[-1] - x[1]) + w1 x[0] + (w0 + w2) x[1]
//   y[1] = w2 (x[3]  - x[1]) + w1 x[2] + (w0 + w2) x[1]
// Five products instead of six, and both axes together 25 instead of 36. All factors are 0 and
// +-1: small integers come out exactly, and the rounding is that of the plain sums.
//
// Backward is alike, with y for dy:
//   dx[0] = w1 y[0]   dx[1] = w2 (y[0] - y[1]) + (w0 + w2) y[1]
//   dx[2] = w1 y[1]   dx[3] = w0 (y[2] - y[1]) + (w0 + w2) y[1]
//   dw0 = u0 + us   dw1 = u1   dw2 = u2 + us, with sums over all tiles of
//   u0 = (x[-1] - x[1]) y[0]   u1 = x[0] y[0] + x[2] y[1]   us = x[1] (y[0] + y[1])
//   u2 = (x[3] - x[1]) y[1]
#pragma once
#include "layers/conv2d.hpp"

namespace lumachrome {

// Why it cannot, and why it should not; null: no reason.
const char* stride2_reject(const Conv2dProblem& p);
const char* stride2_avoid(const Conv2dProblem& p);

void forward_stride2(const Exec& exec, const Conv2dProblem& p, const Tensor& x, const Tensor& w,
                     const Tensor& b, const Tensor& y);
void grad_input_stride2(const Exec& exec, const Conv2dProblem& p, const Tensor& dy, const Tensor& w,
                        const GradIn& dx);
void grad_weight_stride2(const Exec& exec, const Conv2dProblem& p, const Tensor& x,
                         const Tensor& dy, const GradIn& dw);

}  // namespace lumachrome
