#include <algorithm>

#include "layers/upsample.hpp"
#include "tensor/cuda/pack.cuh"

namespace lumachrome {
namespace {

using cuda::Values;

// Both ways, with packs of kWidth channels. A block has one row of the small map (blockIdx.x), or a
// piece of it (blockIdx.y), a thread one pack of it: whole lines of memory on the side of the small
// map, whole pixels on the other. No 64-bit division.
struct Place {
    int64_t small, large;  // large: of the upper left one of the four
    int64_t row;           // elements of one row of the large map
    bool outside;
};
template <int kWidth>
__device__ __forceinline__ Place place(int W, int C) {
    const int packs = C / kWidth, j = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x);
    const int w = j / packs, c = (j - w * packs) * kWidth;
    const int64_t line = blockIdx.x, width = int64_t{W} * C;
    return {line * width + int64_t{w} * C + c, (line * 4 * W + 2 * w) * C + c, 2 * width, w >= W};
}

template <class T, int kWidth>
__global__ void forward_kernel(const T* x, T* y, int W, int C) {
    const Place at = place<kWidth>(W, C);
    if (at.outside) return;
    const Values<T, kWidth> v = cuda::load_pack<kWidth>(x + at.small);
    T* const top = y + at.large;
    cuda::store_pack<kWidth>(top, v);
    cuda::store_pack<kWidth>(top + C, v);
    cuda::store_pack<kWidth>(top + at.row, v);
    cuda::store_pack<kWidth>(top + at.row + C, v);
}

template <class T, int kWidth>
__global__ void backward_kernel(const T* dy, T* dx, int W, int C, bool add) {
    const Place at = place<kWidth>(W, C);
    if (at.outside) return;
    const T* const top = dy + at.large;
    const Values<T, kWidth> a = cuda::load_pack<kWidth>(top), b = cuda::load_pack<kWidth>(top + C),
                            c = cuda::load_pack<kWidth>(top + at.row),
                            d = cuda::load_pack<kWidth>(top + at.row + C);
    Values<T, kWidth> sum;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sum.at[i] = (a.at[i] + b.at[i]) + (c.at[i] + d.at[i]);
    cuda::store_or_add<kWidth>(dx + at.small, sum, add);
}

struct Launch {
    dim3 grid;
    unsigned block;
};
Launch shape_of(const Shape& small, int width) {
    const int64_t row = small[2] * small[3] / width;
    const auto block = static_cast<unsigned>(std::min<int64_t>(256, cuda::ceil_div(row, 32) * 32));
    return {dim3(static_cast<unsigned>(small[0] * small[1]),
                 static_cast<unsigned>(cuda::ceil_div(row, block))),
            block};
}

// Calls f with the type of the elements and the width of the packs.
template <class F>
void dispatch(const Tensor& small, const Tensor& large, const F& f) {
    cuda::dispatch_activations(small.dtype(), [&](auto t) {
        using T = decltype(t);
        constexpr int kWidth = cuda::kPackOf<T>;
        if (small.shape()[3] % kWidth == 0 && cuda::aligned_16({small.raw(), large.raw()}))
            f(t, std::integral_constant<int, kWidth>(), shape_of(small.shape(), kWidth));
        else
            f(t, std::integral_constant<int, 1>(), shape_of(small.shape(), 1));
    });
}

void forward(const Exec& exec, const Tensor& x, const Tensor& y) {
    const int W = static_cast<int>(x.shape()[2]), C = static_cast<int>(x.shape()[3]);
    dispatch(x, y, [&](auto t, auto width, const Launch& l) {
        using T = decltype(t);
        cuda::launch<forward_kernel<T, decltype(width)::value>>(exec.device, l.grid, l.block, 0,
                                                                x.data<T>(), y.data<T>(), W, C);
    });
}

void backward(const Exec& exec, const Tensor& dy, const GradIn& dx) {
    const Shape& s = dx.grad.shape();
    const int W = static_cast<int>(s[2]), C = static_cast<int>(s[3]);
    dispatch(dx.grad, dy, [&](auto t, auto width, const Launch& l) {
        using T = decltype(t);
        cuda::launch<backward_kernel<T, decltype(width)::value>>(
            exec.device, l.grid, l.block, 0, dy.data<T>(), dx.grad.data<T>(), W, C, dx.beta != 0);
    });
}

constexpr UpsampleImpl kImplementations[] = {{"packs", accepts_all, {forward, backward}}};

}  // namespace

std::span<const UpsampleImpl> upsample_cuda() {
    return kImplementations;
}

}  // namespace lumachrome
