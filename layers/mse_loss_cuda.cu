#include <algorithm>

#include "layers/mse_loss.hpp"
#include "tensor/cuda/pack.cuh"
#include "tensor/cuda/reduce.cuh"

namespace lumachrome {
namespace {

constexpr int64_t kBlocks = 512;  // at most: so many partial sums one block adds at once

// Sum of squares in two stages: partial [gridDim.x], of each block; then one block adds these.
template <class T, int kCount>
__global__ void squares_kernel(const T* y, const T* target, int64_t packs, double* partial) {
    double sum = 0;
    for (int64_t i = cuda::first_index(); i < packs; i += cuda::index_step()) {
        T a[kCount], b[kCount];
        cuda::load<kCount>(y + i * kCount, a);
        cuda::load<kCount>(target + i * kCount, b);
#pragma unroll
        for (int k = 0; k < kCount; ++k) {
            const double difference = static_cast<double>(a[k]) - static_cast<double>(b[k]);
            sum += difference * difference;
        }
    }
    sum = cuda::block_sum(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

template <class T>
__global__ void mean_kernel(const double* partial, int64_t blocks, double count, T* loss) {
    double sum = 0;
    for (int64_t i = threadIdx.x; i < blocks; i += blockDim.x) sum += partial[i];
    sum = cuda::block_sum(sum);
    if (threadIdx.x == 0) *loss = static_cast<T>(sum / count);
}

template <class T, int kCount>
__global__ void backward_kernel(const T* y, const T* target, int64_t packs, double scale,
                                const T* dloss, T* grad, float beta) {
    const T factor = static_cast<T>(scale * static_cast<double>(*dloss));
    for (int64_t i = cuda::first_index(); i < packs; i += cuda::index_step()) {
        T a[kCount], b[kCount], out[kCount] = {};
        cuda::load<kCount>(y + i * kCount, a);
        cuda::load<kCount>(target + i * kCount, b);
        if (beta != 0) cuda::load<kCount>(grad + i * kCount, out);
#pragma unroll
        for (int k = 0; k < kCount; ++k) out[k] += factor * (a[k] - b[k]);
        cuda::store<kCount>(grad + i * kCount, out);
    }
}

// f(type tag, elements of an access as a constant): the whole tensor is one row.
template <class F, class... Tensors>
void dispatch(const F& f, const Tensor& y, const Tensors&... others) {
    dispatch_float(y.dtype(), [&](auto t) {
        if (cuda::packs(y.numel(), y, others...))
            f(t, std::integral_constant<int, cuda::kPackOf<decltype(t)>>{});
        else
            f(t, std::integral_constant<int, 1>{});
    });
}

void forward(const Exec& exec, const Tensor& y, const Tensor& target, const Tensor& loss) {
    dispatch(
        [&](auto t, auto count) {
            using T = decltype(t);
            const int64_t packs = y.numel() / count;
            const int64_t blocks = std::min(kBlocks, cuda::ceil_div(packs, cuda::kThreads));
            const Tensor partial = Tensor::empty({blocks}, DType::f64, exec.device);
            cuda::launch<squares_kernel<T, count>>(exec.device, dim3(static_cast<unsigned>(blocks)),
                                                   cuda::kThreads, 0, y.data<T>(), target.data<T>(),
                                                   packs, partial.data<double>());
            cuda::launch<mean_kernel<T>>(exec.device, 1, cuda::kThreads, 0, partial.data<double>(),
                                         blocks, static_cast<double>(y.numel()), loss.data<T>());
        },
        y, target);
}

void backward(const Exec& exec, double sign, const Tensor& y, const Tensor& target,
              const Tensor& dloss, const GradIn& grad) {
    dispatch(
        [&](auto t, auto count) {
            using T = decltype(t);
            const int64_t packs = y.numel() / count;
            cuda::launch<backward_kernel<T, count>>(
                exec.device, cuda::blocks_for(packs), cuda::kThreads, 0, y.data<T>(),
                target.data<T>(), packs, sign * 2 / static_cast<double>(y.numel()), dloss.data<T>(),
                grad.grad.data<T>(), grad.beta);
        },
        y, target, grad.grad);
}

constexpr MseLossImpl kImplementations[] = {{"two_stages", accepts_all, {forward, backward}}};

}  // namespace

std::span<const MseLossImpl> mse_loss_cuda() {
    return kImplementations;
}

}  // namespace lumachrome
