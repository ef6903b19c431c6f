#include "layers/cast.hpp"
#include "tensor/cuda/elementwise.cuh"

namespace lumachrome {
namespace {

using cuda::Values, cuda::Wider;

// As many elements in one go as make 16 bytes of the narrower type.
template <class To, class From>
struct Cast {
    static constexpr int kWidth = 16 / (sizeof(To) < sizeof(From) ? sizeof(To) : sizeof(From));
    bool add;
    const From* x;
    To* y;

    bool aligned() const { return cuda::aligned_16({x, y}); }
    template <int kCount>
    __device__ Values<From, kCount> load(int64_t i) const {
        return cuda::load_pack<kCount>(x + i);
    }
    template <int kCount>
    __device__ void store(int64_t i, const Values<From, kCount>& v) const {
        Values<To, kCount> out;
#pragma unroll
        for (int k = 0; k < kCount; ++k) out.at[k] = static_cast<Wider<To>>(v.at[k]);
        cuda::store_or_add<kCount>(y + i, out, add);
    }
};

void apply(const Exec& exec, const Tensor& x, const GradIn& y) {
    cuda::dispatch_activations(x.dtype(), [&](auto f) {
        cuda::dispatch_activations(y.grad.dtype(), [&](auto t) {
            using From = decltype(f);
            using To = decltype(t);
            cuda::elementwise(exec.device,
                              Cast<To, From>{y.beta != 0, x.data<From>(), y.grad.data<To>()},
                              x.numel());
        });
    });
}

constexpr CastImpl kImplementations[] = {{"packs", accepts_all, {apply}}};

}  // namespace

std::span<const CastImpl> cast_cuda() {
    return kImplementations;
}

}  // namespace lumachrome
