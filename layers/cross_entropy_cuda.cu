#include <limits>

#include "layers/cross_entropy.hpp"
#include "tensor/cuda/reduce.cuh"

namespace lumachrome {
namespace {

// A batch of logits is small: one warp per sample, in double, which costs nothing here.
constexpr int kWarps = 4;

// Of one sample, in every lane of its warp.
struct Softmax {
    double largest, sum;  // softmax(c) = exp(z[c] - largest) / sum
};
template <class T>
__device__ Softmax softmax(const T* z, int64_t classes, unsigned lane) {
    double largest = z[0];
    for (int64_t c = lane; c < classes; c += 32)
        if (z[c] > largest) largest = z[c];
    largest = cuda::warp_max(largest);
    double sum = 0;
    for (int64_t c = lane; c < classes; c += 32)
        sum += std::exp(static_cast<double>(z[c]) - largest);
    return {largest, cuda::warp_sum(sum)};
}

__device__ int64_t sample_of_warp() {
    return int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
}

// losses [N]: of each sample; 0 for the unlabelled.
template <class T>
__global__ void sample_losses(const float* labels, const T* z, int64_t N, int64_t classes,
                              double* losses) {
    const int64_t n = sample_of_warp();
    if (n >= N) return;
    const unsigned lane = threadIdx.x % 32;
    const auto label = static_cast<int64_t>(labels[n]);
    const T* const row = z + n * classes;
    const Softmax s = softmax(row, classes, lane);
    if (lane != 0) return;
    if (label < 0)
        losses[n] = 0;
    else
        losses[n] = label < classes ? std::log(s.sum) + s.largest - static_cast<double>(row[label])
                                    : std::numeric_limits<double>::quiet_NaN();
}

// Means over the labelled, by one block.
template <class T>
__global__ void mean_loss(const float* labels, const double* losses, int64_t N, T* loss) {
    double sum = 0, labelled = 0;
    for (int64_t n = threadIdx.x; n < N; n += blockDim.x) {
        sum += losses[n];
        labelled += labels[n] >= 0;
    }
    sum = cuda::block_sum(sum);
    labelled = cuda::block_sum(labelled);
    if (threadIdx.x == 0) *loss = static_cast<T>(labelled > 0 ? sum / labelled : 0);
}

// Every warp counts the labels again: a few hundred numbers.
template <class T>
__global__ void backward_kernel(const float* labels, const T* z, int64_t N, int64_t classes,
                                const T* dloss, T* dz, float beta) {
    const int64_t n = sample_of_warp();
    if (n >= N) return;
    const unsigned lane = threadIdx.x % 32;
    double labelled = 0;
    for (int64_t i = lane; i < N; i += 32) labelled += labels[i] >= 0;
    labelled = cuda::warp_sum(labelled);
    const auto label = static_cast<int64_t>(labels[n]);
    const T* const row = z + n * classes;
    const Softmax s = softmax(row, classes, lane);
    const double factor = label < 0 ? 0 : static_cast<double>(*dloss) / labelled;
    for (int64_t c = lane; c < classes; c += 32) {
        T& out = dz[n * classes + c];
        const T before = beta == 0 ? T{0} : out;
        const double p = std::exp(static_cast<double>(row[c]) - s.largest) / s.sum;
        const double value = label < 0 ? 0 : factor * (p - (c == label ? 1 : 0));
        out = before + static_cast<T>(value);
    }
}

dim3 blocks(const Tensor& z) {
    return dim3(static_cast<unsigned>(cuda::ceil_div(z.shape()[0], kWarps)));
}

void forward(const Exec& exec, const Labels&, const Tensor& labels, const Tensor& z,
             const Tensor& loss) {
    const int64_t N = z.shape()[0];
    const Tensor losses = Tensor::empty({N}, DType::f64, exec.device);
    dispatch_float(z.dtype(), [&](auto t) {
        using T = decltype(t);
        cuda::launch<sample_losses<T>>(exec.device, blocks(z), 32 * kWarps, 0, labels.data<float>(),
                                       z.data<T>(), N, z.shape()[1], losses.data<double>());
        cuda::launch<mean_loss<T>>(exec.device, 1, cuda::kThreads, 0, labels.data<float>(),
                                   losses.data<double>(), N, loss.data<T>());
    });
}

void backward(const Exec& exec, const Labels&, const Tensor& labels, const Tensor& z,
              const Tensor& dloss, const GradIn& dz) {
    dispatch_float(z.dtype(), [&](auto t) {
        using T = decltype(t);
        cuda::launch<backward_kernel<T>>(exec.device, blocks(z), 32 * kWarps, 0,
                                         labels.data<float>(), z.data<T>(), z.shape()[0],
                                         z.shape()[1], dloss.data<T>(), dz.grad.data<T>(), dz.beta);
    });
}

constexpr CrossEntropyImpl kImplementations[] = {{"warps", accepts_all, {forward, backward}}};

}  // namespace

std::span<const CrossEntropyImpl> cross_entropy_cuda() {
    return kImplementations;
}

}  // namespace lumachrome
