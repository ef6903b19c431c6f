// All three passes of a convolution are one matrix product, out(i, j) = sum_d A(i, d) B(d, j), and
// differ only in what A and B are:
//
//                  i                  j          d               A             B
//   forward        pixel of y         k          (r, s, c)       x, gathered   w
//   grad_input     pixel of x         c          (r, s, k)       dy, gathered  w
//   grad_weight    k                  (r, s, c)  pixel of y      dy            x, gathered
//
// A gathered matrix is never written to memory: where an element of it lies is worked out when it
// is read, and outside of the map it is 0. Written by its definition, the product reads two numbers
// from memory for every multiplication. Here a block computes 64 x 64 sums, 16 steps of depth at a
// time: it reads a 64 x 16 tile of A and a 16 x 64 tile of B into shared memory, once, and then
// multiplies them. So each number read serves 64 multiplications. Each of the 256 threads keeps 4 x
// 4 sums in registers: per step of depth it reads 4 + 4 numbers of shared memory for 16
// multiplications, where 1 x 1 would read 2 for 1.
#include "layers/conv2d_tiled_cuda.hpp"

#include "tensor/cuda/launch.cuh"

namespace lumachrome {
namespace {

using cuda::Wider;

constexpr int kTile = 64, kDepth = 16, kOwn = 4, kSide = kTile / kOwn;  // kSide^2 threads

// One pass: the two matrices, and where a sum goes. z as in conv2d.hpp.
template <class T>
struct Forward {
    Conv2dProblem z;
    const T* x;
    const Wider<T>*w, *b;
    T* y;

    __device__ int64_t rows() const { return z.N * z.P * z.Q; }
    __device__ int64_t columns() const { return z.K; }
    __device__ int64_t depth() const { return z.spec.kernel * z.spec.kernel * z.C; }
    __device__ Wider<T> a(int64_t i, int64_t d) const {
        const int64_t q = i % z.Q, p = i / z.Q % z.P, n = i / z.Q / z.P;
        const int64_t c = d % z.C, s = d / z.C % z.spec.kernel, r = d / z.C / z.spec.kernel;
        const int64_t h = p * z.spec.stride + r - z.spec.kernel / 2;
        const int64_t v = q * z.spec.stride + s - z.spec.kernel / 2;
        if (h < 0 || h >= z.H || v < 0 || v >= z.W) return 0;
        return static_cast<Wider<T>>(x[((n * z.H + h) * z.W + v) * z.C + c]);
    }
    __device__ Wider<T> b_of(int64_t d, int64_t j) const { return w[j * depth() + d]; }
    __device__ void put(int64_t i, int64_t j, Wider<T> sum) const {
        y[i * z.K + j] = static_cast<T>(b ? sum + b[j] : sum);
    }
};

template <class T>
struct GradInput {
    Conv2dProblem z;
    const T* dy;
    const Wider<T>* w;
    T* dx;
    float beta;

    __device__ int64_t rows() const { return z.N * z.H * z.W; }
    __device__ int64_t columns() const { return z.C; }
    __device__ int64_t depth() const { return z.spec.kernel * z.spec.kernel * z.K; }
    // The output that reads this pixel with tap (r, s), if there is one.
    __device__ Wider<T> a(int64_t i, int64_t d) const {
        const int64_t v = i % z.W, h = i / z.W % z.H, n = i / z.W / z.H;
        const int64_t k = d % z.K, s = d / z.K % z.spec.kernel, r = d / z.K / z.spec.kernel;
        const int64_t p = h + z.spec.kernel / 2 - r, q = v + z.spec.kernel / 2 - s;
        const int64_t stride = z.spec.stride;
        if (p < 0 || q < 0 || p % stride != 0 || q % stride != 0) return 0;
        if (p / stride >= z.P || q / stride >= z.Q) return 0;
        return static_cast<Wider<T>>(dy[((n * z.P + p / stride) * z.Q + q / stride) * z.K + k]);
    }
    __device__ Wider<T> b_of(int64_t d, int64_t j) const {
        return w[(d % z.K * z.spec.kernel * z.spec.kernel + d / z.K) * z.C + j];
    }
    __device__ void put(int64_t i, int64_t j, Wider<T> sum) const {
        T& at = dx[i * z.C + j];
        at = static_cast<T>(beta == 0 ? sum : static_cast<Wider<T>>(at) + sum);
    }
};

template <class T>
struct GradWeight {
    Forward<T> forward;  // its gathered x
    const T* dy;
    Wider<T>* dw;
    float beta;

    __device__ int64_t rows() const { return forward.z.K; }
    __device__ int64_t columns() const { return forward.depth(); }
    __device__ int64_t depth() const { return forward.rows(); }
    __device__ Wider<T> a(int64_t i, int64_t d) const {
        return static_cast<Wider<T>>(dy[d * forward.z.K + i]);
    }
    __device__ Wider<T> b_of(int64_t d, int64_t j) const { return forward.a(d, j); }
    __device__ void put(int64_t i, int64_t j, Wider<T> sum) const {
        Wider<T>& at = dw[i * columns() + j];
        at = beta == 0 ? sum : at + sum;
    }
};

// A block per 64 x 64 tile of sums. kDepthIsFast: neighbours of A in memory are neighbours in
// depth, so consecutive threads read along it; for dy^T, along the rows.
template <class T, class Pass, bool kDepthIsFast>
__global__ void __launch_bounds__(kSide* kSide) tiled_kernel(Pass pass) {
    // One number more to a row of A: written along depth, its rows must not share a bank.
    __shared__ Wider<T> a[kDepth][kTile + 1], b[kDepth][kTile];
    const int64_t tiles = (pass.columns() + kTile - 1) / kTile;
    const int64_t row0 = blockIdx.x / tiles * kTile, column0 = blockIdx.x % tiles * kTile;
    const int thread = threadIdx.x, row = thread / kSide, column = thread % kSide;

    Wider<T> sums[kOwn][kOwn] = {};
    for (int64_t d0 = 0; d0 < pass.depth(); d0 += kDepth) {
        for (int e = thread; e < kTile * kDepth; e += kSide * kSide) {
            const int d = kDepthIsFast ? e % kDepth : e / kTile;
            const int i = kDepthIsFast ? e / kDepth : e % kTile;
            const bool inside = row0 + i < pass.rows() && d0 + d < pass.depth();
            a[d][i] = inside ? pass.a(row0 + i, d0 + d) : 0;
        }
        for (int e = thread; e < kTile * kDepth; e += kSide * kSide) {
            const int d = e / kTile, j = e % kTile;
            const bool inside = column0 + j < pass.columns() && d0 + d < pass.depth();
            b[d][j] = inside ? pass.b_of(d0 + d, column0 + j) : 0;
        }
        __syncthreads();  // the tiles are complete
#pragma unroll
        for (int d = 0; d < kDepth; ++d) {
            // A thread's rows and columns lie kSide apart, so that neighbours read neighbours.
            Wider<T> left[kOwn], right[kOwn];
#pragma unroll
            for (int m = 0; m < kOwn; ++m) {
                left[m] = a[d][row + m * kSide];
                right[m] = b[d][column + m * kSide];
            }
#pragma unroll
            for (int m = 0; m < kOwn; ++m)
#pragma unroll
                for (int n = 0; n < kOwn; ++n) sums[m][n] += left[m] * right[n];
        }
        __syncthreads();  // nobody reads them any more
    }
#pragma unroll
    for (int m = 0; m < kOwn; ++m)
#pragma unroll
        for (int n = 0; n < kOwn; ++n) {
            const int64_t i = row0 + row + m * kSide, j = column0 + column + n * kSide;
            if (i < pass.rows() && j < pass.columns()) pass.put(i, j, sums[m][n]);
        }
}

template <class T, bool kDepthIsFast, class Pass>
void run(const Exec& exec, int64_t rows, int64_t columns, const Pass& pass) {
    const int64_t tiles = cuda::ceil_div(rows, kTile) * cuda::ceil_div(columns, kTile);
    cuda::launch<tiled_kernel<T, Pass, kDepthIsFast>>(
        exec.device, dim3(static_cast<unsigned>(tiles)), kSide * kSide, 0, pass);
}

void forward(const Exec& exec, const Conv2dProblem& z, const Tensor& x, const Tensor& w,
             const Tensor& b, const Tensor& y) {
    cuda::dispatch_activations(x.dtype(), [&](auto t) {
        using T = decltype(t);
        using P = Wider<T>;
        run<T, true>(exec, z.N * z.P * z.Q, z.K,
                     Forward<T>{z, x.data<T>(), w.data<P>(), b.defined() ? b.data<P>() : nullptr,
                                y.data<T>()});
    });
}

void grad_input(const Exec& exec, const Conv2dProblem& z, const Tensor& dy, const Tensor& w,
                const GradIn& dx) {
    cuda::dispatch_activations(dy.dtype(), [&](auto t) {
        using T = decltype(t);
        run<T, true>(exec, z.N * z.H * z.W, z.C,
                     GradInput<T>{z, dy.data<T>(), w.data<Wider<T>>(), dx.grad.data<T>(), dx.beta});
    });
}

void grad_weight(const Exec& exec, const Conv2dProblem& z, const Tensor& x, const Tensor& dy,
                 const GradIn& dw) {
    cuda::dispatch_activations(dy.dtype(), [&](auto t) {
        using T = decltype(t);
        run<T, false>(exec, z.K, z.taps(),
                      GradWeight<T>{{z, x.data<T>(), nullptr, nullptr, nullptr},
                                    dy.data<T>(),
                                    dw.grad.data<Wider<T>>(),
                                    dw.beta});
    });
}

}  // namespace

const Conv2dKernel kConv2dTiledCuda{forward, grad_input, grad_weight};

}  // namespace lumachrome
