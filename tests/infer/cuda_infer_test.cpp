// Inference on a GPU against the network as the CPU runs it, in every variant.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "model/infer/inference.hpp"
#include "model/infer/passes.hpp"
#include "support/device.hpp"
#include "support/random_tensor.hpp"
#include "support/trained_network.hpp"
#include "tensor/choose.hpp"
#include "tensor/error.hpp"
#include "tensor/larger_or_nan.hpp"
#include "tensor/random.hpp"

using namespace lumachrome;

namespace {

// Rounding of f32 sums, and four roundings to bf16 (2^-9 each), of values about 1.
constexpr double kToleranceF32 = 1e-4, kToleranceBf16 = 1.6e-2;

Exec gpu(DType maps = DType::f32) {
    return {.device = support::kGpu, .threads = 2, .maps = maps};
}

ColorNet network(Spec spec) {
    spec.classes = 7;
    return trained_network(spec);
}

Spec smallest() {
    Spec spec = preset("tiny");
    spec.width_divisor = 32;
    spec.global_size = 16;
    return spec;
}

std::vector<Tensor> inputs(const Inference& inference, int64_t height, int64_t width, int64_t side,
                           int64_t photos = 1) {
    std::vector<Tensor> in{random_tensor({photos, height, width, 1}, 1, DType::f32, -0.5, 0.5)};
    if (inference.takes_copy(height, width))
        in.push_back(random_tensor({photos, side, side, 1}, 2, DType::f32, -0.5, 0.5));
    return in;
}

std::vector<Tensor> eager(ColorNet& net, const std::vector<Tensor>& in) {
    Tape tape(Phase::eval, Exec{{}, 2});
    const Var x = tape.input(in[0]);
    const ColorNet::Output out = net(x, in.size() > 1 ? tape.input(in[1]) : x);
    std::vector<Tensor> outputs{out.color.value};
    if (out.logits) outputs.push_back(out.logits->value);
    return outputs;
}

// Colours lie in 0..1; logits are compared relative to the largest.
void check_close(const std::vector<Tensor>& result, const std::vector<Tensor>& expected,
                 double tolerance) {
    REQUIRE(result.size() == expected.size());
    for (size_t k = 0; k < result.size(); ++k) {
        REQUIRE(result[k].shape() == expected[k].shape());
        double scale = 1, worst = 0;
        for (int64_t i = 0; i < expected[k].numel(); ++i)
            scale = std::max(scale, std::fabs(expected[k].item(i)));
        for (int64_t i = 0; i < expected[k].numel(); ++i) {
            const double error = std::fabs(result[k].item(i) - expected[k].item(i));
            worst = larger_or_nan(worst, error);
        }
        CHECK(worst <= tolerance * scale);
    }
}

void check_equal(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
    REQUIRE(a.size() == b.size());
    for (size_t i = 0; i < a.size(); ++i) CHECK(bit_equal(a[i], b[i]));
}

}  // namespace

TEST_CASE("inference on the GPU computes what the network computes, in every variant of it" *
          doctest::skip(support::no_gpu())) {
    const ForcedImplementations quick(support::quick_kernels());
    std::vector<Spec> specs(5, smallest());
    specs[1].fusion_kernel = 1;
    specs[2].use_global = false;
    specs[3].batch_norm = false;
    specs[4].activation = Activation::sigmoid;
    for (size_t variant = 0; variant < specs.size(); ++variant) {
        CAPTURE(variant);
        ColorNet net = network(specs[variant]);
        for (DType maps : {DType::f32, DType::bf16}) {
            CAPTURE(name(maps));
            Inference inference(net, gpu(maps));
            for (const auto& [height, width, photos] :
                 {std::tuple<int64_t, int64_t, int64_t>{16, 16, 1}, {24, 16, 2}, {8, 40, 1}}) {
                CAPTURE(height);
                const std::vector<Tensor> in = inputs(inference, height, width, 16, photos);
                check_close(inference.on_gpu(height, width, photos).run(in), eager(net, in),
                            maps == DType::f32 ? kToleranceF32 : kToleranceBf16);
            }
        }
    }
}

TEST_CASE("runs are alike to the bit, whether started kernel by kernel or as a graph" *
          doctest::skip(support::no_gpu())) {
    const ForcedImplementations quick(support::quick_kernels());
    ColorNet net = network(smallest());
    Inference inference(net, gpu(DType::bf16));
    GpuRunner& runner = inference.on_gpu(24, 16, 2);
    const std::vector<Tensor> in = inputs(inference, 24, 16, 16, 2);
    const std::vector<Tensor> first = runner.run(in);
    check_equal(runner.run(in), first);  // recorded now
    const StorageCounters before = storage_counters(support::kGpu);
    const int64_t on_cpu = storage_counters().system_allocations;
    for (int i = 0; i < 3; ++i) {
        runner.start();  // without new inputs: the old ones are still there
        check_equal(runner.download(), first);
        check_equal(runner.run(in), first);
    }
    const StorageCounters after = storage_counters(support::kGpu);
    CHECK(after.system_allocations == before.system_allocations);
    CHECK(after.live_bytes == before.live_bytes);
    CHECK(storage_counters().system_allocations == on_cpu);

    // Another photo in between, of another size: the memory of a recorded run is its own.
    const std::vector<Tensor> other = inputs(inference, 16, 32, 16);
    const std::vector<Tensor> other_first = inference.on_gpu(16, 32).run(other);
    check_equal(inference.on_gpu(24, 16, 2).run(in), first);
    check_equal(inference.on_gpu(16, 32).run(other), other_first);

    setenv("LUMACHROME_CUDA_GRAPHS", "0", 1);
    check_equal(Inference(net, gpu(DType::bf16)).on_gpu(24, 16, 2).run(in), first);
    unsetenv("LUMACHROME_CUDA_GRAPHS");
}

TEST_CASE("the parts of a plan on a GPU compute what the whole computes" *
          doctest::skip(support::no_gpu())) {
    const ColorNet net = network(smallest());
    for (const DType maps : {DType::f32, DType::bf16}) {
        Inference inference(net, gpu(maps));
        const std::vector<Tensor> in = inputs(inference, 24, 16, 16);
        const std::vector<Tensor> expected = inference.on_gpu(24, 16).run(in);
        const auto run = [&](Part part, const auto&... x) {
            const std::vector<Tensor> given{x...};
            return inference.run(part, 24, 16, given);
        };
        const std::vector<Tensor> global = run(Part::global, in[1]);
        const double tolerance = maps == DType::bf16 ? kToleranceBf16 : kToleranceF32;
        check_close({run(Part::styled, in[0], global[0])[0], global[2]}, expected, tolerance);
        const Tensor middle = run(Part::middle, in[0])[0];
        check_close({run(Part::tail, middle, global[0])[0], global[2]}, expected, tolerance);
    }
}

TEST_CASE("on a GPU photos of a batch come out as alone" * doctest::skip(support::no_gpu())) {
    const ForcedImplementations quick(support::quick_kernels());
    ColorNet net = network(smallest());
    Inference inference(net, gpu());
    for (int64_t photos : {3, 9}) {
        const std::vector<Tensor> in = inputs(inference, 16, 8, 16, photos);
        const std::vector<Tensor> together = inference.on_gpu(16, 8, photos).run(in);
        for (int64_t n = 0; n < photos; ++n) {
            const std::vector<Tensor> one{in[0].batch(n), in[1].batch(n)};
            const std::vector<Tensor> alone = inference.on_gpu(16, 8).run(one);
            for (size_t i = 0; i < alone.size(); ++i)
                check_close({together[i].batch(n)}, {alone[i]}, kToleranceF32);
        }
    }
}

TEST_CASE("on a GPU results do not depend on the kernels taken, nor on the passes" *
          doctest::skip(support::no_gpu())) {
    ColorNet net = network(smallest());
    const std::vector<Tensor> in = inputs(Inference(net, gpu()), 8, 16, 16);
    const std::vector<Tensor> expected = eager(net, in);
    const auto check = [&](const std::string& forced, const InferenceOptions& options, DType maps) {
        CAPTURE(forced);
        const ForcedImplementations scope(forced);
        check_close(Inference(net, gpu(maps), options).on_gpu(8, 16).run(in), expected,
                    maps == DType::f32 ? kToleranceF32 : kToleranceBf16);
    };
    for (const auto& implementation : conv2d_prepared_cuda())
        check(std::string("conv2d_prepared:") + implementation.name, {}, DType::bf16);
    check("", {}, DType::f32);
    const std::string quick = support::quick_kernels();
    for (const char* linear : {"linear_prepared:rows", "linear_prepared:naive"})
        for (DType maps : {DType::f32, DType::bf16}) check(linear + ("," + quick), {}, maps);
    for (const Pass& pass : passes())
        check(quick, {.passes = std::string("-") + pass.name}, DType::f32);
}

TEST_CASE("live buffers of a GPU's plan never overlap, sizes share weights, and few are kept" *
          doctest::skip(support::no_gpu())) {
    const ForcedImplementations quick(support::quick_kernels());
    ColorNet net = network(smallest());
    Inference inference(net, gpu(DType::bf16));
    const GpuPlan& plan = inference.on_gpu(64, 48, 2).plan();
    int64_t sum = 0;
    for (const auto& a : plan.buffers) {
        sum += a.place.bytes;
        CHECK(a.place.bytes % size_in_bytes(a.dtype) == 0);
        for (const auto& b : plan.buffers) {
            if (&a == &b || a.place.bytes == 0 || b.place.bytes == 0) continue;
            const bool together = a.place.first <= b.place.last && b.place.first <= a.place.last;
            const bool apart = a.place.offset + a.place.bytes <= b.place.offset ||
                               b.place.offset + b.place.bytes <= a.place.offset;
            CHECK((!together || apart));
        }
    }
    CHECK(plan.arena_bytes < sum * 2 / 3);  // inputs and outputs keep theirs
    const int64_t weights = inference.weights().bytes();
    for (int64_t side = 8; side <= 96; side += 8) inference.on_gpu(side, 8);
    CHECK(inference.weights().bytes() == weights);
    CHECK_THROWS_AS(inference.on_gpu(30, 32), ShapeError);
    CHECK_THROWS_AS(inference.on_gpu(16, 16).run(inputs(inference, 8, 8, 16)), ShapeError);
    const auto too_large = [&] { inference.on_gpu(32768, 65536, 16); };
    CHECK_THROWS_WITH_AS(too_large(), doctest::Contains("out of memory on cuda:0"), ResourceError);
}
