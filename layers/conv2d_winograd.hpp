// 3x3 convolution at stride 1 with 36 products where the definition has 144: Winograd's F(4x4,3x3).
//
//   y = A^T [ (G w G^T) . (B^T x B) ] A      for each 4x4 tile of y and the 6x6 of x that it reads
//
// Along one axis: evaluate x and w as polynomials at 0, +-1/sqrt2, +-sqrt2 and infinity, multiply,
// interpolate (Lavin and Gray 2015; these points round four times less than 0, +-1, +-2). Sums over
// channels become a matrix product for each of the 36 frequencies. Backward is the chain rule:
//   dx: the same with the kernel turned by 180 degrees, C and K exchanged
//   dw = G^T [ sum over tiles of (B^T x B) (A dy A^T) ] G
// Its rounding is a few times that of sums in order, and one NaN or infinity in x spoils its tile.
#pragma once
#include "layers/conv2d.hpp"

namespace lumachrome {

// Why it cannot, and why it should not; null: no reason.
const char* winograd_reject(const Conv2dProblem& p);
const char* winograd_avoid(const Conv2dProblem& p);

void forward_winograd(const Exec& exec, const Conv2dProblem& p, const Tensor& x, const Tensor& w,
                      const Tensor& b, const Tensor& y);
void grad_input_winograd(const Exec& exec, const Conv2dProblem& p, const Tensor& dy,
                         const Tensor& w, const GradIn& dx);
void grad_weight_winograd(const Exec& exec, const Conv2dProblem& p, const Tensor& x,
                          const Tensor& dy, const GradIn& dw);

}  // namespace lumachrome
