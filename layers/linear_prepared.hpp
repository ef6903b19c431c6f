// A fully connected layer prepared for inference on one photo. It reads each weight once, so memory
// sets its pace: weights are kept in 16 bits, as whole numbers with a scale for each row.
//
//   y(o) = b(o) + scale(o) sum_i q(o,i) x(i),   scale(o) = max_i |w(o,i)| / 32767
//
// A weight is off by at most 1/65534 of the largest of its row: some thirty times less than f16
// leaves of that one.
#pragma once
#include "tensor/exec.hpp"

namespace lumachrome {

class PreparedLinear {
  public:
    // w [O,I] f32, finite.
    PreparedLinear(const Exec& exec, const Tensor& w);
    // Why these weights stay as they are, or null.
    static const char* reject(const Tensor& w);

    int64_t products() const { return outputs_ * inputs_; }
    int64_t bytes() const { return cells_.bytes() + scale_.bytes(); }
    // x [I], b [O], y [O]
    void run(const Exec& exec, const float* x, const float* b, float* y) const;

  private:
    int64_t outputs_, inputs_, stride_;  // int16 cells from row to row
    Tensor cells_;                       // [O, stride / 2], two cells each
    Tensor scale_;                       // [O]
};

}  // namespace lumachrome
