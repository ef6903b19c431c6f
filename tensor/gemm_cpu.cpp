#define EIGEN_DONT_PARALLELIZE
#include "tensor/gemm.hpp"

#include <Eigen/Core>

namespace lumachrome {
namespace {

template <class T>
using RowMajor = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
using Strided = Eigen::Map<const RowMajor<T>, 0, Eigen::OuterStride<>>;

template <class C, class A, class B>
void product(C& c, const A& a, const B& b, float beta) {
    if (beta == 0)
        c.noalias() = a * b;
    else
        c.noalias() += a * b;
}

}  // namespace

template <class T>
void gemm(Matrix<T> a, Matrix<T> b, T* c, int64_t c_stride, float beta) {
    const Strided<T> ma(a.data, a.rows, a.cols, Eigen::OuterStride<>(a.stride));
    const Strided<T> mb(b.data, b.rows, b.cols, Eigen::OuterStride<>(b.stride));
    const int64_t m = a.transposed ? a.cols : a.rows;
    const int64_t n = b.transposed ? b.rows : b.cols;
    Eigen::Map<RowMajor<T>, 0, Eigen::OuterStride<>> mc(c, m, n, Eigen::OuterStride<>(c_stride));
    if (a.transposed && b.transposed)
        product(mc, ma.transpose(), mb.transpose(), beta);
    else if (a.transposed)
        product(mc, ma.transpose(), mb, beta);
    else if (b.transposed)
        product(mc, ma, mb.transpose(), beta);
    else
        product(mc, ma, mb, beta);
}

template void gemm<float>(Matrix<float>, Matrix<float>, float*, int64_t, float);
template void gemm<double>(Matrix<double>, Matrix<double>, double*, int64_t, float);

}  // namespace lumachrome
