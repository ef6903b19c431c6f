#include "layers/dropout.hpp"
#include "tensor/cuda/elementwise.cuh"

namespace lumachrome {
namespace {

using cuda::Values, cuda::Wider;

// A draw is ten rounds of Philox per element: some 100 instructions for a few bytes. The tensors
// are small (the fully connected layers), so a draw is not shared between elements.
template <class T>
struct Apply {
    static constexpr int kWidth = cuda::kPackOf<T>;
    DropoutMask mask;
    int64_t first;
    Wider<T> kept;
    bool add;
    const T* x;
    T* y;

    bool aligned() const { return cuda::aligned_16({x, y}); }
    template <int kCount>
    __device__ Values<T, kCount> load(int64_t i) const {
        return cuda::load_pack<kCount>(x + i);
    }
    template <int kCount>
    __device__ void store(int64_t i, Values<T, kCount> v) const {
        const uint32_t step = mask.device_step ? *mask.device_step : mask.step;
#pragma unroll
        for (int k = 0; k < kCount; ++k)
            v.at[k] *= mask.drops(first + i + k, step) ? Wider<T>(0) : kept;
        cuda::store_or_add<kCount>(y + i, v, add);
    }
};

void apply(const Exec& exec, const DropoutMask& mask, const Tensor& x, const Tensor& y,
           float beta) {
    cuda::dispatch_activations(x.dtype(), [&](auto t) {
        using T = decltype(t);
        cuda::elementwise(
            exec.device,
            Apply<T>{mask, mask.first_element(x.shape()), static_cast<Wider<T>>(mask.kept_scale()),
                     beta != 0, x.data<T>(), y.data<T>()},
            x.numel());
    });
}

constexpr DropoutImpl kImplementations[] = {{"philox", accepts_all, {apply}}};

}  // namespace

std::span<const DropoutImpl> dropout_cuda() {
    return kImplementations;
}

}  // namespace lumachrome
