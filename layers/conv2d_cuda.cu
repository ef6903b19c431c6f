#include "layers/conv2d_naive_cuda.hpp"
#include "layers/conv2d_narrow_cuda.hpp"
#include "tensor/cuda/launch.cuh"

namespace lumachrome {
namespace {

using cuda::Wider;

// A thread per column of dy [rows, K].
template <class T>
__global__ void grad_bias_kernel(const T* dy, Wider<T>* db, int64_t rows, int64_t K, float beta) {
    for (int64_t k = cuda::first_index(); k < K; k += cuda::index_step()) {
        Wider<T> sum = beta == 0 ? 0 : db[k];
        for (int64_t i = 0; i < rows; ++i) sum += static_cast<Wider<T>>(dy[i * K + k]);
        db[k] = sum;
    }
}

void grad_bias(const Exec& exec, const Tensor& dy, const GradIn& db) {
    cuda::dispatch_activations(dy.dtype(), [&](auto t) {
        using T = decltype(t);
        const int64_t K = dy.shape().back();
        cuda::launch<grad_bias_kernel<T>>(exec.device, cuda::blocks_for(K), cuda::kThreads, 0,
                                          dy.data<T>(), db.grad.data<Wider<T>>(), dy.shape().rows(),
                                          K, db.beta);
    });
}

constexpr GradBiasImpl kGradBias[] = {{"naive", accepts_all, {grad_bias}}};

}  // namespace

std::span<const Conv2dImpl> conv2d_cuda() {
    static const Conv2dImpl list[] = {
        {"narrow",
         reject_narrow,
         {conv2d_forward_narrow_cuda, conv2d_grad_input_narrow_cuda,
          conv2d_grad_weight_narrow_cuda}},
        {"naive", accepts_all, kConv2dNaiveCuda}};
    return list;
}

std::span<const GradBiasImpl> grad_bias_cuda() {
    return kGradBias;
}

}  // namespace lumachrome
