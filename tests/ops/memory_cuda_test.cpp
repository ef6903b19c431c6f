// Ops bound by memory on a GPU, where the cases of the families do not reach: views that are not
// aligned, wide channels, the fusion layer's own kernels, and the dropout mask of a captured step.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "layers/activation.hpp"
#include "layers/cast.hpp"
#include "layers/dropout.hpp"
#include "layers/fusion.hpp"
#include "layers/upsample.hpp"
#include "support/device.hpp"
#include "support/random_tensor.hpp"
#include "tensor/larger_or_nan.hpp"

using namespace lumachrome;
using support::kGpu;

namespace {

constexpr DType kTypes[] = {DType::f64, DType::f32, DType::bf16};

Tensor nan_filled(const Shape& shape, DType dtype) {
    return Tensor::full(shape, std::numeric_limits<double>::quiet_NaN(), dtype, kGpu);
}
// In f64, but values that `dtype` has.
Tensor rounded(const Shape& shape, uint32_t stream, DType dtype) {
    return random_tensor(shape, stream, DType::f64, -1, 1).to(dtype).to(DType::f64);
}
DType wider(DType dtype) {
    return dtype == DType::bf16 ? DType::f32 : dtype;
}
// Relative to the largest value.
double error(const Tensor& a, const Tensor& exact) {
    const Tensor here = a.to(Device{}).to(DType::f64);
    double difference = 0, scale = 0;
    for (int64_t i = 0; i < here.numel(); ++i) {
        const double d = std::fabs(here.item(i) - exact.item(i));
        difference = larger_or_nan(difference, d);
        scale = std::max(scale, std::fabs(exact.item(i)));
    }
    return difference / scale;
}
// One rounding of the result, and of sums of a few hundred terms.
double tolerance(DType dtype) {
    return dtype == DType::bf16 ? 4e-3 : dtype == DType::f32 ? 1e-5 : 1e-13;
}

}  // namespace

TEST_CASE("element-wise kernels take views that are not aligned to 16 bytes" *
          doctest::skip(support::no_gpu())) {
    for (DType dtype : kTypes) {
        const Tensor x = rounded({3, 5, 7, 3}, 1, dtype), on_gpu = x.to(dtype).to(kGpu);
        for (int64_t n = 0; n < 3; ++n) {
            Tensor y = nan_filled({1, 5, 7, 3}, dtype), up = nan_filled({1, 10, 14, 3}, dtype);
            const Exec gpu{kGpu};
            ActivationOp(Activation::relu)
                .forward(gpu, std::vector<Tensor>{on_gpu.batch(n)}, y, nullptr);
            UpsampleOp().forward(gpu, std::vector<Tensor>{on_gpu.batch(n)}, up, nullptr);
            Tensor expected = Tensor::empty(y.shape(), DType::f64);
            Tensor expected_up = Tensor::empty(up.shape(), DType::f64);
            ActivationOp(Activation::relu)
                .forward(Exec{}, std::vector<Tensor>{x.batch(n)}, expected, nullptr);
            UpsampleOp().forward(Exec{}, std::vector<Tensor>{x.batch(n)}, expected_up, nullptr);
            CHECK(error(y, expected) == 0);
            CHECK(error(up, expected_up) == 0);
        }
    }
}

TEST_CASE("casts round as the CPU does, for all pairs of types" *
          doctest::skip(support::no_gpu())) {
    for (DType from : kTypes)
        for (DType to : kTypes) {
            const Tensor x = random_tensor({1037}, 4, DType::f64, -3, 3).to(from);
            const Tensor before = random_tensor({1037}, 5, DType::f64, -3, 3).to(to);
            for (float beta : {0.0f, 1.0f}) {
                const Tensor here = before.clone(), there = before.to(kGpu);
                if (beta == 0) there.fill(std::numeric_limits<double>::quiet_NaN());
                cast_into(Exec{}, x, {here, beta});
                cast_into(Exec{kGpu}, x.to(kGpu), {there, beta});
                CHECK(bit_equal(there, here));
            }
        }
    Tape tape(Phase::train, Exec{});
    const Var x = tape.input(Tensor::full({2, 3}, 2), true);
    CHECK(cast(x, DType::f32).node == x.node);
    const Var y = cast(x, DType::f64);
    CHECK(y.value.dtype() == DType::f64);
    tape.backward_from({{y, Tensor::full({2, 3}, 5, DType::f64)}});
    CHECK(tape.grad(x).dtype() == DType::f32);
    CHECK(tape.grad(x).item() == 5);
}

TEST_CASE("the dropout mask is the CPU's, and its step can lie in the GPU's memory" *
          doctest::skip(support::no_gpu())) {
    const Tensor x = random_tensor({7, 61}, 3, DType::f32, -1, 1);
    const auto run = [&](const DropoutMask& mask, Device device) {
        Tensor y = Tensor::empty(x.shape(), DType::f32, device);
        DropoutOp(mask).forward(Exec{device}, std::vector<Tensor>{x.to(device)}, y, nullptr);
        return y.to(Device{});
    };
    const Tensor counter = Tensor::empty({1}, DType::f32, kGpu);  // 32 bits
    for (uint32_t step : {0u, 4u, 123456789u}) {
        DropoutMask mask{0.3, 0x123456789abcdef0, step, 2, 5};
        CHECK(bit_equal(run(mask, kGpu), run(mask, Device{})));
        const Tensor number = Tensor::empty({1});
        *reinterpret_cast<uint32_t*>(number.raw()) = step;
        counter.copy_from(number);
        DropoutMask replayed = mask;
        replayed.step = 77;
        replayed.device_step = reinterpret_cast<const uint32_t*>(counter.raw());
        CHECK(bit_equal(run(replayed, kGpu), run(mask, Device{})));
    }
}

TEST_CASE("kernels of the fusion layer agree with the CPU's in f64" *
          doctest::skip(support::no_gpu())) {
    const Exec cpu{}, gpu{kGpu};
    const FusionKernel &here = fusion_cpu()[0].kernel, &there = fusion_cuda()[0].kernel;
    const FusionProblem problems[] = {{1, 4, 5, 16, 3}, {3, 1, 4, 5, 3}, {2, 3, 1, 8, 3},
                                      {2, 1, 1, 2, 3},  {2, 3, 4, 3, 1}, {3, 2, 2, 7, 3},
                                      {1, 9, 7, 264, 3}};
    for (const FusionProblem& p : problems)
        for (DType dtype : kTypes) {
            CAPTURE(name(dtype));
            CAPTURE(p.K);
            const DType wide = wider(dtype);
            const Tensor t = rounded({p.N, p.K * p.R * p.R}, 1, wide), b = rounded({p.K}, 2, wide);
            const Tensor y = rounded({p.N, p.H, p.W, p.K}, 3, dtype);
            const Tensor biases = Tensor::empty({p.N, 16, p.K}, DType::f64);
            here.border_biases(cpu, p, t, b, biases);
            const Tensor biases_gpu = nan_filled(biases.shape(), wide);
            there.border_biases(gpu, p, t.to(wide).to(kGpu), b.to(wide).to(kGpu), biases_gpu);
            CHECK(error(biases_gpu, biases) < tolerance(wide));

            const Tensor y_gpu = y.to(dtype).to(kGpu).clone(), sum = y.clone();
            here.add_global(cpu, p, t, b, sum);
            there.add_global(gpu, p, t.to(wide).to(kGpu), b.to(wide).to(kGpu), y_gpu);
            CHECK(error(y_gpu, sum) < tolerance(dtype));

            const Tensor e = Tensor::empty(t.shape(), DType::f64),
                         e_gpu = nan_filled(t.shape(), wide);
            here.tap_sums(cpu, p, y, e);
            there.tap_sums(gpu, p, y.to(dtype).to(kGpu), e_gpu);
            CHECK(error(e_gpu, e) < tolerance(wide));
            const Tensor again = nan_filled(t.shape(), wide);
            there.tap_sums(gpu, p, y.to(dtype).to(kGpu), again);
            CHECK(bit_equal(again, e_gpu));
        }
}

TEST_CASE("the fusion layer's weights are split and joined on the GPU" *
          doctest::skip(support::no_gpu())) {
    const Exec gpu{kGpu};
    const FusionKernel& kernel = fusion_cuda()[0].kernel;
    for (DType dtype : {DType::f64, DType::f32}) {
        const Tensor w = rounded({3, 3, 3, 150}, 1, dtype), on_gpu = w.to(dtype).to(kGpu);
        const Tensor local = nan_filled({3, 3, 3, 137}, dtype),
                     global = nan_filled({27, 13}, dtype);
        kernel.split(gpu, on_gpu, local, global);
        const Tensor half = global.to(Device{}).to(DType::f64);
        CHECK(half.item(13) == w.item(150 + 137));
        const Tensor joined = nan_filled(w.shape(), dtype);
        kernel.join(gpu, local, global, {joined, 0});
        CHECK(bit_equal(joined, on_gpu));
        kernel.join(gpu, local, global, {joined, 1});
        const Tensor twice = joined.to(Device{}).to(DType::f64);
        for (int64_t i = 0; i < w.numel(); ++i) CHECK(twice.item(i) == 2 * w.item(i));
    }
}
