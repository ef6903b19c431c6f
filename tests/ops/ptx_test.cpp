// The wrapped instructions of tensor/cuda/ptx.cuh against plain arithmetic: on the hardware it
// shows that we read the PTX ISA right, on the emulator that it is modelled so.
#include <doctest/doctest.h>

#include <cmath>

#include "ops/ptx_kernels.hpp"
#include "support/device.hpp"
#include "support/random_tensor.hpp"

using namespace lumachrome;
using support::kGpu;

namespace {

// Whole numbers from -8 to 8: every product and sum is exact in each type.
Tensor whole_numbers(Shape shape, uint32_t stream) {
    const Tensor t = random_tensor(shape, stream, DType::f32, -8, 8);
    for (int64_t i = 0; i < t.numel(); ++i) t.data<float>()[i] = std::round(t.data<float>()[i]);
    return t;
}

// d(i,j) = sum_k a(i,k) b(k,j), b transposed or not.
void check_product(const Tensor& a, const Tensor& b, bool transposed, const Tensor& d) {
    const Tensor found = d.to(Device{});
    const int64_t depth = a.shape()[1];
    for (int64_t i = 0; i < 16; ++i)
        for (int64_t j = 0; j < 8; ++j) {
            float sum = 0;
            for (int64_t k = 0; k < depth; ++k)
                sum += a.data<float>()[i * depth + k] *
                       b.data<float>()[transposed ? j * depth + k : k * 8 + j];
            CAPTURE(i);
            CAPTURE(j);
            CHECK(found.item(i * 8 + j) == sum);
        }
}

}  // namespace

TEST_CASE("products of tensor cores lie where the PTX ISA says" *
          doctest::skip(support::no_gpu())) {
    const Tensor d = Tensor::full({16, 8}, NAN, DType::f32, kGpu);
    {
        const Tensor a = whole_numbers({16, 16}, 1), b = whole_numbers({8, 16}, 2);
        ptx_test::mma(a.to(DType::bf16).to(kGpu), b.to(DType::bf16).to(kGpu), d);
        check_product(a, b, true, d);
    }
    {
        const Tensor a = whole_numbers({16, 16}, 3), b = whole_numbers({16, 8}, 4);
        ptx_test::mma_transposed(a.to(DType::bf16).to(kGpu), b.to(DType::bf16).to(kGpu), d);
        check_product(a, b, false, d);
    }
    {
        const Tensor a = whole_numbers({16, 8}, 5), b = whole_numbers({8, 8}, 6);
        ptx_test::mma(a.to(kGpu), b.to(kGpu), d);
        check_product(a, b, true, d);
    }
}

TEST_CASE("tf32 and bf16 round to the nearest" * doctest::skip(support::no_gpu())) {
    const Tensor in = random_tensor({1000}, 1, DType::f32, -3, 3);
    in.data<float>()[0] = 1 + 0x1p-11f;  // halfway between two tf32: away from zero
    in.data<float>()[1] = -1 - 0x1p-11f;
    in.data<float>()[2] = 1 + 0x1p-8f;  // halfway between two bf16: to the even one
    in.data<float>()[3] = INFINITY;
    const Tensor tf32 = Tensor::empty({1000}, DType::f32, kGpu);
    const Tensor half = Tensor::empty({1000}, DType::bf16, kGpu);
    ptx_test::round_tf32(in.to(kGpu), tf32);
    ptx_test::round_bf16(in.to(kGpu), half);
    CHECK(bit_equal(half, in.to(DType::bf16)));
    const Tensor found = tf32.to(Device{});
    CHECK(found.item(0) == 1 + 0x1p-10);
    CHECK(found.item(1) == -1 - 0x1p-10);
    CHECK(std::isinf(found.item(3)));
    for (int64_t i = 4; i < 1000; ++i) {
        const double x = in.item(i), unit = std::exp2(std::floor(std::log2(std::fabs(x))) - 10);
        REQUIRE(std::fabs(found.item(i) - x) <= unit / 2);
        REQUIRE(std::fmod(found.item(i), unit) == 0);
    }
}
