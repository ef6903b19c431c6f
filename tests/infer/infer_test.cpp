// Inference is the network rewritten, so everything here compares it with the network as training
// runs it: pass by pass, in one go and in bands.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "layers/linear.hpp"
#include "model/infer/inference.hpp"
#include "model/infer/passes.hpp"
#include "model/infer/step.hpp"
#include "support/random_tensor.hpp"
#include "support/trained_network.hpp"
#include "tensor/error.hpp"
#include "tensor/larger_or_nan.hpp"
#include "tensor/random.hpp"

using namespace lumachrome;

namespace {

ColorNet network(Spec spec) {
    spec.classes = 7;
    return trained_network(spec);
}

Spec tiny() {
    Spec spec = preset("tiny");
    spec.global_size = 32;
    return spec;
}

std::vector<Tensor> inputs(const Inference& inference, int64_t height, int64_t width,
                           int64_t side) {
    std::vector<Tensor> in{random_tensor({1, height, width, 1}, 1, DType::f32, -0.5, 0.5)};
    if (inference.takes_copy(height, width))
        in.push_back(random_tensor({1, side, side, 1}, 2, DType::f32, -0.5, 0.5));
    return in;
}

std::vector<Tensor> eager(ColorNet& net, const std::vector<Tensor>& in, DType dtype) {
    Tape tape(Phase::eval, Exec{{}, 2});
    const Var x = tape.input(in[0].to(dtype));
    const ColorNet::Output out = net(x, in.size() > 1 ? tape.input(in[1].to(dtype)) : x);
    std::vector<Tensor> outputs{out.color.value};
    if (out.logits) outputs.push_back(out.logits->value);
    return outputs;
}

double largest_difference(const Tensor& a, const Tensor& b) {
    REQUIRE(a.shape() == b.shape());
    double worst = 0;
    for (int64_t i = 0; i < a.numel(); ++i)
        worst = larger_or_nan(worst, std::fabs(a.item(i) - b.item(i)));
    return worst;
}

// Colours lie in 0..1 and logits within a few units; f32 sums of this network round to about 1e-6.
constexpr double kTolerance = 2e-5;

void check_close(const std::vector<Tensor>& result, const std::vector<Tensor>& expected) {
    REQUIRE(result.size() == expected.size());
    for (size_t i = 0; i < result.size(); ++i)
        CHECK(largest_difference(result[i], expected[i]) < kTolerance);
}

}  // namespace

TEST_CASE("a plan computes what the network computes, in every variant of it") {
    std::vector<Spec> specs(5, tiny());
    specs[1].fusion_kernel = 1;
    specs[2].use_global = false;
    specs[3].batch_norm = false;
    specs[4].activation = Activation::sigmoid;
    for (const Spec& spec : specs) {
        ColorNet net = network(spec);
        Inference inference(net, Exec{{}, 2});
        ColorNet exact = network(spec);
        exact.cast(DType::f64);
        for (const auto& size : {std::pair<int64_t, int64_t>{32, 32}, {40, 24}, {8, 88}}) {
            const int64_t height = size.first, width = size.second;
            CAPTURE(height);
            const std::vector<Tensor> in = inputs(inference, height, width, 32);
            check_close(inference.at(height, width).run(in), eager(exact, in, DType::f64));
        }
    }
}

TEST_CASE("the parts of a plan, one after the other, compute what the whole computes") {
    std::vector<Spec> specs(3, tiny());
    specs[1].fusion_kernel = 1;
    specs[2].use_global = false;
    for (const Spec& spec : specs) {
        ColorNet net = network(spec);
        Inference inference(net, Exec{{}, 2});
        for (const auto& size : {std::pair<int64_t, int64_t>{32, 32}, {40, 24}}) {
            const int64_t height = size.first, width = size.second;
            CAPTURE(height);
            const std::vector<Tensor> in = inputs(inference, height, width, 32);
            const std::vector<Tensor> expected = inference.at(height, width).run(in);
            const auto run = [&](Part part, const auto&... x) {
                const std::vector<Tensor> given{x...};
                return inference.run(part, height, width, given);
            };
            const Tensor middle = run(Part::middle, in[0])[0];
            CHECK(middle.shape()[1] == height / 8);
            if (!spec.use_global) {
                check_close(run(Part::tail, middle), expected);
                check_close(run(Part::styled, in[0]), expected);
                CHECK_THROWS_AS(run(Part::global, in[0]), ModelError);
                continue;
            }
            const std::vector<Tensor> global = run(Part::global, in.back());
            REQUIRE(global.size() == 3);
            const std::vector<Tensor> styled = run(Part::styled, in[0], global[0]);
            check_close({styled[0], global[2]}, expected);
            const std::vector<Tensor> tail = run(Part::tail, middle, global[0]);
            CHECK(bit_equal(tail[0], styled[0]));
            // Another style, another colour.
            const Tensor other = run(Part::global, random_tensor(in.back().shape(), 9))[0];
            CHECK(largest_difference(run(Part::tail, middle, other)[0], tail[0]) > 1e-3);
        }
    }
}

TEST_CASE("every pass alone, and none, leaves the results as they are") {
    ColorNet net = network(tiny());
    const std::vector<Tensor> in = inputs(Inference(net, Exec{}), 40, 48, 32);
    const std::vector<Tensor> expected = eager(net, in, DType::f32);
    std::string none;
    for (const Pass& pass : passes()) none += (none.empty() ? "-" : ",-") + std::string(pass.name);
    std::vector<std::string> choices{"", none};
    for (const Pass& pass : passes()) {
        choices.push_back(std::string("-") + pass.name);
        std::string only;
        for (const Pass& other : passes())
            if (other.name != pass.name)
                only += (only.empty() ? "-" : ",-") + std::string(other.name);
        choices.push_back(only);
    }
    for (const std::string& choice : choices) {
        CAPTURE(choice);
        Inference inference(net, Exec{}, {.passes = choice});
        check_close(inference.at(40, 48).run(in), expected);
        Inference banded(net, Exec{}, {.passes = choice, .plan = {.band_rows = 8}});
        const std::vector<Tensor> a = inference.at(40, 48).run(in), b = banded.at(40, 48).run(in);
        for (size_t i = 0; i < a.size(); ++i) CHECK(bit_equal(a[i], b[i]));
    }
    CHECK_THROWS_AS(run_passes(Graph{}, "-nonsense"), UsageError);
    CHECK_THROWS_AS(run_passes(Graph{}, "drop_unused"), UsageError);
}

TEST_CASE("passes do what they say") {
    ColorNet net = network(tiny());
    const auto define = [&](Tape&, std::span<const Var> in) {
        return std::vector<Var>{net(in[0], in[1]).color};
    };
    const Shape shapes[] = {{1, 40, 48, 1}, {1, 32, 32, 1}};
    const auto count = [](const Graph& graph, std::string_view op) {
        return std::count_if(graph.nodes.begin(), graph.nodes.end(),
                             [&](const Graph::Node& node) { return node.op->name() == op; });
    };
    Graph graph = trace(define, shapes);
    CHECK(count(graph, "linear") == 5);
    graph = drop_unused(std::move(graph));
    CHECK(count(graph, "linear") == 3);  // the class head is gone
    CHECK(count(graph, "batch_norm_eval") == 26);
    const size_t values = graph.values.size();
    graph = fold_batch_norm(std::move(graph));
    CHECK(count(graph, "batch_norm_eval") == 0);
    CHECK(graph.values.size() - values == 2 * 20);  // the six shared layers folded once
    CHECK(count(graph, "relu") == 26);
    graph = fuse_activation(std::move(graph));
    CHECK(count(graph, "relu") == 0);
    CHECK(count(graph, "sigmoid") == 0);
    CHECK(count(graph, "upsample") == 2);
    graph = fuse_upsample_conv(std::move(graph));
    CHECK(count(graph, "upsample") == 0);
    CHECK(count(graph, "conv2d") == 23);
    const Shape same[] = {{1, 32, 32, 1}, {1, 32, 32, 1}};
    graph = share_input(with_input_shapes(std::move(graph), same), 0, 1);
    CHECK(count(graph, "conv2d") == 17);  // one low-level pass
}

TEST_CASE("bands of any height give the bits of one go") {
    ColorNet net = network(tiny());
    for (const auto& size : {std::pair<int64_t, int64_t>{136, 24}, {72, 56}, {8, 24}, {32, 32}}) {
        const int64_t height = size.first, width = size.second;
        CAPTURE(height);
        Inference whole(net, Exec{{}, 2});
        const std::vector<Tensor> in = inputs(whole, height, width, 32);
        const std::vector<Tensor> expected = whole.at(height, width).run(in);
        for (int64_t rows : {8, 16, 24, 40, 64, 128})
            for (int threads : {1, 3}) {
                CAPTURE(rows);
                Inference banded(net, Exec{{}, threads}, {.plan = {.band_rows = rows}});
                Runner& runner = banded.at(height, width);
                for (int repetition = 0; repetition < 2; ++repetition) {
                    const std::vector<Tensor> result = runner.run(in);
                    for (size_t i = 0; i < result.size(); ++i)
                        CHECK(bit_equal(result[i], expected[i]));
                }
            }
    }
}

TEST_CASE("live buffers of a plan never overlap, and memory does not grow with the photo") {
    ColorNet net = network(tiny());
    const auto arena = [&](int64_t height, PlanOptions options) {
        Inference inference(net, Exec{}, {.plan = options});
        const Plan& plan = inference.at(height, 64).plan();
        for (const Plan::Buffer& a : plan.buffers)
            for (const Plan::Buffer& b : plan.buffers) {
                if (&a == &b || a.rows == 0 || b.rows == 0) continue;
                const bool together = a.first <= b.last && b.first <= a.last;
                const bool apart =
                    a.offset + a.bytes() <= b.offset || b.offset + b.bytes() <= a.offset;
                CHECK((!together || apart));
            }
        return plan.arena_bytes;
    };
    CHECK(arena(512, {}) == arena(512, {.band_rows = 512}));  // small maps: in one go
    CHECK(arena(1024, {.band_rows = 32}) == arena(4096, {.band_rows = 32}));
    CHECK(arena(1024, {.band_rows = 32}) < arena(1024, {}) / 4);
    const int64_t limit = arena(1024, {.band_rows = 64});
    CHECK(arena(1024, {.max_bytes = limit}) <= limit);
    CHECK_THROWS_AS(arena(1024, {.max_bytes = 1000}), ResourceError);
}

TEST_CASE("photos of many sizes share one set of packed weights") {
    ColorNet net = network(tiny());
    const ForcedImplementations one("conv2d_prepared:naive");
    Inference inference(net, Exec{});
    inference.at(40, 48);
    const int64_t bytes = inference.weights().bytes();
    inference.at(64, 24);
    inference.at(32, 32);
    CHECK(inference.weights().bytes() == bytes);
    CHECK_THROWS_AS(inference.at(30, 32), ShapeError);
}

TEST_CASE("a step keeps its weights when those it was made with are gone") {
    constexpr int64_t kSide = 512;  // fewer weights would not be packed
    const Exec exec{{}, 2};
    const Shape shapes[] = {{1, kSide}};
    const auto step_of = [&](PackedWeights& weights, uint32_t stream) {
        Linear layer(kSide, kSide);
        layer.weight.value = random_tensor({kSide, kSide}, stream, DType::f32, -1, 1);
        const auto define = [&](Tape&, std::span<const Var> in) {
            return std::vector<Var>{layer(in[0])};
        };
        const Graph graph = trace(define, shapes);
        return make_step(graph, graph.nodes[0], exec, weights);
    };
    const auto result_of = [&](Step& step) {
        const Tensor x = random_tensor({1, kSide}, 3), y = Tensor::empty({1, kSide});
        const RowBand in[] = {{x.data<float>(), {0, 1}}};
        step.run(exec, in, {y.data<float>(), {0, 1}});
        return y;
    };
    PackedWeights kept, other;
    const std::unique_ptr<Step> first = step_of(kept, 1);
    const Tensor expected = result_of(*first);

    auto gone = std::make_unique<PackedWeights>();
    const std::unique_ptr<Step> step = step_of(*gone, 1);
    REQUIRE(step->implementation() == "16 bits");
    gone.reset();
    const std::unique_ptr<Step> second = step_of(other, 2);  // takes what memory became free
    CHECK(bit_equal(result_of(*step), expected));
}
