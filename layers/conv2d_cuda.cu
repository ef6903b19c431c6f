// The list of convolutions on a GPU, and the gradient of their bias.
#include "layers/conv2d_mma_cuda.hpp"
#include "layers/conv2d_naive_cuda.hpp"
#include "layers/conv2d_narrow_cuda.hpp"
#include "layers/conv2d_tiled_cuda.hpp"
#include "layers/conv2d_wgmma.hpp"
#include "tensor/cuda/launch.cuh"

namespace lumachrome {
namespace {

using cuda::ceil_div;
using cuda::Wider;

// Column sums of dy [rows, K] in two steps. A block of 256 threads takes a slab of rows and up to
// 32 chunks of kWidth columns: x = chunk, y = row within the slab. Each thread adds up the rows it
// meets in registers, in f32 (f64 for f64): a few hundred at most. From there on sums are f64:
// those of a block, through shared memory, and those of all blocks, by the second kernel. The cut
// depends on the shape alone.
constexpr int kSumThreads = 256, kMaxSlabs = 512;

template <class T, int kWidth>
struct alignas(sizeof(T) * kWidth) Chunk {
    T at[kWidth];
};

template <class T, int kWidth>
__global__ void column_sums_kernel(const T* dy, double* partial, int64_t rows, int64_t K,
                                   int64_t rows_per_slab) {
    __shared__ double shared[kSumThreads][kWidth];
    const int64_t k = (int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * kWidth;
    Wider<T> sums[kWidth] = {};
    if (k < K) {
        const int64_t begin = blockIdx.x * rows_per_slab;
        const int64_t end = min(begin + rows_per_slab, rows);
#pragma unroll 4
        for (int64_t i = begin + threadIdx.y; i < end; i += blockDim.y) {
            const auto chunk = *reinterpret_cast<const Chunk<T, kWidth>*>(dy + i * K + k);
#pragma unroll
            for (int c = 0; c < kWidth; ++c) sums[c] += static_cast<Wider<T>>(chunk.at[c]);
        }
    }
    const int thread = threadIdx.y * blockDim.x + threadIdx.x;
#pragma unroll
    for (int c = 0; c < kWidth; ++c) shared[thread][c] = sums[c];
    for (unsigned half = blockDim.y / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.y < half)
#pragma unroll
            for (int c = 0; c < kWidth; ++c)
                shared[thread][c] += shared[thread + half * blockDim.x][c];
    }
    if (threadIdx.y == 0 && k < K)
#pragma unroll
        for (int c = 0; c < kWidth; ++c) partial[blockIdx.x * K + k + c] = shared[thread][c];
}

// A warp per column.
template <class P>
__global__ void add_slabs_kernel(const double* partial, P* db, int64_t K, int slabs, float beta) {
    const int64_t k = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / 32;
    if (k >= K) return;
    const int lane = threadIdx.x % 32;
    double sum = 0;
    for (int s = lane; s < slabs; s += 32) sum += partial[s * K + k];
    for (int bits = 16; bits > 0; bits /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, bits);
    if (lane == 0) db[k] = static_cast<P>(beta == 0 ? sum : sum + static_cast<double>(db[k]));
}

template <class T, int kWidth>
void sum_columns(const Exec& exec, const Tensor& dy, const GradIn& db) {
    const int64_t K = dy.shape().back(), rows = dy.shape().rows(), chunks = ceil_div(K, kWidth);
    unsigned across = 1;
    while (across < 32 && across < chunks) across *= 2;
    const unsigned down = kSumThreads / across;
    const int64_t rows_per_slab =
        std::max(ceil_div(rows, kMaxSlabs), std::min<int64_t>(rows, 4 * int64_t{down}));
    const int64_t slabs = ceil_div(rows, rows_per_slab);
    const Tensor partial = Tensor::empty({slabs, K}, DType::f64, exec.device);
    const dim3 grid(static_cast<unsigned>(slabs), static_cast<unsigned>(ceil_div(chunks, across)));
    cuda::launch<column_sums_kernel<T, kWidth>>(exec.device, grid, dim3(across, down), 0,
                                                dy.data<T>(), partial.data<double>(), rows, K,
                                                rows_per_slab);
    cuda::launch<add_slabs_kernel<Wider<T>>>(
        exec.device, dim3(static_cast<unsigned>(ceil_div(K * 32, kSumThreads))), kSumThreads, 0,
        partial.data<double>(), db.grad.data<Wider<T>>(), K, static_cast<int>(slabs), db.beta);
}

void grad_bias(const Exec& exec, const Tensor& dy, const GradIn& db) {
    cuda::dispatch_activations(dy.dtype(), [&](auto t) {
        using T = decltype(t);
        constexpr int kWidth = 16 / sizeof(T);
        if (dy.shape().back() % kWidth == 0 && reinterpret_cast<uintptr_t>(dy.raw()) % 16 == 0)
            sum_columns<T, kWidth>(exec, dy, db);
        else
            sum_columns<T, 1>(exec, dy, db);
    });
}

constexpr GradBiasImpl kGradBias[] = {{"slabs", accepts_all, {grad_bias}}};

}  // namespace

std::span<const Conv2dImpl> conv2d_cuda() {
    static const Conv2dImpl list[] = {
        {"narrow",
         reject_narrow,
         {conv2d_forward_narrow_cuda, conv2d_grad_input_narrow_cuda,
          conv2d_grad_weight_narrow_cuda}},
        {"wgmma",
         reject_wgmma,
         {conv2d_forward_wgmma, conv2d_grad_input_wgmma, conv2d_grad_weight_wgmma}},
        {"mma", reject_conv2d_mma, kConv2dMmaCuda},
        {"tiled", accepts_all, kConv2dTiledCuda},
        {"naive", accepts_all, kConv2dNaiveCuda}};
    return list;
}

std::span<const GradBiasImpl> grad_bias_cuda() {
    return kGradBias;
}

}  // namespace lumachrome
