// Layers prepared for inference on a GPU: every implementation against the definition on the CPU.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>

#include "layers/conv2d_prepared_cuda.hpp"
#include "layers/linear_prepared_cuda.hpp"
#include "support/device.hpp"
#include "support/random_tensor.hpp"
#include "tensor/larger_or_nan.hpp"

using namespace lumachrome;

namespace {

// Weights and maps round by 2^-9 to bf16, results again; sums of f32 to some 1e-6.
constexpr double kBf16 = 1e-2, kF32 = 1e-5;

Tensor values(Shape shape, uint32_t stream, DType dtype = DType::f32) {
    return random_tensor(shape, stream, DType::f32, -1, 1).to(dtype);
}

double largest_error(const Tensor& result, const std::vector<double>& expected) {
    const Tensor y = result.to(Device{}).to(DType::f32);
    double scale = 0, worst = 0;
    for (double v : expected) scale = std::max(scale, std::fabs(v));
    for (int64_t i = 0; i < y.numel(); ++i) {
        const double error = std::fabs(y.item(i) - expected[size_t(i)]) / scale;
        worst = larger_or_nan(worst, error);
    }
    return worst;
}

double activated(std::optional<Activation> activation, double v) {
    return activation ? activate_reference(*activation, v) : v;
}

std::vector<double> define(const PreparedConv2dGpuProblem& p, const Tensor& x, const Tensor& w,
                           const Tensor& b) {
    std::vector<double> y;
    const int shift = p.upsample;
    for (int64_t n = 0; n < p.N; ++n)
        for (int64_t row = 0; row < p.P; ++row)
            for (int64_t q = 0; q < p.Q; ++q)
                for (int64_t k = 0; k < p.K; ++k) {
                    double sum = b.item(
                        p.border_bias
                            ? (n * 16 + border_case(row, p.P) * 4 + border_case(q, p.Q)) * p.K + k
                            : k);
                    for (int64_t r = 0; r < p.spec.kernel; ++r)
                        for (int64_t s = 0; s < p.spec.kernel; ++s) {
                            const int64_t h = row * p.spec.stride + r - p.spec.pad(),
                                          v = q * p.spec.stride + s - p.spec.pad();
                            if (h < 0 || h >= p.input_height() || v < 0 || v >= p.input_width())
                                continue;
                            for (int64_t c = 0; c < p.C; ++c)
                                sum +=
                                    w.item(((k * p.spec.kernel + r) * p.spec.kernel + s) * p.C +
                                           c) *
                                    x.item(((n * p.H + (h >> shift)) * p.W + (v >> shift)) * p.C +
                                           c);
                        }
                    y.push_back(activated(p.activation, sum));
                }
    return y;
}

}  // namespace

TEST_CASE("prepared convolutions on the GPU agree with the definition" *
          doctest::skip(support::no_gpu())) {
    const Exec exec{.device = support::kGpu, .threads = 2};
    struct {
        int64_t kernel, stride, N, H, W, C, K;
        bool upsample, border_bias;
        std::optional<Activation> activation;
    } const problems[] = {
        {3, 2, 2, 9, 14, 1, 8, false, false, Activation::relu},
        {3, 1, 1, 5, 70, 1, 24, false, false, {}},
        {3, 1, 2, 15, 37, 8, 2, false, false, Activation::sigmoid},
        {3, 1, 1, 3, 3, 16, 2, false, false, {}},
        {3, 1, 2, 4, 3, 8, 16, true, false, Activation::relu},
        {3, 1, 2, 4, 5, 8, 9, false, true, Activation::relu},
        {1, 1, 1, 4, 1, 16, 8, false, true, Activation::sigmoid},
        {3, 2, 1, 6, 7, 24, 8, false, false, Activation::relu},
        {3, 1, 2, 9, 13, 16, 40, false, false, Activation::relu},
        {3, 1, 2, 6, 5, 24, 32, false, true, Activation::relu},
        {3, 2, 1, 11, 10, 8, 48, false, false, {}},
    };
    std::set<std::string> tried;
    for (const auto& c : problems)
        for (DType in : {DType::f32, DType::bf16})
            for (DType out : {DType::f32, DType::bf16}) {
                const Shape shape{1, c.H, c.W, c.C}, filters{c.K, c.kernel, c.kernel, c.C};
                PreparedConv2dGpuProblem p{
                    prepared_problem({c.kernel, c.stride}, shape, filters, c.upsample)};
                p.activation = c.activation;
                p.border_bias = c.border_bias;
                p.N = c.N;
                p.in = in;
                p.out = out;
                CAPTURE(p.str());
                CAPTURE(name(out));
                const Tensor x = values({c.N, c.H, c.W, c.C}, 1, in), w = values(filters, 2);
                const Tensor b = values(c.border_bias ? Shape{c.N, 16 * c.K} : Shape{c.K}, 3);
                const std::vector<double> expected = define(p, x, w, b);
                const bool coarse = in == DType::bf16 || out == DType::bf16;
                for (const auto& implementation : conv2d_prepared_cuda()) {
                    if (implementation.reject(p)) continue;
                    const std::string name_of_it = implementation.name;
                    CAPTURE(name_of_it);
                    tried.insert(name_of_it);
                    const Tensor packed = implementation.kernel.pack(exec, p, w);
                    const Tensor y = Tensor::empty({c.N, p.P, p.Q, p.K}, out, exec.device);
                    y.fill(std::nan(""));
                    implementation.kernel.run(exec, p, x.to(exec.device), packed, b.to(exec.device),
                                              y);
                    CHECK(largest_error(y, expected) < (coarse ? kBf16 : kF32));
                }
            }
    // Each was tried; `wgmma` is Hopper's.
    const size_t other_gpu = cuda::properties(0).major != 9;
    CHECK(tried.size() + other_gpu == conv2d_prepared_cuda().size());
}

TEST_CASE("prepared fully connected layers on the GPU agree with the definition" *
          doctest::skip(support::no_gpu())) {
    const Exec exec{.device = support::kGpu, .threads = 2};
    const Shape problems[] = {{1, 8, 5}, {2, 600, 9}, {3, 40, 4}, {11, 264, 3}, {4, 7, 6}};
    for (const Shape& s : problems)  // N, I, O
        for (DType in : {DType::f32, DType::bf16})
            for (DType weights : {DType::f32, DType::bf16}) {
                const PreparedLinearGpuProblem p{s[0], s[1], s[2], in, weights, Activation::relu};
                CAPTURE(p.str());
                const Tensor x = values({p.N, p.I}, 1, in), w = values({p.O, p.I}, 2),
                             b = values({p.O}, 3);
                std::vector<double> expected;
                for (int64_t n = 0; n < p.N; ++n)
                    for (int64_t o = 0; o < p.O; ++o) {
                        double sum = b.item(o);
                        for (int64_t i = 0; i < p.I; ++i)
                            sum += w.item(o * p.I + i) * x.item(n * p.I + i);
                        expected.push_back(activated(p.activation, sum));
                    }
                for (const auto& implementation : linear_prepared_cuda()) {
                    if (implementation.reject(p)) continue;
                    CAPTURE(implementation.name);
                    const Tensor y = Tensor::empty({p.N, p.O}, DType::f32, exec.device);
                    implementation.kernel.run(exec, p, x.to(exec.device),
                                              implementation.kernel.pack(exec, p, w),
                                              b.to(exec.device), y);
                    CHECK(largest_error(y, expected) < (weights == DType::bf16 ? kBf16 : kF32));
                }
            }
}
