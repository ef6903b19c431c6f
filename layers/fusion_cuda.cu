#include <algorithm>

#include "layers/fusion.hpp"
#include "tensor/cuda/pack.cuh"

namespace lumachrome {
namespace {

using cuda::Values, cuda::Wider;

// --- the halves of the weights

// Rows of w [rows, M+G] to or from local [rows, M] and global [rows, G]: neighbouring threads,
// neighbouring channels. A few megabytes, once a step.
template <class T, bool kSplit>
__global__ void halves_kernel(T* w, T* local, T* global, int M, int G, bool add) {
    const int64_t row = blockIdx.x;
    T* const joined = w + row * (M + G);
    for (int c = static_cast<int>(threadIdx.x); c < M + G; c += static_cast<int>(blockDim.x)) {
        T& part = c < M ? local[row * M + c] : global[row * G + c - M];
        if (kSplit)
            part = joined[c];
        else
            joined[c] = add ? joined[c] + part : part;
    }
}

template <bool kSplit>
void split_or_join(const Exec& exec, const Tensor& w, const Tensor& local, const Tensor& global,
                   bool add) {
    dispatch_float(w.dtype(), [&](auto t) {
        using T = decltype(t);
        cuda::launch<halves_kernel<T, kSplit>>(
            exec.device, dim3(static_cast<unsigned>(w.shape().rows())), 128, 0, w.data<T>(),
            local.data<T>(), global.data<T>(), static_cast<int>(local.shape().back()),
            static_cast<int>(global.shape().back()), add);
    });
}
void split(const Exec& exec, const Tensor& w, const Tensor& local, const Tensor& global) {
    split_or_join<true>(exec, w, local, global, false);
}
void join(const Exec& exec, const Tensor& local, const Tensor& global, const GradIn& dw) {
    split_or_join<false>(exec, dw.grad, local, global, dw.beta != 0);
}

// --- forward: the global half is a bias, one of 16 for each photo and channel

// A thread keeps the R*R taps of one (n,k) in registers and writes the sums of the 16 cases, each
// beside those of its neighbours' k.
template <class T, int kR>
__global__ void __launch_bounds__(cuda::kThreads)
    border_biases_kernel(const T* t, const T* b, T* bias, int64_t count, int K) {
    for (int64_t i = cuda::first_index(); i < count; i += cuda::index_step()) {
        const int64_t n = i / K, k = i - n * K;
        T taps[kR * kR];
#pragma unroll
        for (int tap = 0; tap < kR * kR; ++tap) taps[tap] = t[i * (kR * kR) + tap];
        const T start = b[k];
#pragma unroll
        for (int c = 0; c < 16; ++c) {
            T sum = start;
#pragma unroll
            for (int tap = 0; tap < kR * kR; ++tap)
                if (tap_inside(tap / kR, c / 4, kR) && tap_inside(tap % kR, c % 4, kR))
                    sum += taps[tap];
            bias[(n * 16 + c) * K + k] = sum;
        }
    }
}

void border_biases_cuda(const Exec& exec, const FusionProblem& p, const Tensor& t, const Tensor& b,
                        const Tensor& bias) {
    const int64_t count = p.N * p.K;
    const int K = static_cast<int>(p.K);
    dispatch_float(t.dtype(), [&](auto tag) {
        using T = decltype(tag);
        const auto run = [&]<int kR>(std::integral_constant<int, kR>) {
            cuda::launch<border_biases_kernel<T, kR>>(exec.device, cuda::blocks_for(count),
                                                      cuda::kThreads, 0, t.data<T>(), b.data<T>(),
                                                      bias.data<T>(), count, K);
        };
        if (p.R == 3)
            run(std::integral_constant<int, 3>());
        else
            run(std::integral_constant<int, 1>());
    });
}

// A block has a row of y (blockIdx.x) or a piece of it (blockIdx.y), a thread one pack of it. The
// biases of a photo are a few kilobytes that stay in L1.
template <class T, int kWidth>
__global__ void add_kernel(T* y, const Wider<T>* bias, int H, int W, int K) {
    const int packs = K / kWidth, j = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x);
    const int w = j / packs, k = (j - w * packs) * kWidth;
    if (w >= W) return;
    const int64_t n = blockIdx.x / static_cast<unsigned>(H);
    const int h = static_cast<int>(blockIdx.x % static_cast<unsigned>(H));
    const int64_t which = n * 16 + border_case(h, H) * 4 + border_case(w, W);
    const auto add = cuda::load_pack<kWidth>(bias + which * K + k);
    Values<T, kWidth> values;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) values.at[i] = add.at[i];
    cuda::store_or_add<kWidth>(y + (int64_t{blockIdx.x} * W + w) * K + k, values, true);
}

void add_global(const Exec& exec, const FusionProblem& p, const Tensor& t, const Tensor& b,
                const Tensor& y) {
    const Tensor bias = Tensor::empty({p.N, 16, p.K}, t.dtype(), exec.device);
    border_biases_cuda(exec, p, t, b, bias);
    cuda::dispatch_activations(y.dtype(), [&](auto tag) {
        using T = decltype(tag);
        const auto run = [&]<int kWidth>(std::integral_constant<int, kWidth>) {
            const int64_t row = p.W * p.K / kWidth;
            const auto block =
                static_cast<unsigned>(std::min<int64_t>(256, cuda::ceil_div(row, 32) * 32));
            cuda::launch<add_kernel<T, kWidth>>(
                exec.device,
                dim3(static_cast<unsigned>(p.N * p.H),
                     static_cast<unsigned>(cuda::ceil_div(row, block))),
                block, 0, y.data<T>(), bias.data<Wider<T>>(), static_cast<int>(p.H),
                static_cast<int>(p.W), static_cast<int>(p.K));
        };
        if (p.K % cuda::kPackOf<T> == 0 && cuda::aligned_16({y.raw()}))
            run(std::integral_constant<int, cuda::kPackOf<T>>());
        else
            run(std::integral_constant<int, 1>());
    });
}

// --- backward: e(n,k,r,s) = sum of dy where tap (r,s) is inside

// The map is cut along each axis into its first line, its last, and bands of those between; a tap
// is inside for all of a piece or for none. Along the rows there are `bands` of the latter, along
// the columns one. Where the map is one line high that line is the first, and the rest is empty.
struct Cut {
    int size, bands;
    __host__ __device__ int pieces() const { return 2 + bands; }
    __host__ __device__ int begin(int piece) const {
        if (piece == 0) return 0;
        if (piece == 1) return size > 1 ? size - 1 : size;
        return 1 + band(piece - 2);
    }
    __host__ __device__ int end(int piece) const {
        if (piece == 0) return 1;
        if (piece == 1) return size;
        return 1 + band(piece - 1);
    }
    // The border case of the lines of a piece.
    __host__ __device__ int border(int piece) const {
        return piece == 0 ? (size == 1 ? 3 : 1) : piece == 1 ? 2 : 0;
    }

  private:
    __host__ __device__ int band(int i) const { return size > 2 ? (size - 2) * i / bands : 0; }
};

constexpr int kLanes = 32, kStrips = cuda::kThreads / kLanes;

// Stage 1: partial [N, pieces of rows * pieces of columns, K], the sum of dy over each piece. A
// block has one piece (blockIdx.y) of one photo (blockIdx.x) and 32 packs of channels (blockIdx.z):
// 32 threads side by side read 512 bytes of a pixel, 8 strips of them every eighth pixel. The
// strips are added up in order.
template <class T, int kWidth>
__global__ void __launch_bounds__(cuda::kThreads)
    piece_sums_kernel(const T* dy, Wider<T>* partial, Cut rows, Cut columns, int K) {
    __shared__ Wider<T> shared[kStrips][kLanes * kWidth];
    const int lane = static_cast<int>(threadIdx.x) % kLanes;
    const int strip = static_cast<int>(threadIdx.x) / kLanes;
    const int k = (static_cast<int>(blockIdx.z) * kLanes + lane) * kWidth;
    const int piece_h = static_cast<int>(blockIdx.y) / columns.pieces();
    const int piece_w = static_cast<int>(blockIdx.y) % columns.pieces();
    const int h0 = rows.begin(piece_h), w0 = columns.begin(piece_w);
    const int width = columns.end(piece_w) - w0, count = (rows.end(piece_h) - h0) * width;

    Values<T, kWidth> sum{};
    if (k < K) {
        const T* const from = dy + ((int64_t{blockIdx.x} * rows.size + h0) * columns.size + w0) * K;
#pragma unroll 4
        for (int i = strip; i < count; i += kStrips) {
            const int h = i / width, w = i - h * width;
            const auto v = cuda::load_pack<kWidth>(from + (int64_t{h} * columns.size + w) * K + k);
#pragma unroll
            for (int c = 0; c < kWidth; ++c) sum.at[c] += v.at[c];
        }
    }
#pragma unroll
    for (int c = 0; c < kWidth; ++c) shared[strip][c * kLanes + lane] = sum.at[c];
    __syncthreads();
    const int64_t piece = int64_t{blockIdx.x} * gridDim.y + blockIdx.y;
    for (int i = static_cast<int>(threadIdx.x); i < kLanes * kWidth; i += cuda::kThreads) {
        const int to = static_cast<int>(blockIdx.z) * kLanes * kWidth + i;
        if (to >= K) continue;
        const int from = i % kWidth * kLanes + i / kWidth;
        Wider<T> total = 0;
#pragma unroll
        for (int s = 0; s < kStrips; ++s) total += shared[s][from];
        partial[piece * K + to] = total;
    }
}

// Stage 2: a thread has one (n,k) and adds up the pieces in order, first by the three kinds of
// lines on each axis, then by taps.
template <class T, int kR>
__global__ void __launch_bounds__(cuda::kThreads)
    tap_sums_kernel(const T* partial, T* e, int64_t total, Cut rows, Cut columns, int K) {
    for (int64_t i = cuda::first_index(); i < total; i += cuda::index_step()) {
        const int64_t n = i / K, k = i - n * K;
        T sums[9] = {};
        const auto add = [&](int h, T& left, T& right, T& inner) {
            const T* from = partial + ((n * rows.pieces() + h) * 3) * K + k;
            left += from[0], right += from[K], inner += from[2 * int64_t{K}];
        };
        add(0, sums[0], sums[1], sums[2]);
        if (rows.pieces() > 1) add(1, sums[3], sums[4], sums[5]);
        for (int h = 2; h < rows.pieces(); ++h) add(h, sums[6], sums[7], sums[8]);
#pragma unroll
        for (int tap = 0; tap < kR * kR; ++tap) {
            T sum = 0;
#pragma unroll
            for (int kind = 0; kind < 9; ++kind)
                if (tap_inside(tap / kR, rows.border(kind / 3), kR) &&
                    tap_inside(tap % kR, columns.border(kind % 3), kR))
                    sum += sums[kind];
            e[i * (kR * kR) + tap] = sum;
        }
    }
}

void tap_sums(const Exec& exec, const FusionProblem& p, const Tensor& dy, const Tensor& e) {
    // Enough blocks for a large GPU, whatever the batch.
    constexpr int64_t kBlocks = 1024;
    const int64_t wanted = cuda::ceil_div(kBlocks, p.N);
    const Cut rows{static_cast<int>(p.H),
                   static_cast<int>(std::clamp<int64_t>(wanted, 1, std::max<int64_t>(p.H - 2, 1)))};
    const Cut columns{static_cast<int>(p.W), 1};
    const int pieces = rows.pieces() * columns.pieces(), K = static_cast<int>(p.K);
    const Tensor partial = Tensor::empty({p.N, pieces, p.K}, e.dtype(), exec.device);
    cuda::dispatch_activations(dy.dtype(), [&](auto tag) {
        using T = decltype(tag);
        const auto sum_pieces = [&]<int kWidth>(std::integral_constant<int, kWidth>) {
            cuda::launch<piece_sums_kernel<T, kWidth>>(
                exec.device,
                dim3(static_cast<unsigned>(p.N), static_cast<unsigned>(pieces),
                     static_cast<unsigned>(cuda::ceil_div(p.K, kLanes * kWidth))),
                cuda::kThreads, 0, dy.data<T>(), partial.data<Wider<T>>(), rows, columns, K);
        };
        if (p.K % cuda::kPackOf<T> == 0 && cuda::aligned_16({dy.raw()}))
            sum_pieces(std::integral_constant<int, cuda::kPackOf<T>>());
        else
            sum_pieces(std::integral_constant<int, 1>());
    });
    dispatch_float(e.dtype(), [&](auto tag) {
        using T = decltype(tag);
        const auto sum_taps = [&]<int kR>(std::integral_constant<int, kR>) {
            cuda::launch<tap_sums_kernel<T, kR>>(exec.device, cuda::blocks_for(p.N * p.K),
                                                 cuda::kThreads, 0, partial.data<T>(), e.data<T>(),
                                                 p.N * p.K, rows, columns, K);
        };
        if (p.R == 3)
            sum_taps(std::integral_constant<int, 3>());
        else
            sum_taps(std::integral_constant<int, 1>());
    });
}

constexpr FusionImpl kImplementations[] = {
    {"border_cases", accepts_all, {split, join, border_biases_cuda, add_global, tap_sums}}};

}  // namespace

std::span<const FusionImpl> fusion_cuda() {
    return kImplementations;
}

}  // namespace lumachrome
