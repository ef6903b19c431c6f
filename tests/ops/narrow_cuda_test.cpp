// The GPU's convolutions with one or two channels on one side, against the CPU's in f64 on the same
// (rounded) numbers.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "layers/conv2d_narrow_cuda.hpp"
#include "support/device.hpp"
#include "support/random_tensor.hpp"
#include "tensor/larger_or_nan.hpp"

using namespace lumachrome;
using support::kGpu;

namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

Tensor rounded(const Shape& shape, uint32_t stream, DType dtype) {
    return random_tensor(shape, stream, DType::f64, -1, 1).to(dtype).to(DType::f64);
}
Tensor on_gpu(const Tensor& t, DType dtype) {
    return t.defined() ? t.to(dtype).to(kGpu) : t;
}

// Relative to the largest value.
double error(const Tensor& a, const Tensor& exact) {
    const Tensor here = a.to(Device{}).to(DType::f64);
    double difference = 0, scale = 1e-300;
    for (int64_t i = 0; i < here.numel(); ++i) {
        const double d = std::fabs(here.item(i) - exact.item(i));
        difference = larger_or_nan(difference, d);
        scale = std::max(scale, std::fabs(exact.item(i)));
    }
    return difference / scale;
}

// Runs into a NaN-filled tensor (beta 0) and on top of `before` (beta 1); the latter again, and
// bit-equal. `out` has the type of the result.
template <class F>
void check_gradient(const Tensor& exact, const Tensor& before, DType out, double tolerance, F run) {
    const Tensor assigned = Tensor::full(exact.shape(), kNaN, out, kGpu);
    run(GradIn{assigned, 0});
    CHECK(error(assigned, exact) < tolerance);
    const Tensor added = on_gpu(before, out).clone(), again = on_gpu(before, out).clone();
    run(GradIn{added, 1});
    run(GradIn{again, 1});
    Tensor sum = exact.clone();
    for (int64_t i = 0; i < sum.numel(); ++i) sum.data<double>()[i] += before.item(i);
    CHECK(error(added, sum) < tolerance);
    CHECK(bit_equal(added, again));
}

void check(const Conv2dProblem& shape, DType dtype) {
    Conv2dProblem p = shape;
    p.dtype = dtype;
    REQUIRE(reject_narrow(p) == nullptr);
    const DType wide = dtype == DType::bf16 ? DType::f32 : dtype;
    // A sum of 18 products of bf16 rounded once; f32 sums of up to a few thousand terms.
    const double kMap = dtype == DType::bf16 ? 4e-3 : dtype == DType::f32 ? 1e-6 : 1e-14;
    const double kWeight = wide == DType::f32 ? 1e-5 : 1e-13;
    const Tensor x = rounded({p.N, p.H, p.W, p.C}, 1, dtype);
    const Tensor w = rounded({p.K, 3, 3, p.C}, 2, dtype), b = rounded({p.K}, 3, dtype);
    const Tensor dy = rounded({p.N, p.P, p.Q, p.K}, 4, dtype);
    const Tensor before_x = rounded(x.shape(), 5, dtype), before_w = rounded(w.shape(), 6, dtype);
    const Conv2dKernel& naive = conv2d_cpu().back().kernel;
    Conv2dProblem reference = p;
    reference.dtype = DType::f64;
    const Exec cpu{}, gpu{kGpu};

    for (const Tensor& bias : {b, Tensor()}) {
        const Tensor exact = Tensor::full(dy.shape(), kNaN, DType::f64);
        naive.forward(cpu, reference, x, w, bias, exact);
        const Tensor y = Tensor::full(dy.shape(), kNaN, dtype, kGpu);
        conv2d_forward_narrow_cuda(gpu, p, on_gpu(x, dtype), on_gpu(w, wide), on_gpu(bias, wide),
                                   y);
        CHECK(error(y, exact) < kMap);
    }
    const Tensor dx = Tensor::full(x.shape(), kNaN, DType::f64);
    naive.grad_input(cpu, reference, dy, w, {dx, 0});
    check_gradient(dx, before_x, dtype, kMap, [&](const GradIn& to) {
        conv2d_grad_input_narrow_cuda(gpu, p, on_gpu(dy, dtype), on_gpu(w, wide), to);
    });
    const Tensor dw = Tensor::full(w.shape(), kNaN, DType::f64);
    naive.grad_weight(cpu, reference, x, dy, {dw, 0});
    check_gradient(dw, before_w, wide, kWeight, [&](const GradIn& to) {
        conv2d_grad_weight_narrow_cuda(gpu, p, on_gpu(x, dtype), on_gpu(dy, dtype), to);
    });
}

struct Sizes {
    int64_t stride, N, H, W, C, K;
};
Conv2dProblem problem(const Sizes& s) {
    return conv2d_problem({3, s.stride}, {s.N, s.H, s.W, s.C}, {s.K, 3, 3, s.C});
}

}  // namespace

TEST_CASE("narrow convolutions on the GPU agree with the naive ones in f64" *
          doctest::skip(support::no_gpu())) {
    const Sizes sizes[] = {
        // The first layer: whole packs, whole chunks of tensor cores, neither; odd maps; tiles cut.
        {2, 3, 19, 35, 1, 64},
        {1, 2, 9, 37, 1, 32},
        {2, 1, 8, 8, 1, 96},
        {2, 1, 3, 66, 1, 128},
        {1, 3, 7, 5, 1, 33},
        {2, 2, 6, 9, 1, 24},
        {2, 1, 1, 1, 1, 3},
        {1, 1, 18, 3, 1, 2},
        // The last.
        {1, 3, 17, 33, 32, 2},
        {1, 1, 3, 35, 64, 2},
        {1, 1, 5, 6, 128, 2},
        {1, 2, 7, 9, 35, 2},
        {1, 1, 3, 40, 16, 2},
        {1, 1, 1, 1, 96, 2},
    };
    for (const Sizes& s : sizes)
        for (DType dtype : {DType::f32, DType::f64, DType::bf16}) {
            CAPTURE(name(dtype));
            CAPTURE(s.stride);
            CAPTURE(s.H);
            CAPTURE(s.W);
            CAPTURE(s.C);
            CAPTURE(s.K);
            check(problem(s), dtype);
        }
}

TEST_CASE("what narrow convolutions reject") {
    CHECK(reject_narrow(problem({1, 1, 5, 5, 1, 64})) == nullptr);
    CHECK(reject_narrow(problem({1, 1, 5, 5, 64, 2})) == nullptr);
    CHECK(reject_narrow(problem({2, 1, 5, 5, 64, 2})) != nullptr);
    CHECK(reject_narrow(problem({1, 1, 5, 5, 64, 3})) != nullptr);
    CHECK(reject_narrow(problem({1, 1, 5, 5, 1, 129})) != nullptr);
    CHECK(reject_narrow(problem({3, 1, 5, 5, 1, 8})) != nullptr);
    CHECK(reject_narrow(conv2d_problem({1, 1}, {1, 5, 5, 1}, {8, 1, 1, 1})) != nullptr);
}
