#include "layers/init.hpp"

#include <cmath>

#include "tensor/random.hpp"

namespace lumachrome {

void init_weight(Parameter& weight, double gain, uint64_t seed, uint32_t index) {
    const Tensor& value = weight.value;
    const double fan_in = double(value.numel()) / double(value.shape()[0]);
    const double bound = gain * std::sqrt(3 / fan_in);
    Random random(seed, Random::Purpose::init, index);
    dispatch_float(value.dtype(), [&](auto t) {
        using T = decltype(t);
        for (int64_t i = 0; i < value.numel(); ++i)
            value.data<T>()[i] = static_cast<T>(random.uniform(-bound, bound));
    });
    ++weight.version;
}

}  // namespace lumachrome
