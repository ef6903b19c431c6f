// Fully connected layers in 16 bits, on every instruction set of this machine.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "layers/linear_prepared.hpp"
#include "support/random_tensor.hpp"
#include "tensor/isa.hpp"

using namespace lumachrome;

TEST_CASE("fully connected layers in 16 bits stay close to double, whatever the threads") {
    const Shape shapes[] = {{300, 1000}, {17, 16001}, {1, 300000}, {4099, 64}};
    for (const Isa isa : supported_isas()) {
        const ForcedIsa forced(isa);
        CAPTURE(std::string(name(isa)));
        for (const Shape& shape : shapes) {
            CAPTURE(shape.str());
            const Tensor w = random_tensor(shape, 1, DType::f32, -1, 1),
                         x = random_tensor({shape[1]}, 2, DType::f32, -1, 1),
                         b = random_tensor({shape[0]}, 3, DType::f32, -1, 1);
            std::fill_n(w.data<float>(), shape[1], 0.0f);  // a row without a scale
            const PreparedLinear linear(Exec{{}, 2}, w);
            CHECK(linear.bytes() < w.bytes() * 55 / 100 + 4096 * 4 + 200);
            const Tensor y = Tensor::empty({shape[0]}), again = Tensor::empty({shape[0]});
            linear.run(Exec{}, x.data<float>(), b.data<float>(), y.data<float>());
            CHECK(y.item(0) == b.item(0));
            for (int64_t o = 1; o < shape[0]; ++o) {
                double sum = b.item(o), size = 0;
                for (int64_t i = 0; i < shape[1]; ++i) {
                    const double product = w.item(o * shape[1] + i) * x.item(i);
                    sum += product;
                    size += std::fabs(product);
                }
                // Every weight off by 1/65534, every sum rounded: both mostly cancel, neither can
                // add up to more.
                CHECK(std::fabs(y.item(o) - sum) < size / 65534 * 2);
            }
            for (int threads : {2, 3, 4, 8}) {
                linear.run(Exec{{}, threads}, x.data<float>(), b.data<float>(),
                           again.data<float>());
                CHECK(bit_equal(again, y));
            }
        }
    }
}

TEST_CASE("few weights and weights that are not finite stay as they are") {
    CHECK(PreparedLinear::reject(Tensor::full({10, 10}, 1)) != nullptr);
    const Tensor w = Tensor::full({600, 600}, 1);
    CHECK(PreparedLinear::reject(w) == nullptr);
    w.data<float>()[1234] = std::numeric_limits<float>::quiet_NaN();
    CHECK(PreparedLinear::reject(w) != nullptr);
}
