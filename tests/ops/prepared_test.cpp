// Every convolution prepared for inference, on every instruction set of this machine, against the
// definition: values, exactness, bands, threads, guards.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "layers/conv2d_prepared.hpp"
#include "layers/extents.hpp"
#include "support/random_tensor.hpp"
#include "tensor/isa.hpp"
#include "tensor/larger_or_nan.hpp"

using namespace lumachrome;

namespace {

// Of the largest output. Winograd's F(6x6,3x3) comes to 3e-5 with 512 channels, everything else to
// less; a wrong weight or a pixel left out to more than 1e-2.
constexpr double kTolerance = 1e-4;
constexpr int64_t kGuard = 64;
constexpr int64_t kMostCuts = 7;  // of a map into bands

struct Case {
    PreparedConv2dProblem p;
    Tensor x, w, bias;
};

Case make_case(Conv2dSpec spec, bool upsample, Shape x, int64_t K, bool integers = false) {
    const Shape w{K, spec.kernel, spec.kernel, x[3]};
    Case c{prepared_problem(spec, x, w, upsample), random_tensor(x, 1, DType::f32, -4, 4),
           random_tensor(w, 2, DType::f32, -4, 4), random_tensor({16, K}, 3, DType::f32, -4, 4)};
    if (integers)
        for (const Tensor& t : {c.x, c.w, c.bias})
            for (int64_t i = 0; i < t.numel(); ++i)
                t.data<float>()[i] = std::round(t.data<float>()[i]);
    return c;
}

// Odd sizes, one pixel, less than a register and more than a panel of channels, ends of every kind.
std::vector<Case> cases(bool integers = false) {
    std::vector<Case> all;
    const auto add = [&](Conv2dSpec spec, bool upsample, Shape x, int64_t K) {
        all.push_back(make_case(spec, upsample, x, K, integers));
    };
    for (const int64_t kernel : {1, 3}) add({kernel, 1}, false, {1, 9, 11, 18}, 21);
    add({3, 1}, false, {1, 1, 1, 3}, 5);
    add({3, 1}, false, {1, 2, 29, 33}, 18);
    add({3, 1}, false, {1, 13, 1, 16}, 33);
    add({3, 1}, false, {1, 30, 31, 64}, 64);
    add({3, 1}, false, {1, 40, 50, 20}, 40);
    add({3, 1}, false, {1, 14, 15, 130}, 70);
    add({3, 1}, false, {1, 12, 14, 32}, 2);
    add({3, 2}, false, {1, 15, 18, 12}, 20);
    add({3, 2}, false, {1, 16, 33, 64}, 64);
    add({3, 2}, false, {1, 26, 23, 1}, 64);
    add({3, 1}, true, {1, 6, 7, 16}, 12);
    add({3, 1}, true, {1, 1, 9, 20}, 64);
    add({3, 1}, true, {1, 17, 12, 64}, 32);
    return all;
}

Tensor run(const PreparedConv2dImpl& impl, const Case& c, const Tensor& packed, int threads = 2) {
    const Tensor y = Tensor::full({1, c.p.P, c.p.Q, c.p.K}, std::nanf(""));
    impl.kernel.run(Exec{{}, threads}, c.p, packed, c.bias.data<float>(),
                    {c.x.data<float>(), {0, c.p.H}}, {y.data<float>(), {0, c.p.P}});
    return y;
}
Tensor run(const PreparedConv2dImpl& impl, const Case& c) {
    return run(impl, c, impl.kernel.pack(Exec{{}, 2}, c.p, c.w));
}
const PreparedConv2dImpl& naive() {
    return conv2d_prepared_cpu().back();
}

template <class Check>
void for_each_fast(const std::vector<Case>& all, const Check& check) {
    for (const Case& c : all) {
        const Tensor expected = run(naive(), c);
        for (const Isa one : supported_isas()) {
            const ForcedIsa forced(one);
            for (const PreparedConv2dImpl& impl : conv2d_prepared_cpu()) {
                if (impl.reject(c.p)) continue;
                // The definition is slow, and the same on each.
                if (&impl == &naive() && (one != Isa::generic || c.p.H > 50)) continue;
                CAPTURE(impl.name);
                CAPTURE(name(one));
                CAPTURE(c.p.str());
                check(impl, c, expected);
            }
        }
    }
}

void check_close(const Tensor& y, const Tensor& expected) {
    double error = 0, scale = 0;
    for (int64_t i = 0; i < y.numel(); ++i) {
        const double difference = std::fabs(y.item(i) - expected.item(i));
        error = larger_or_nan(error, difference);
        scale = std::max(scale, std::fabs(expected.item(i)));
    }
    CHECK(error <= kTolerance * scale);
}

// Rows of a map in memory of their own, with guards around.
struct Guarded {
    explicit Guarded(int64_t floats)
        : block(static_cast<size_t>(floats + 2 * kGuard), 7.0f), count(floats) {}
    float* data() { return block.data() + kGuard; }
    bool intact() const {
        const auto is_guard = [](float v) { return v == 7; };
        return std::all_of(block.begin(), block.begin() + kGuard, is_guard) &&
               std::all_of(block.end() - kGuard, block.end(), is_guard);
    }
    std::vector<float> block;
    int64_t count;
};

// The rows of `out`, from a band of x that holds no row more than they need.
bool band_equals(const PreparedConv2dImpl& impl, const Case& c, const Tensor& packed, Rows out,
                 const Tensor& whole) {
    const PreparedConv2dProblem& p = c.p;
    const Rows in = p.input_rows(out);
    Guarded x((in.end - in.begin) * p.W * p.C), y((out.end - out.begin) * p.Q * p.K);
    std::copy_n(c.x.data<float>() + in.begin * p.W * p.C, x.count, x.data());
    std::fill_n(x.block.begin(), kGuard, std::nanf(""));  // nobody looks there
    std::fill_n(x.block.end() - kGuard, kGuard, std::nanf(""));
    impl.kernel.run(Exec{{}, 2}, p, packed, c.bias.data<float>(), {x.data(), in}, {y.data(), out});
    return y.intact() && std::memcmp(y.data(), whole.data<float>() + out.begin * p.Q * p.K,
                                     static_cast<size_t>(y.count) * sizeof(float)) == 0;
}

}  // namespace

TEST_CASE("prepared convolutions agree with the definition") {
    std::vector<Case> all = cases();
    const std::optional<Activation> ends[] = {{}, Activation::relu, Activation::sigmoid};
    size_t i = 0;
    for (Case& c : all) {
        c.p.activation = ends[i++ % 3];
        // Outputs of size 1, so that sigmoid does not hide an error.
        if (c.p.activation == Activation::sigmoid)
            for (int64_t k = 0; k < c.w.numel(); ++k)
                c.w.data<float>()[k] /= static_cast<float>(9 * c.p.C);
    }
    for (Case c : cases())
        if (c.p.spec.kernel == 3 && c.p.spec.stride == 1 && !c.p.upsample) {
            c.p.border_bias = true;
            c.p.activation = ends[i++ % 2];
            all.push_back(c);
        }
    for_each_fast(all, [](const PreparedConv2dImpl& impl, const Case& c, const Tensor& expected) {
        check_close(run(impl, c), expected);
    });
}

TEST_CASE("prepared convolutions of small integers are exact") {
    for_each_fast(cases(true),
                  [](const PreparedConv2dImpl& impl, const Case& c, const Tensor& expected) {
                      const Tensor y = run(impl, c);
                      if (!impl.traits.exact) {
                          // Far above the rounding of these sums, far below a mistake.
                          for (int64_t i = 0; i < y.numel(); ++i)
                              y.data<float>()[i] = std::round(y.data<float>()[i]) + 0.0f;
                      }
                      CHECK(bit_equal(y, expected));
                  });
}

TEST_CASE("prepared convolutions give the same bits in any bands, and write nothing else") {
    std::vector<Case> all = cases();
    for (Case& c : all) c.p.activation = Activation::relu;
    for_each_fast(all, [](const PreparedConv2dImpl& impl, const Case& c, const Tensor&) {
        const Tensor packed = impl.kernel.pack(Exec{{}, 2}, c.p, c.w);
        const Tensor whole = run(impl, c, packed);
        REQUIRE(impl.kernel.row_step(c.p) > 0);
        const int64_t steps = divide_up(c.p.P, impl.kernel.row_step(c.p));
        const int64_t step = impl.kernel.row_step(c.p) * divide_up(steps, kMostCuts);
        bool same = true;
        for (int64_t begin = 0; begin < c.p.P; begin += step) {
            same &= band_equals(impl, c, packed, {begin, c.p.P}, whole);
            same &= band_equals(impl, c, packed, {0, std::min(c.p.P, begin + step)}, whole);
            same &= band_equals(impl, c, packed, {begin, std::min(c.p.P, begin + step)}, whole);
        }
        CHECK(same);
    });
}

TEST_CASE("prepared convolutions give the same bits on any number of threads") {
    std::vector<Case> all = cases();
    all.push_back(make_case({3, 1}, false, {1, 96, 91, 272}, 2));  // many blocks, many channels
    all.push_back(make_case({3, 1}, false, {1, 91, 96, 16}, 40));  // and few
    for_each_fast(all, [](const PreparedConv2dImpl& impl, const Case& c, const Tensor& expected) {
        const Tensor packed = impl.kernel.pack(Exec{{}, 1}, c.p, c.w);
        const Tensor alone = run(impl, c, packed, 1);
        check_close(alone, expected);
        CHECK(bit_equal(impl.kernel.pack(Exec{{}, 3}, c.p, c.w), packed));
        for (const int threads : {2, 3, 4, 8})
            CHECK(bit_equal(run(impl, c, packed, threads), alone));
    });
}

TEST_CASE("prepared convolutions let NaN pass") {
    std::vector<Case> all = cases();
    for (Case& c : all) {
        c.p.activation = Activation::relu;
        c.x.data<float>()[c.x.numel() / 2] = std::nanf("");
    }
    for_each_fast(all, [](const PreparedConv2dImpl& impl, const Case& c, const Tensor& expected) {
        const Tensor y = run(impl, c);
        bool passed = true;
        for (int64_t i = 0; i < y.numel(); ++i)
            passed &= !std::isnan(expected.item(i)) || std::isnan(y.item(i));
        CHECK(passed);
    });
}

TEST_CASE("a kernel larger than 3x3 is left to the definition") {
    for (const bool upsample : {false, true})
        for (const int64_t outputs : {1, 2, 16})
            for (const int64_t stride : {1, 2}) {
                const PreparedConv2dProblem p =
                    prepared_problem({5, stride}, {1, 9, 11, 16}, {outputs, 5, 5, 16}, upsample);
                for (const PreparedConv2dImpl& impl : conv2d_prepared_cpu()) {
                    CAPTURE(impl.name);
                    CHECK((impl.reject(p) == nullptr) == (&impl == &naive()));
                }
            }
}

TEST_CASE("a prepared convolution needs one photo") {
    CHECK_THROWS_AS(prepared_problem({3, 1}, {2, 5, 5, 3}, {4, 3, 3, 3}, false), ShapeError);
    CHECK_THROWS_AS(prepared_problem({3, 1}, {1, 5, 5, 3}, {4, 3, 3, 2}, false), ShapeError);
}
