#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "support/random_tensor.hpp"
#include "tensor/choose.hpp"
#include "tensor/error.hpp"
#include "tensor/exec.hpp"
#include "tensor/gemm.hpp"
#include "tensor/storage.hpp"

using namespace lumachrome;

TEST_CASE("shapes count, print and refuse nonsense") {
    CHECK(Shape{2, 3, 4, 5}.numel() == 120);
    CHECK(Shape{2, 3, 4, 5}.rows() == 24);
    CHECK(Shape{}.numel() == 1);
    CHECK(Shape{7, 0}.numel() == 0);
    CHECK(Shape{2, 3}.str() == "2x3");
    CHECK_THROWS_AS((Shape{1, -1}), ShapeError);
    CHECK_THROWS_AS((Shape{int64_t{1} << 40, int64_t{1} << 40}), ShapeError);
    CHECK_THROWS_AS((Shape{1, 1, 1, 1, 1}), ShapeError);
}

TEST_CASE("tensors share on copy and copy on clone") {
    const Tensor a = random_tensor({2, 3}, 1);
    const Tensor shared = a.reshape({3, 2}), copy = a.clone();
    a.data<float>()[0] = 9;
    CHECK(shared.data<float>()[0] == 9);
    CHECK(copy.data<float>()[0] != 9);
    CHECK(a.batch(1).data<float>()[0] == a.data<float>()[3]);
    CHECK(a.batch(1).shape() == Shape{1, 3});
    CHECK_THROWS_AS(a.batch(2), ShapeError);
    CHECK_THROWS_AS(a.reshape({5}), ShapeError);
    CHECK_THROWS_AS(a.data<double>(), Error);
    CHECK_THROWS_AS(Tensor::empty({1}, DType::f32, {Device::cuda, 99}), ResourceError);
}

TEST_CASE("meta tensors have a shape and no memory") {
    const Tensor meta =
        Tensor::empty({int64_t{1} << 20, int64_t{1} << 20}, DType::f32, {Device::meta});
    CHECK(meta.numel() == int64_t{1} << 40);
    CHECK_THROWS_AS(meta.raw(), Error);
}

#if !defined(__SANITIZE_ADDRESS__)  // there every tensor is allocated by itself
TEST_CASE("memory given back is handed out again") {
    { const Tensor warm = Tensor::empty({1000, 1000}); }
    const int64_t before = storage_counters().system_allocations;
    for (int i = 0; i < 10; ++i) const Tensor t = Tensor::empty({1000, 1000});
    CHECK(storage_counters().system_allocations == before);
}

TEST_CASE("room that neighbours gave back fits a larger tensor") {
    const auto begin = [](const Tensor& t) { return reinterpret_cast<uintptr_t>(t.raw()); };
    uintptr_t old_begin = 0, old_end = 0;
    {
        const Tensor a = Tensor::empty({3000, 1000}), b = Tensor::empty({3000, 1000});
        old_begin = std::min(begin(a), begin(b));
        old_end = std::max(begin(a), begin(b)) + uintptr_t(b.bytes());
    }
    const Tensor whole = Tensor::empty({6000, 1000});
    CHECK(begin(whole) < old_end);
    CHECK(begin(whole) + uintptr_t(whole.bytes()) > old_begin);
    whole.fill(1);
    release_cached_storage();  // takes nothing that is in use
    CHECK(whole.item(5'999'999) == 1);
}
#endif

TEST_CASE("half and bfloat16 round to nearest even and keep special values") {
    CHECK(float_to_f16(1) == 0x3c00);
    CHECK(float_to_f16(65504) == 0x7bff);
    CHECK(float_to_f16(65520) == 0x7c00);
    CHECK(float_to_f16(-0.0f) == 0x8000);
    CHECK(float_to_f16(0x1p-24f) == 1);
    CHECK(float_to_f16(0x1p-25f) == 0);  // a tie goes to even
    CHECK(float_to_f16(1 + 0x1p-11f) == 0x3c00);
    CHECK(float_to_f16(1 + 3 * 0x1p-11f) == 0x3c02);
    CHECK(std::isnan(f16_to_float(float_to_f16(NAN))));
    CHECK(float_to_bf16(1) == 0x3f80);
    CHECK(std::isnan(bf16_to_float(float_to_bf16(NAN))));
    for (uint32_t bits = 0; bits < 0x10000; ++bits) {
        const float value = f16_to_float(static_cast<uint16_t>(bits));
        if (!std::isnan(value)) REQUIRE(float_to_f16(value) == bits);
        const float wide = bf16_to_float(static_cast<uint16_t>(bits));
        if (!std::isnan(wide)) REQUIRE(float_to_bf16(wide) == bits);
    }
}

TEST_CASE("all two-byte numbers widen exactly, NaN payloads included") {
    std::vector<uint16_t> bits(0x10000);
    for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<uint16_t>(i);
    std::vector<float> wide(bits.size());
    const auto bits_at = [&](size_t i) {
        uint32_t raw;
        std::memcpy(&raw, &wide[i], sizeof raw);
        return raw;
    };
    widen(DType::f16, bits.data(), 0x10000, wide.data());
    for (uint32_t i = 0; i < 0x10000; ++i) {
        const uint32_t sign = (i & 0x8000) << 16, mantissa = i & 0x3ff;
        const int exponent = static_cast<int>(i >> 10 & 0x1f);
        uint32_t expected = sign | 0x7f800000 | mantissa << 13;  // infinity and NaN
        if (exponent < 31) {
            const double units = exponent ? 1024.0 + mantissa : mantissa;
            const auto value = static_cast<float>(std::ldexp(units, std::max(exponent, 1) - 25));
            std::memcpy(&expected, &value, sizeof expected);
            expected |= sign;
        }
        REQUIRE(bits_at(i) == expected);
    }
    widen(DType::bf16, bits.data(), 0x10000, wide.data());
    for (uint32_t i = 0; i < 0x10000; ++i) REQUIRE(bits_at(i) == i << 16);
    // Any length, and nothing beyond it.
    for (int64_t count = 0; count < 40; ++count) {
        std::fill(wide.begin(), wide.end(), -3.0f);
        widen(DType::f16, bits.data() + 0x3c01, count, wide.data());
        for (int64_t i = 0; i < 40; ++i)
            REQUIRE(wide[size_t(i)] ==
                    (i < count ? f16_to_float(static_cast<uint16_t>(0x3c01 + i)) : -3.0f));
    }
    CHECK_THROWS_AS(widen(DType::f32, bits.data(), 1, wide.data()), Error);
}

TEST_CASE("Philox gives the published values") {
    // Known-answer vectors of Random123 (Salmon et al., SC 2011).
    using Four = std::array<uint32_t, 4>;
    CHECK(philox4x32({0, 0, 0, 0}, {0, 0}) == Four{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
    CHECK(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}) ==
          Four{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
    CHECK(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
          Four{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("random draws have the moments they promise") {
    Random random(1, Random::Purpose::test);
    double sum = 0, square = 0, normal_square = 0;
    for (int i = 0; i < 100000; ++i) {
        const double u = random.uniform(), n = random.normal();
        sum += u;
        square += u * u;
        normal_square += n * n;
        REQUIRE(random.below(7) < 7);
    }
    CHECK(sum / 1e5 == doctest::Approx(0.5).epsilon(0.01));
    CHECK(square / 1e5 == doctest::Approx(1.0 / 3).epsilon(0.01));
    CHECK(normal_square / 1e5 == doctest::Approx(1).epsilon(0.02));
}

TEST_CASE("gemm multiplies in all four orders, assigns over NaN and accumulates") {
    const int64_t m = 5, n = 7, k = 300;
    const Tensor a = random_tensor({m, k}, 1, DType::f64), at = Tensor::empty({k, m}, DType::f64);
    const Tensor b = random_tensor({k, n}, 2, DType::f64), bt = Tensor::empty({n, k}, DType::f64);
    for (int64_t i = 0; i < m; ++i)
        for (int64_t j = 0; j < k; ++j) at.data<double>()[j * m + i] = a.data<double>()[i * k + j];
    for (int64_t i = 0; i < k; ++i)
        for (int64_t j = 0; j < n; ++j) bt.data<double>()[j * k + i] = b.data<double>()[i * n + j];
    for (bool ta : {false, true})
        for (bool tb : {false, true})
            for (float beta : {0.0f, 1.0f}) {
                const Tensor c = Tensor::full({m, n}, beta == 0 ? std::nan("") : 3, DType::f64);
                gemm<double>({(ta ? at : a).data<double>(), ta ? k : m, ta ? m : k, ta ? m : k, ta},
                             {(tb ? bt : b).data<double>(), tb ? n : k, tb ? k : n, tb ? k : n, tb},
                             c.data<double>(), n, beta);
                for (int64_t i = 0; i < m; ++i)
                    for (int64_t j = 0; j < n; ++j) {
                        double sum = beta == 0 ? 0 : 3;
                        for (int64_t l = 0; l < k; ++l)
                            sum += a.data<double>()[i * k + l] * b.data<double>()[l * n + j];
                        CHECK(c.data<double>()[i * n + j] == doctest::Approx(sum).epsilon(1e-12));
                    }
            }
}

TEST_CASE("parallel_for runs each task once for any number of threads") {
    for (int threads : {1, 2, 4, 8}) {
        std::vector<int> seen(1000);
        parallel_for(Exec{{}, threads}, 1000, [&](int64_t i) { ++seen[static_cast<size_t>(i)]; });
        CHECK(seen == std::vector<int>(1000, 1));
    }
}

namespace {
using Numbers = Implementation<int, int>;
constexpr Numbers kNumbers[] = {
    {"even", [](const int& n) { return n % 2 ? "is odd" : nullptr; }, 2}, {"any", accepts_all, 1}};
}  // namespace

TEST_CASE("choose takes the first that accepts, obeys force, and explains itself") {
    const std::span<const Numbers> list = kNumbers;
    std::string line;
    explain_sink() = [&](const std::string& text) { line = text; };
    CHECK(choose("numbers", list, 4) == 2);
    CHECK(choose("numbers", list, 3) == 1);
    CHECK(line == "numbers: any (even: is odd)");
    explain_sink() = nullptr;
    const std::string kept = forced_choices();
    force_implementations("other:x,numbers:any");
    CHECK(choose("numbers", list, 4) == 1);
    force_implementations("numbers:even");
    CHECK(choose("numbers", list, 3) == 1);  // it cannot
    force_implementations(kept);
}
