// Inputs for tests: uniform values from a counter, so that every run and machine has the same.
#pragma once
#include "tensor/random.hpp"
#include "tensor/tensor.hpp"

namespace lumachrome {

inline Tensor random_tensor(Shape shape, uint32_t stream, DType dtype = DType::f32, double low = 0,
                            double high = 1) {
    Random random(99, Random::Purpose::test, stream);
    const Tensor t = Tensor::empty(shape, dtype);
    dispatch_float(dtype, [&](auto v) {
        using T = decltype(v);
        for (int64_t i = 0; i < t.numel(); ++i)
            t.data<T>()[i] = static_cast<T>(random.uniform(low, high));
    });
    return t;
}

}  // namespace lumachrome
