// What the op families do not ask of the convolutions of a GPU: small integers come out to the bit,
// whatever the tiles and parts a problem is cut into, in whatever order warps run; and the packed
// form of inference.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "layers/conv2d_mma_cuda.hpp"
#include "layers/fusion.hpp"
#include "support/device.hpp"
#include "tensor/larger_or_nan.hpp"
#include "tensor/random.hpp"

using namespace lumachrome;

namespace {

struct Case {
    int64_t kernel, stride, N, H, W, C, K;
    std::string str() const {
        return std::to_string(kernel) + "x" + std::to_string(kernel) + "/" +
               std::to_string(stride) + " " + Shape{N, H, W, C}.str() + " to " + std::to_string(K);
    }
    Conv2dProblem problem(DType dtype) const {
        return conv2d_problem({kernel, stride}, {N, H, W, C}, {K, kernel, kernel, C}, dtype);
    }
};

// Pointwise ones reach the large tiles in a single stage of depth; the emulated GPU has 4
// multiprocessors.
const Case kCases[] = {
    {1, 1, 1, 32, 32, 64, 128},  // tiles of 256 x 128; the pixels in two parts
    {1, 1, 2, 16, 16, 64, 120},  // of 128 x 128, with a tail
    {1, 1, 2, 16, 16, 32, 64},   // of 128 x 64
    {3, 1, 1, 7, 11, 24, 72},    // of 64 x 64; several stages, chunks of two taps in one
    {3, 2, 2, 9, 10, 16, 24},    // backward: four phases, odd and even sizes
    {1, 2, 1, 5, 6, 8, 8},       // backward: phases without a tap
    {5, 1, 1, 4, 6, 8, 8},       // 25 taps
    {3, 1, 2, 5, 4, 3, 5},       // channels that need padding
    {1, 1, 3, 1, 1, 2304, 40},   // the depth in parts: a fully connected layer
    {1, 1, 1, 1, 1, 2304, 5},
};

enum class Numbers { integers, uniform };

Tensor numbers(Shape shape, uint32_t stream, DType dtype, Numbers which) {
    Random random(11, Random::Purpose::test, stream);
    const Tensor t = Tensor::empty(shape, DType::f64);
    for (int64_t i = 0; i < t.numel(); ++i)
        t.data<double>()[i] = which == Numbers::integers ? static_cast<double>(random.below(5)) - 2
                                                         : random.uniform(-1, 1);
    return t.to(dtype).to(support::kGpu);
}

const Conv2dKernel& kernel_named(const std::string& name) {
    for (const Conv2dImpl& implementation : conv2d_cuda())
        if (implementation.name == name) return implementation.kernel;
    throw UsageError("no conv2d named " + name);
}

// y, dx, dw; gradients added to ones where beta is 1.
std::vector<Tensor> run(const Conv2dKernel& kernel, const Case& c, DType dtype, bool tf32,
                        Numbers which, float beta) {
    Exec exec{support::kGpu};
    exec.tf32 = tf32;
    const Conv2dProblem p = c.problem(dtype);
    const Shape x_shape{c.N, c.H, c.W, c.C}, w_shape{c.K, c.kernel, c.kernel, c.C},
        y_shape{p.N, p.P, p.Q, p.K};
    const Tensor x = numbers(x_shape, 1, dtype, which), dy = numbers(y_shape, 2, dtype, which);
    const Tensor w = numbers(w_shape, 3, DType::f32, which);
    const Tensor b = numbers({c.K}, 4, DType::f32, which);
    const double before = beta == 0 ? std::nan("") : 1;
    const Tensor y = Tensor::full(y_shape, std::nan(""), dtype, support::kGpu);
    const Tensor dx = Tensor::full(x_shape, before, dtype, support::kGpu);
    const Tensor dw = Tensor::full(w_shape, before, DType::f32, support::kGpu);
    kernel.forward(exec, p, x, w, b, y);
    kernel.grad_input(exec, p, dy, w, {dx, beta});
    kernel.grad_weight(exec, p, x, dy, {dw, beta});
    return {y.to(Device{}), dx.to(Device{}), dw.to(Device{})};
}

// Warps run in the other order where the GPU is the emulated one.
struct ReversedWarps {
    ReversedWarps() { setenv("LUMACHROME_EMULATOR_REVERSE", "1", 1); }
    ~ReversedWarps() { unsetenv("LUMACHROME_EMULATOR_REVERSE"); }
    ReversedWarps(const ReversedWarps&) = delete;
    ReversedWarps& operator=(const ReversedWarps&) = delete;
};

struct Way {
    DType dtype;
    bool tf32;
};
const Way kWays[] = {{DType::bf16, false}, {DType::f32, false}, {DType::f32, true}};

// activation(b + w * x) of host tensors, f64; x doubled before if asked for. bias [K] or [n,16,K].
Tensor expected(const Case& c, bool doubled, const Tensor& x, const Tensor& w, const Tensor& bias,
                bool border, std::optional<Activation> activation) {
    const int64_t scale = doubled ? 2 : 1;
    const Tensor wide = Tensor::empty({c.N, c.H * scale, c.W * scale, c.C}, DType::f64);
    const View<double> from = x.view<double>(), to = wide.view<double>();
    for (int64_t n = 0; n < c.N; ++n)
        for (int64_t h = 0; h < c.H * scale; ++h)
            for (int64_t v = 0; v < c.W * scale; ++v)
                for (int64_t k = 0; k < c.C; ++k) to(n, h, v, k) = from(n, h / scale, v / scale, k);
    const Conv2dProblem p = conv2d_problem({c.kernel, c.stride}, wide.shape(), w.shape());
    const Tensor none = Tensor::zeros({c.K}, DType::f64);
    const Tensor y = Tensor::empty({p.N, p.P, p.Q, p.K}, DType::f64);
    conv2d_reference<double>(p.spec, wide.view<const double>(), w.view<const double>(),
                             none.view<const double>(), y.view<double>());
    for (int64_t i = 0; i < y.numel(); ++i) {
        const int64_t k = i % p.K, q = i / p.K % p.Q, row = i / p.K / p.Q % p.P,
                      n = i / p.K / p.Q / p.P;
        const int64_t photo = border && bias.shape()[0] > 1 ? n : 0;
        const int64_t at =
            border ? (photo * 16 + 4 * border_case(row, p.P) + border_case(q, p.Q)) * p.K + k : k;
        double& value = y.data<double>()[i];
        if (bias.defined()) value += bias.data<double>()[at];
        if (activation) value = activate_reference(*activation, value);
    }
    return y;
}

}  // namespace

TEST_CASE("convolutions of small integers on tensor cores are exact to the bit" *
          doctest::skip(support::no_gpu())) {
    for (const Case& c : kCases)
        for (const Way& way : kWays)
            for (float beta : {0.0f, 1.0f}) {
                if (beta == 1 && c.C * c.K > 2000) continue;  // the same code as in the small ones
                const auto definition =
                    run(kernel_named("naive"), c, way.dtype, way.tf32, Numbers::integers, beta);
                const auto mma =
                    run(kernel_named("mma"), c, way.dtype, way.tf32, Numbers::integers, beta);
                CAPTURE(c.str());
                CAPTURE(name(way.dtype));
                CAPTURE(way.tf32);
                for (size_t i = 0; i < mma.size(); ++i) {
                    CAPTURE(i);
                    CHECK(bit_equal(mma[i], definition[i]));
                }
            }
}

TEST_CASE("convolutions give the same bits run after run, in whatever order warps run" *
          doctest::skip(support::no_gpu())) {
    for (const std::string name : {"mma", "tiled"})
        for (const Case& c : {kCases[3], kCases[4], kCases[8]})
            for (const Way& way : kWays) {
                const auto once =
                    run(kernel_named(name), c, way.dtype, way.tf32, Numbers::uniform, 0);
                const ReversedWarps reversed;
                const auto again =
                    run(kernel_named(name), c, way.dtype, way.tf32, Numbers::uniform, 0);
                CAPTURE(c.str());
                for (size_t i = 0; i < once.size(); ++i) CHECK(bit_equal(once[i], again[i]));
            }
}

TEST_CASE("one tf32 product rounds factors to 10 bits, three do not" *
          doctest::skip(support::no_gpu())) {
    const Case c{3, 1, 1, 6, 5, 16, 8};
    const auto exact = run(kernel_named("naive"), c, DType::f32, false, Numbers::uniform, 0);
    for (bool tf32 : {false, true}) {
        const auto mma = run(kernel_named("mma"), c, DType::f32, tf32, Numbers::uniform, 0);
        for (size_t i = 0; i < mma.size(); ++i) {
            double error = 0, scale = 0;
            for (int64_t k = 0; k < mma[i].numel(); ++k) {
                error = larger_or_nan(error, std::fabs(mma[i].item(k) - exact[i].item(k)));
                scale = std::max(scale, std::fabs(exact[i].item(k)));
            }
            // Two factors rounded by 2^-11 each, and sums that are smaller than their terms'.
            CHECK(error / scale < (tf32 ? 4e-3 : 2e-6));
            if (tf32) CHECK(error / scale > 1e-5);
        }
    }
}

TEST_CASE("packed convolutions: bias, border bias, activation, doubled maps" *
          doctest::skip(support::no_gpu())) {
    struct {
        Case c;
        bool doubled, border;
        int64_t border_photos;
    } const cases[] = {
        {{3, 1, 2, 5, 6, 16, 24}, false, false, 0}, {{3, 1, 2, 5, 6, 16, 24}, false, true, 2},
        {{3, 1, 2, 1, 3, 8, 8}, false, true, 1},    {{3, 1, 2, 5, 6, 16, 24}, true, false, 0},
        {{3, 1, 1, 1, 1, 8, 5}, true, true, 1},     {{3, 2, 1, 8, 7, 12, 40}, false, false, 0},
        {{1, 1, 2, 1, 1, 2304, 16}, false, true, 2}};
    for (const auto& t : cases)
        for (const Way& way : kWays)
            for (const DType out : {way.dtype, DType::f32}) {
                Exec exec{support::kGpu};
                exec.tf32 = way.tf32;
                const Case& c = t.c;
                const Tensor x = numbers({c.N, c.H, c.W, c.C}, 1, way.dtype, Numbers::integers);
                const Tensor w =
                    numbers({c.K, c.kernel, c.kernel, c.C}, 2, DType::f32, Numbers::integers);
                const Tensor bias =
                    t.border ? numbers({t.border_photos, 16, c.K}, 3, DType::f32, Numbers::integers)
                             : numbers({c.K}, 3, DType::f32, Numbers::integers);
                const Tensor want = expected(
                    c, t.doubled, x.to(Device{}).to(DType::f64), w.to(Device{}).to(DType::f64),
                    bias.to(Device{}).to(DType::f64), t.border, Activation::relu);
                Conv2dProblem p = c.problem(way.dtype);
                p.P = want.shape()[1];
                p.Q = want.shape()[2];
                const Tensor packed = pack_conv2d_weights_cuda(exec, w, way.dtype, t.doubled);
                const Tensor y = Tensor::full(want.shape(), std::nan(""), out, support::kGpu);
                conv2d_packed_cuda(exec, p, t.doubled, x, packed,
                                   {&bias, t.border, Activation::relu}, y);
                CAPTURE(c.str());
                CHECK(bit_equal(y.to(Device{}), want.to(DType::f32).to(out)));
            }
    const Exec exec{support::kGpu};
    const Tensor w = numbers({8, 3, 3, 8}, 1, DType::f32, Numbers::integers);
    const Tensor x = numbers({1, 4, 4, 8}, 2, DType::f32, Numbers::integers);
    const Tensor y = Tensor::empty({1, 4, 4, 8}, DType::f32, support::kGpu);
    const Conv2dProblem p = conv2d_problem({3, 1}, x.shape(), w.shape());
    CHECK_THROWS_AS(conv2d_packed_cuda(exec, p, false, x,
                                       pack_conv2d_weights_cuda(exec, w, DType::f32, true), {}, y),
                    ShapeError);
    CHECK_THROWS_AS(
        pack_conv2d_weights_cuda(exec, numbers({8, 1, 1, 8}, 1, DType::f32, Numbers::integers),
                                 DType::f32, true),
        ShapeError);
}

TEST_CASE("bias gradients of integers are exact over many rows" *
          doctest::skip(support::no_gpu())) {
    const Exec exec{support::kGpu};
    for (const Shape& shape : {Shape{3, 40, 31, 24}, Shape{7000, 2}, Shape{2, 520}, Shape{1, 3}})
        for (DType dtype : {DType::bf16, DType::f32, DType::f64})
            for (float beta : {0.0f, 1.0f}) {
                const Tensor dy = numbers(shape, 5, dtype, Numbers::integers);
                const DType sums = dtype == DType::f64 ? DType::f64 : DType::f32;
                const Tensor db =
                    Tensor::full({shape.back()}, beta == 0 ? std::nan("") : 1, sums, support::kGpu);
                grad_bias(exec, dy, {db, beta});
                const Tensor here = dy.to(Device{}).to(DType::f64), got = db.to(Device{});
                for (int64_t k = 0; k < shape.back(); ++k) {
                    double sum = beta;
                    for (int64_t i = k; i < here.numel(); i += shape.back())
                        sum += here.data<double>()[i];
                    CHECK(got.item(k) == sum);
                }
            }
}
