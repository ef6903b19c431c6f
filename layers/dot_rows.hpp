// Sums of products of rows of 16-bit whole numbers with one vector.
#pragma once
#include <cstdint>

#include "tensor/isa.hpp"

namespace lumachrome {

inline constexpr int64_t kDotRowsPadding = 64;  // rows are multiples of this long

struct DotRows {
    // sums[r] = sum over i < length of w[r * stride + i] x[i]
    void (*sums)(const int16_t* w, int64_t stride, const float* x, int64_t length, int64_t rows,
                 float* sums);
};
LUMACHROME_PER_ISA(DotRows, dot_rows)
inline const DotRows& dot_rows() {
    return dot_rows_for(isa());
}

}  // namespace lumachrome
