// The convolution on warpgroup products against the definition, in double on the same bf16 values.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "layers/conv2d_wgmma.hpp"
#include "layers/fusion.hpp"
#include "support/device.hpp"
#include "support/random_tensor.hpp"
#include "tensor/larger_or_nan.hpp"

using namespace lumachrome;

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
// Sums are in f32, at most 1e4 terms; results round to bf16, 8 bits.
constexpr double kSumError = 1e-5, kBf16Error = 1.0 / 256;

struct Case {
    int64_t kernel, stride, N, H, W, C, K;
};

// Values that bf16 has.
Tensor values(Shape shape, uint32_t stream) {
    return random_tensor(shape, stream, DType::f32, -1, 1).to(DType::bf16).to(DType::f64);
}

// Largest difference relative to the largest value.
double error_of(const Tensor& result, const Tensor& expected) {
    const Tensor got = result.to(Device{}).to(DType::f64);
    double error = 0, scale = 1e-300;
    for (int64_t i = 0; i < got.numel(); ++i) {
        const double difference = std::fabs(got.data<double>()[i] - expected.data<double>()[i]);
        error = larger_or_nan(error, difference);
        scale = std::max(scale, std::fabs(expected.data<double>()[i]));
    }
    return error / scale;
}

// Everything of one case on the CPU, in double.
struct Reference {
    explicit Reference(const Case& c)
        : spec{c.kernel, c.stride},
          x(values({c.N, c.H, c.W, c.C}, 1)),
          w(values({c.K, c.kernel, c.kernel, c.C}, 2)),
          b(values({c.K}, 3)),
          problem(conv2d_problem(spec, x.shape(), w.shape(), DType::bf16)),
          dy(values({c.N, problem.P, problem.Q, c.K}, 4)),
          y(Tensor::empty(dy.shape(), DType::f64)),
          dx(Tensor::empty(x.shape(), DType::f64)),
          dw(Tensor::empty(w.shape(), DType::f64)) {
        const ForcedImplementations forced("conv2d:naive");
        Conv2dProblem wide = problem;
        wide.dtype = DType::f64;
        const Exec exec{{}, 2};
        const Conv2dKernel& kernel = choose_conv2d(exec, wide);
        kernel.forward(exec, wide, x, w, b, y);
        kernel.grad_input(exec, wide, dy, w, {dx, 0});
        kernel.grad_weight(exec, wide, x, dy, {dw, 0});
    }
    Conv2dSpec spec;
    Tensor x, w, b;
    Conv2dProblem problem;
    Tensor dy, y, dx, dw;
};

Tensor on_gpu(const Tensor& t, DType dtype) {
    return t.to(dtype).to(support::kGpu);
}
Tensor filled(const Shape& shape, DType dtype, double value) {
    return Tensor::full(shape, value, dtype, support::kGpu);
}
// expected + 1, after a gradient was added to ones.
Tensor plus_one(const Tensor& expected) {
    const Tensor t = expected.clone();
    for (int64_t i = 0; i < t.numel(); ++i) t.data<double>()[i] += 1;
    return t;
}

bool no_hopper() {
    if (support::no_gpu()) return true;
    const cuda::Properties& gpu = cuda::properties(0);
    return gpu.major != 9 || gpu.minor != 0;
}

const Case kCases[] = {
    // kernel, stride, N, H, W, C, K
    {3, 1, 1, 5, 7, 64, 32},    // one tile, not full
    {3, 1, 3, 7, 5, 8, 40},     // eight taps in a stage, columns to spare
    {3, 2, 3, 9, 7, 24, 32},    // odd sizes; a stage holds parts of three taps
    {3, 2, 1, 8, 10, 72, 64},   // even sizes; channels past a stage
    {1, 1, 3, 7, 9, 64, 136},   // a second tile of columns
    {1, 2, 2, 9, 6, 40, 64},    // phases without a tap
    {3, 1, 1, 1, 1, 16, 32},    // nothing but border
    {3, 2, 1, 1, 3, 16, 32},    // a map one cell high: two phases are empty
    {3, 1, 2, 13, 17, 8, 32},   // several tiles of rows to a block
    {3, 1, 1, 4, 5, 128, 128},  // many stages
    {3, 1, 3, 17, 19, 8, 72},   // enough rows for the larger tile
    {1, 1, 4, 15, 14, 8, 64},   // the same with fewer columns
};

}  // namespace

TEST_CASE("warpgroup products: every pass of a convolution agrees with the definition" *
          doctest::skip(no_hopper())) {
    const Exec exec{support::kGpu, 1};
    for (const Case& c : kCases) {
        const Reference r(c);
        CAPTURE(r.problem.spec.kernel);
        CAPTURE(r.problem.spec.stride);
        CAPTURE(r.x.shape().str());
        CAPTURE(r.problem.K);
        REQUIRE(reject_wgmma(r.problem) == nullptr);
        const Tensor x = on_gpu(r.x, DType::bf16), dy = on_gpu(r.dy, DType::bf16);
        const Tensor w = on_gpu(r.w, DType::f32), b = on_gpu(r.b, DType::f32);

        const Tensor y = filled(r.y.shape(), DType::bf16, kNan);
        conv2d_forward_wgmma(exec, r.problem, x, w, b, y);
        CHECK(error_of(y, r.y) < kBf16Error);

        const Tensor dx = filled(r.x.shape(), DType::bf16, kNan);
        conv2d_grad_input_wgmma(exec, r.problem, dy, w, {dx, 0});
        CHECK(error_of(dx, r.dx) < kBf16Error);
        const Tensor dx_more = filled(r.x.shape(), DType::bf16, 1);
        conv2d_grad_input_wgmma(exec, r.problem, dy, w, {dx_more, 1});
        CHECK(error_of(dx_more, plus_one(r.dx)) < kBf16Error);

        const Tensor dw = filled(r.w.shape(), DType::f32, kNan);
        conv2d_grad_weight_wgmma(exec, r.problem, x, dy, {dw, 0});
        CHECK(error_of(dw, r.dw) < kSumError);
        const Tensor dw_more = filled(r.w.shape(), DType::f32, 1);
        conv2d_grad_weight_wgmma(exec, r.problem, x, dy, {dw_more, 1});
        CHECK(error_of(dw_more, plus_one(r.dw)) < kSumError);
    }
}

TEST_CASE("warpgroup products: bits are the same from run to run" * doctest::skip(no_hopper())) {
    const Exec exec{support::kGpu, 1};
    const Reference r({3, 2, 2, 9, 9, 24, 40});
    const Tensor x = on_gpu(r.x, DType::bf16), dy = on_gpu(r.dy, DType::bf16);
    const Tensor w = on_gpu(r.w, DType::f32);
    const auto run = [&] {
        const Tensor y = filled(r.y.shape(), DType::bf16, kNan);
        const Tensor dx = filled(r.x.shape(), DType::bf16, kNan);
        const Tensor dw = filled(r.w.shape(), DType::f32, kNan);
        conv2d_forward_wgmma(exec, r.problem, x, w, {}, y);
        conv2d_grad_input_wgmma(exec, r.problem, dy, w, {dx, 0});
        conv2d_grad_weight_wgmma(exec, r.problem, x, dy, {dw, 0});
        return std::vector<Tensor>{y.to(Device{}), dx.to(Device{}), dw.to(Device{})};
    };
    const std::vector<Tensor> first = run(), second = run();
    for (size_t i = 0; i < first.size(); ++i) CHECK(bit_equal(first[i], second[i]));
}

TEST_CASE("warpgroup products: biases per border case and activations follow the sums" *
          doctest::skip(no_hopper())) {
    const Exec exec{support::kGpu, 1};
    const Reference r({3, 1, 2, 5, 6, 16, 40});
    const Tensor border = values({2, 16, 40}, 5);
    const Tensor x = on_gpu(r.x, DType::bf16);
    const Tensor w = on_gpu(r.w.reshape({40, 9 * 16}), DType::bf16);
    for (const bool with_border : {false, true})
        for (const Activation activation : {Activation::relu, Activation::sigmoid}) {
            const Tensor y = filled(r.y.shape(), DType::bf16, kNan);
            conv2d_forward_wgmma_packed(
                exec, r.problem, x, w, with_border ? Tensor() : on_gpu(r.b, DType::f32),
                with_border ? on_gpu(border, DType::f32) : Tensor(), activation, y);
            const Tensor expected = r.y.clone();
            for (int64_t i = 0; i < expected.numel(); ++i) {
                const int64_t k = i % 40, q = i / 40 % 6, p = i / 240 % 5, n = i / 1200;
                const int64_t which = n * 16 + border_case(p, 5) * 4 + border_case(q, 6);
                double& value = expected.data<double>()[i];
                if (with_border)
                    value += border.data<double>()[which * 40 + k] - r.b.data<double>()[k];
                value = activate_reference(activation, value);
            }
            CHECK(error_of(y, expected) < kBf16Error);
        }
}

TEST_CASE("warpgroup products say what they cannot do" * doctest::skip(no_hopper())) {
    const Conv2dProblem good = Reference({3, 1, 1, 2, 2, 8, 32}).problem;
    CHECK(reject_wgmma(good) == nullptr);
    const auto rejected = [&](auto&& change) {
        Conv2dProblem p = good;
        change(p);
        return reject_wgmma(p) != nullptr;
    };
    CHECK(rejected([](Conv2dProblem& p) { p.dtype = DType::f32; }));
    CHECK(rejected([](Conv2dProblem& p) { p.C = 12; }));
    CHECK(rejected([](Conv2dProblem& p) { p.K = 36; }));
    CHECK(rejected([](Conv2dProblem& p) { p.K = 24; }));
    CHECK(rejected([](Conv2dProblem& p) { p.spec.kernel = 5; }));
    CHECK(rejected([](Conv2dProblem& p) { p.spec.stride = 3; }));
    CHECK(rejected([](Conv2dProblem& p) { p.N = int64_t{1} << 31; }));
}
