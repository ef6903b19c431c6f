// Matrix product of row-major matrices, single-threaded: c = beta * c + op(a) op(b).
// The one file that knows Eigen is gemm_cpu.cpp. Callers cut large products into pieces by the
// problem alone and run the pieces in parallel, so bits do not depend on the number of threads.
#pragma once
#include <cstdint>

namespace lumachrome {

template <class T>
struct Matrix {
    const T* data;
    int64_t rows, cols;  // as stored
    int64_t stride;      // elements from row to row
    bool transposed = false;
};

// a: [m, k] after op, b: [k, n] after op, c: [m, n] with its own row stride; beta is 0 (c is only
// written, NaN in it is harmless) or 1.
template <class T>
void gemm(Matrix<T> a, Matrix<T> b, T* c, int64_t c_stride, float beta);

}  // namespace lumachrome
