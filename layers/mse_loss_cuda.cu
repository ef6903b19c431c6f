#include <algorithm>

#include "layers/mse_loss.hpp"
#include "tensor/cuda/pack.cuh"
#include "tensor/cuda/reduce.cuh"

namespace lumachrome {
namespace {

constexpr int64_t kBlocks = 512;  // at most: so many partial sums one block adds at once

template <class T>
__device__ T weight(T chroma_weight, T target) {
    const T strength = 2 * target - 1;
    return 1 + chroma_weight * (strength < 0 ? -strength : strength);
}

// Weighted sum of squares in two stages: partial [gridDim.x], of each block; then one block adds
// these.
template <class T, int kCount>
__global__ void squares_kernel(const T* y, const T* target, int64_t packs, double chroma_weight,
                               double* partial) {
    double sum = 0;
    for (int64_t i = cuda::first_index(); i < packs; i += cuda::index_step()) {
        T a[kCount], b[kCount];
        cuda::load<kCount>(y + i * kCount, a);
        cuda::load<kCount>(target + i * kCount, b);
#pragma unroll
        for (int k = 0; k < kCount; ++k) {
            const double target_k = static_cast<double>(b[k]);
            const double difference = static_cast<double>(a[k]) - target_k;
            sum += weight(chroma_weight, target_k) * difference * difference;
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
                                double chroma_weight, const T* dloss, T* grad, float beta) {
    const T factor = static_cast<T>(scale * static_cast<double>(*dloss));
    const T k_weight = static_cast<T>(chroma_weight);
    for (int64_t i = cuda::first_index(); i < packs; i += cuda::index_step()) {
        T a[kCount], b[kCount], out[kCount] = {};
        cuda::load<kCount>(y + i * kCount, a);
        cuda::load<kCount>(target + i * kCount, b);
        if (beta != 0) cuda::load<kCount>(grad + i * kCount, out);
#pragma unroll
        for (int k = 0; k < kCount; ++k) out[k] += factor * weight(k_weight, b[k]) * (a[k] - b[k]);
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

void forward(const Exec& exec, double chroma_weight, const Tensor& y, const Tensor& target,
             const Tensor& loss) {
    dispatch(
        [&](auto t, auto count) {
            using T = decltype(t);
            const int64_t packs = y.numel() / count;
            const int64_t blocks = std::min(kBlocks, cuda::ceil_div(packs, cuda::kThreads));
            const Tensor partial = Tensor::empty({blocks}, DType::f64, exec.device);
            cuda::launch<squares_kernel<T, count>>(exec.device, dim3(static_cast<unsigned>(blocks)),
                                                   cuda::kThreads, 0, y.data<T>(), target.data<T>(),
                                                   packs, chroma_weight, partial.data<double>());
            cuda::launch<mean_kernel<T>>(exec.device, 1, cuda::kThreads, 0, partial.data<double>(),
                                         blocks, static_cast<double>(y.numel()), loss.data<T>());
        },
        y, target);
}

void backward(const Exec& exec, double chroma_weight, const Tensor& y, const Tensor& target,
              const Tensor& dloss, const GradIn& dy) {
    dispatch(
        [&](auto t, auto count) {
            using T = decltype(t);
            const int64_t packs = y.numel() / count;
            cuda::launch<backward_kernel<T, count>>(
                exec.device, cuda::blocks_for(packs), cuda::kThreads, 0, y.data<T>(),
                target.data<T>(), packs, 2 / static_cast<double>(y.numel()), chroma_weight,
                dloss.data<T>(), dy.grad.data<T>(), dy.beta);
        },
        y, target, dy.grad);
}

constexpr MseLossImpl kImplementations[] = {{"two_stages", accepts_all, {forward, backward}}};

}  // namespace

std::span<const MseLossImpl> mse_loss_cuda() {
    return kImplementations;
}

}  // namespace lumachrome
