#include "layers/flatten.hpp"
#include "tensor/cuda/launch.cuh"

namespace lumachrome {
namespace {

using cuda::Wider;

// In every sample a matrix in [A,B] becomes its transpose out [B,A]: forward with A = H*W and B =
// C, backward the other way round. A block moves 64x64 elements through shared memory, so that 64
// neighbours lie behind one another in memory on both sides (128 bytes of bf16). Its rows are an
// odd number of banks long: a column is read without conflicts.
constexpr int kTile = 64, kRows = cuda::kThreads / kTile;

template <class T>
__global__ void __launch_bounds__(cuda::kThreads)
    transpose_kernel(const T* in, T* out, int A, int B, bool add) {
    constexpr int kPad = sizeof(T) < 4 ? 2 : 1;
    __shared__ T tile[kTile][kTile + kPad];
    const unsigned tiles_a = (A + kTile - 1) / kTile, tiles_b = (B + kTile - 1) / kTile;
    const unsigned sample = blockIdx.x / (tiles_a * tiles_b),
                   rest = blockIdx.x % (tiles_a * tiles_b);
    const int a0 = static_cast<int>(rest / tiles_b) * kTile;
    const int b0 = static_cast<int>(rest % tiles_b) * kTile;
    const int64_t first = int64_t{sample} * A * B;
    const int column = static_cast<int>(threadIdx.x) % kTile;
    const int row = static_cast<int>(threadIdx.x) / kTile;

#pragma unroll 4
    for (int a = row; a < kTile; a += kRows)
        if (a0 + a < A && b0 + column < B)
            tile[a][column] = in[first + int64_t{a0 + a} * B + b0 + column];
    __syncthreads();
    const int a = column;
    if (a0 + a >= A) return;
#pragma unroll 4
    for (int b = row; b < kTile && b0 + b < B; b += kRows) {
        T& to = out[first + int64_t{b0 + b} * A + a0 + a];
        to = add ? static_cast<T>(static_cast<Wider<T>>(to) + static_cast<Wider<T>>(tile[a][b]))
                 : tile[a][b];
    }
}

void transpose(const Exec& exec, const Tensor& in, const Tensor& out, int64_t N, int64_t A,
               int64_t B, bool add) {
    const int64_t tiles = cuda::ceil_div(A, kTile) * cuda::ceil_div(B, kTile);
    cuda::dispatch_activations(in.dtype(), [&](auto t) {
        using T = decltype(t);
        cuda::launch<transpose_kernel<T>>(exec.device, dim3(static_cast<unsigned>(N * tiles)),
                                          cuda::kThreads, 0, in.data<T>(), out.data<T>(),
                                          static_cast<int>(A), static_cast<int>(B), add);
    });
}

void forward(const Exec& exec, const Tensor& x, const Tensor& y) {
    const Shape& s = x.shape();
    transpose(exec, x, y, s[0], s[1] * s[2], s[3], false);
}

void backward(const Exec& exec, const Tensor& dy, const GradIn& dx) {
    const Shape& s = dx.grad.shape();
    transpose(exec, dy, dx.grad, s[0], s[3], s[1] * s[2], dx.beta != 0);
}

constexpr FlattenImpl kImplementations[] = {{"tiles", accepts_all, {forward, backward}}};

}  // namespace

std::span<const FlattenImpl> flatten_cuda() {
    return kImplementations;
}

}  // namespace lumachrome
