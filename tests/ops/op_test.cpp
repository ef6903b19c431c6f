// Every op with every implementation: definition, derivatives, exactness, threads, shape errors.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "layers/activation.hpp"
#include "layers/batch_norm.hpp"
#include "layers/conv2d.hpp"
#include "layers/cross_entropy.hpp"
#include "layers/dropout.hpp"
#include "layers/fusion.hpp"
#include "layers/linear.hpp"
#include "layers/mse_loss.hpp"
#include "layers/op_cases.hpp"
#include "layers/upsample.hpp"
#include "support/random_tensor.hpp"
#include "tensor/error.hpp"
#include "tensor/isa.hpp"
#include "tensor/larger_or_nan.hpp"

using namespace lumachrome;

namespace {

struct Run {
    Tensor output;
    std::vector<Tensor> grads;
};

Run run(const OpCase& c, const Exec& exec, DType dtype, bool integers) {
    std::vector<Tensor> in;
    std::vector<Shape> shapes;
    const std::vector<DType> types(c.inputs.size(), dtype);
    const DType result_type = c.op->result_type(types);
    for (const Tensor& input : c.inputs) {
        Tensor t = input.to(dtype).clone();
        if (integers)
            for (int64_t i = 0; i < t.numel(); ++i)
                dispatch_float(dtype, [&](auto v) {
                    auto& x = t.data<decltype(v)>()[i];
                    x = std::round(x * 4);
                });
        in.push_back(t);
        shapes.push_back(input.shape());
    }
    Run result;
    result.output = Tensor::empty(c.op->infer(shapes), result_type);
    Saved saved;
    c.op->forward(exec, in, result.output, &saved);
    Tensor dout = random_tensor(result.output.shape(), 5, result_type, -4, 4);
    if (integers)
        dispatch_float(result_type, [&](auto v) {
            for (int64_t i = 0; i < dout.numel(); ++i) {
                auto& x = dout.data<decltype(v)>()[i];
                x = std::round(x);
            }
        });
    std::vector<GradIn> din;
    for (size_t k = 0; k < in.size(); ++k) {
        result.grads.push_back(c.differentiable[k] ? Tensor::empty(shapes[k], dtype) : Tensor());
        din.push_back({result.grads.back(), 0});
    }
    c.op->backward(exec, dout, saved, din);
    return result;
}

void check_bits(const Run& a, const Run& b) {
    CHECK(bit_equal(a.output, b.output));
    for (size_t k = 0; k < a.grads.size(); ++k)
        if (a.grads[k].defined()) CHECK(bit_equal(a.grads[k], b.grads[k]));
}

void round(Run& run) {
    const auto round_all = [](const Tensor& t) {
        for (int64_t i = 0; i < t.numel(); ++i)
            t.data<float>()[i] = std::round(t.data<float>()[i]) + 0.0f;  // -0 becomes 0
    };
    round_all(run.output);
    for (const Tensor& grad : run.grads)
        if (grad.defined()) round_all(grad);
}

double max_relative(const Tensor& a, const Tensor& exact) {
    double error = 0, scale = 0;
    for (int64_t i = 0; i < a.numel(); ++i) {
        error = larger_or_nan(error, std::fabs(a.item(i) - exact.item(i)));
        scale = std::max(scale, std::fabs(exact.item(i)));
    }
    return error / scale;
}

// Larger than the cases of the gradient checks, so that several tasks share the work.
std::vector<OpCase> large_cases() {
    const auto r = [](Shape s, uint32_t stream) {
        return random_tensor(s, stream, DType::f64, -1, 1);
    };
    return {
        {"conv",
         std::make_shared<Conv2dOp>(Conv2dSpec{3, 1}),
         {r({2, 30, 31, 24}, 1), r({20, 3, 3, 24}, 2), r({20}, 3)},
         {true, true, true}},
        {"conv stride 2",
         std::make_shared<Conv2dOp>(Conv2dSpec{3, 2}),
         {r({1, 33, 40, 64}, 1), r({17, 3, 3, 64}, 2), r({17}, 3)},
         {true, true, true}},
        {"conv of many channels",
         std::make_shared<Conv2dOp>(Conv2dSpec{3, 1}),
         {r({1, 23, 18, 160}, 1), r({112, 3, 3, 160}, 2), r({112}, 3)},
         {true, true, true}},
        {"conv of the first layer",
         std::make_shared<Conv2dOp>(Conv2dSpec{3, 2}),
         {r({3, 41, 30, 1}, 1), r({24, 3, 3, 1}, 2), r({24}, 3)},
         {true, true, true}},
        {"conv of the last layer",
         std::make_shared<Conv2dOp>(Conv2dSpec{3, 1}),
         {r({3, 33, 29, 32}, 1), r({2, 3, 3, 32}, 2), r({2}, 3)},
         {true, true, true}},
        {"batch norm with ReLU",
         std::make_shared<BatchNormOp>(r({5}, 1), Tensor::full({5}, 1, DType::f64), true, 1,
                                       Activation::relu),
         {r({3, 40, 30, 5}, 2), r({5}, 3), r({5}, 4)},
         {true, true, true}},
        {"linear",
         std::make_shared<LinearOp>(),
         {r({9, 1100}, 1), r({150, 1100}, 2), r({150}, 3)},
         {true, true, true}},
        {"batch norm",
         std::make_shared<BatchNormOp>(r({5}, 1), Tensor::full({5}, 1, DType::f64), true),
         {r({3, 40, 30, 5}, 2), r({5}, 3), r({5}, 4)},
         {true, true, true}},
        {"sigmoid",
         std::make_shared<ActivationOp>(Activation::sigmoid),
         {r({5, 100, 101}, 1)},
         {true}},
        {"upsample", std::make_shared<UpsampleOp>(), {r({3, 20, 17, 6}, 1)}, {true}},
        {"fusion",
         std::make_shared<FusionOp>(3),
         {r({3, 20, 17, 6}, 1), r({3, 4}, 2), r({7, 3, 3, 10}, 3), r({7}, 4)},
         {true, true, true, true}},
        {"mse",
         std::make_shared<MseLossOp>(),
         {r({3, 80, 80, 2}, 1), r({3, 80, 80, 2}, 2)},
         {true, false}},
        {"mse, strong colours count more",
         std::make_shared<MseLossOp>(2.5),
         {r({3, 80, 80, 2}, 1), r({3, 80, 80, 2}, 2)},
         {true, false}},
    };
}

// On every instruction set of this machine.
template <class Check>
void for_each_isa(const Check& check) {
    for (const Isa one : supported_isas()) {
        const ForcedIsa forced(one);
        CAPTURE(name(one));
        check();
    }
}

}  // namespace

TEST_CASE("values and derivatives agree with the executable definitions") {
    for_each_isa([] {
        for (const OpFamily& family : op_families())
            for (const std::string& implementation : family.implementations) {
                force_implementations(family.name + ":" + implementation);
                for (const OpCase& c : family.cases)
                    for (const GradCheck& check : check_op(c, Exec{{}, 2}, implementation, 3)) {
                        CAPTURE(family.name);
                        CAPTURE(implementation);
                        CAPTURE(check.what);
                        CAPTURE(check.relative_error);
                        CHECK(check.passed());
                    }
                force_implementations("");
            }
    });
}

TEST_CASE("implementations of one op agree bit for bit on small integers") {
    for_each_isa([] {
        for (const OpFamily& family : op_families()) {
            if (family.implementations.size() < 2) continue;
            for (const OpCase& c : family.cases) {
                CAPTURE(c.description);
                force_implementations(family.name + ":naive");
                const Run expected = run(c, Exec{}, DType::f32, true);
                for (const std::string& implementation : family.implementations) {
                    CAPTURE(implementation);
                    force_implementations(family.name + ":" + implementation);
                    Run result = run(c, Exec{}, DType::f32, true);
                    // An error below 1/2 is far above the rounding of these sums, far below a
                    // mistake.
                    if (std::find(family.inexact.begin(), family.inexact.end(), implementation) !=
                        family.inexact.end())
                        round(result);
                    check_bits(result, expected);
                }
                force_implementations("");
            }
        }
    });
}

TEST_CASE("bits do not depend on the number of threads, run after run") {
    for_each_isa([] {
        for (const OpCase& c : large_cases()) {
            CAPTURE(c.description);
            for (DType dtype : {DType::f32, DType::f64}) {
                const Run expected = run(c, Exec{{}, 1}, dtype, false);
                for (int threads : {2, 3, 4, 8})
                    for (int repetition = 0; repetition < 3; ++repetition)
                        check_bits(run(c, Exec{{}, threads}, dtype, false), expected);
            }
        }
    });
}

TEST_CASE("winograd stays close to double over several batches of tiles") {
    for_each_isa([] {
        struct {
            int64_t N, H, W, C, K;
        } const problems[] = {
            {2, 61, 58, 20, 40}, {3, 50, 47, 140, 130}, {1, 21, 19, 272, 24}, {1, 21, 19, 24, 272}};
        for (const auto& p : problems) {
            const OpCase c{"",
                           std::make_shared<Conv2dOp>(Conv2dSpec{3, 1}),
                           {random_tensor({p.N, p.H, p.W, p.C}, 1, DType::f64, -1, 1),
                            random_tensor({p.K, 3, 3, p.C}, 2, DType::f64, -1, 1),
                            random_tensor({p.K}, 3, DType::f64, -1, 1)},
                           {true, true, true}};
            const Run exact = run(c, Exec{{}, 2}, DType::f64, false);
            const ForcedImplementations forced("conv2d:winograd");
            const Run result = run(c, Exec{{}, 2}, DType::f32, false);
            CAPTURE(p.C);
            CHECK(max_relative(result.output, exact.output) < kDualToleranceF32);
            for (size_t k = 0; k < 2; ++k)
                CHECK(max_relative(result.grads[k], exact.grads[k]) < kDualToleranceF32);
        }
    });
}

TEST_CASE("conv2d leaves to gemm what winograd cannot do or should not") {
    std::string line;
    explain_sink() = [&](const std::string& text) { line = text; };
    const auto chosen = [&](Conv2dSpec spec, Shape x, Shape w, DType dtype = DType::f32) {
        choose_conv2d(Exec{}, conv2d_problem(spec, x, w, dtype));
        return line;
    };
    CHECK(chosen({3, 1}, {8, 28, 28, 64}, {32, 3, 3, 64}) == "conv2d: winograd");
    CHECK(chosen({3, 2}, {8, 28, 28, 64}, {32, 3, 3, 64}) ==
          "conv2d: stride2 (winograd: needs stride 1)");
    CHECK(chosen({1, 1}, {8, 28, 28, 64}, {32, 1, 1, 64}).find("3x3") != std::string::npos);
    CHECK(chosen({3, 1}, {8, 28, 28, 64}, {32, 3, 3, 64}, DType::f64).find("needs f32") !=
          std::string::npos);
    CHECK(chosen({3, 1}, {8, 28, 28, 1}, {32, 3, 3, 1}).find("channels") != std::string::npos);
    CHECK(chosen({3, 1}, {1, 7, 7, 64}, {32, 3, 3, 64}).find("pixels") != std::string::npos);
    {
        const ForcedImplementations forced("conv2d:winograd");  // what it can do, it does
        CHECK(chosen({3, 1}, {1, 7, 7, 64}, {32, 3, 3, 64}) == "conv2d: winograd");
    }
    explain_sink() = nullptr;
}

TEST_CASE("nothing is written outside the output") {
    for_each_isa([] {
        constexpr int64_t kGuard = 64;
        for (const OpCase& c : large_cases()) {
            CAPTURE(c.description);
            std::vector<Tensor> in;
            std::vector<Shape> shapes;
            for (const Tensor& input : c.inputs) {
                in.push_back(input.to(DType::f32));
                shapes.push_back(input.shape());
            }
            // The output sits in the middle of a guarded block, reached as sample 1 of 3.
            const Shape out = c.op->infer(shapes);
            const int64_t count = std::max(out.numel(), kGuard);
            const Tensor block = Tensor::full({3, count}, 7);
            Tensor middle = block.batch(1);
            if (out.numel() == count)
                middle = middle.reshape(out);
            else
                continue;
            c.op->forward(Exec{{}, 2}, in, middle, nullptr);
            for (int64_t i = 0; i < count; ++i) {
                REQUIRE(block.data<float>()[i] == 7);
                REQUIRE(block.data<float>()[2 * count + i] == 7);
            }
        }
    });
}

TEST_CASE("wrong shapes are named with the op and all shapes") {
    const auto text = [](const Op& op, std::vector<Shape> shapes) {
        try {
            op.infer(shapes);
        } catch (const ShapeError& error) {
            return std::string(error.what());
        }
        return std::string("accepted");
    };
    CHECK(text(Conv2dOp({}), {{1, 5, 5, 3}, {8, 3, 3, 4}, {8}}) ==
          "conv2d: needs x [N,H,W,C] and w [K,R,S,C] with kernel 3; inputs are 1x5x5x3 8x3x3x4");
    CHECK(text(Conv2dOp({}), {{1, 5, 5, 3}, {8, 3, 3, 3}, {7}}).starts_with("conv2d: needs b [K]"));
    CHECK(text(LinearOp(), {{2, 3}, {4, 5}, {4}}).starts_with("linear: needs x [N,I]"));
    CHECK(text(UpsampleOp(), {{2, 3}}).starts_with("upsample: needs"));
    CHECK(
        text(FusionOp(3), {{1, 4, 4, 2}, {2, 3}, {5, 3, 3, 5}, {5}}).starts_with("fusion: needs"));
    CHECK(text(MseLossOp(), {{2, 3}, {3, 2}}).starts_with("mse_loss: needs"));
    CHECK(text(CrossEntropyOp({5}), {{1, 5}}).find("label 5 is no class") != std::string::npos);
    CHECK(text(CrossEntropyOp({1, 2}), {{1, 5}}).find("2 labels") != std::string::npos);
    CHECK(text(BatchNormOp(Tensor::zeros({3}), Tensor::zeros({3}), true), {{1, 3}, {3}, {3}})
              .find("at least 2") != std::string::npos);
}

TEST_CASE("cross-entropy survives logits that would overflow") {
    const Tensor z = Tensor::full({1, 3}, 1000);
    z.data<float>()[1] = -1000;
    Tensor loss = Tensor::empty({});
    CrossEntropyOp({0}).forward(Exec{}, std::vector<Tensor>{z}, loss, nullptr);
    CHECK(loss.item() == doctest::Approx(std::log(2.0)));
}

TEST_CASE("batch norm moves its running statistics as PyTorch does") {
    const Tensor mean = Tensor::zeros({1}), variance = Tensor::full({1}, 1);
    const BatchNormOp op(mean, variance, true);
    Tensor x = Tensor::empty({4, 1});
    for (int i = 0; i < 4; ++i) x.data<float>()[i] = static_cast<float>(i);
    Tensor y = Tensor::empty({4, 1});
    Saved saved;
    op.forward(Exec{}, std::vector<Tensor>{x, Tensor::full({1}, 1), Tensor::zeros({1})}, y, &saved);
    CHECK(mean.item() == doctest::Approx(0.15));
    CHECK(variance.item() == doctest::Approx(0.9 + 0.1 * 5.0 / 3));  // unbiased: 5/3, not 5/4
}

TEST_CASE("a frozen batch norm normalises with its running statistics, and keeps them") {
    BatchNorm norm(2);
    norm.running_mean.value.fill(3);
    norm.running_var.value.fill(4);
    const Tensor x = random_tensor({5, 2}, 1, DType::f32, -1, 1);
    const auto run_in = [&](Phase phase) {
        Tape tape(phase, Exec{});
        return norm(tape.input(x)).value;
    };
    const Tensor evaluated = run_in(Phase::eval);
    CHECK_FALSE(bit_equal(run_in(Phase::train), evaluated));
    norm.running_mean.value.fill(3);
    norm.running_var.value.fill(4);
    norm.weight.trainable = norm.bias.trainable = false;
    CHECK(bit_equal(run_in(Phase::train), evaluated));
    CHECK(norm.running_mean.value.item() == 3);
    CHECK(norm.running_var.value.item() == 4);
    Tape tape(Phase::train, Exec{});  // what lies before it still learns
    const Var in = tape.input(x, true);
    tape.backward_from({{norm(in), Tensor::full({5, 2}, 1)}});
    CHECK(tape.grad(in).item() == doctest::Approx(1 / std::sqrt(4 + kBatchNormEpsilon)));
}

TEST_CASE("dropout on a share of the batch draws the rows of the whole batch's mask") {
    const Tensor x = Tensor::full({6, 3, 2, 5}, 1);
    Tensor whole = Tensor::empty(x.shape());
    DropoutMask mask{0.5, 7, 2, 1};
    DropoutOp(mask).forward(Exec{}, std::vector<Tensor>{x}, whole, nullptr);
    for (int64_t n = 0; n < 6; ++n) {
        mask.first_sample = n;
        const DropoutOp op(mask);
        Tensor y = Tensor::empty({1, 3, 2, 5}), dx = Tensor::empty({1, 3, 2, 5});
        op.forward(Exec{}, std::vector<Tensor>{x.batch(n)}, y, nullptr);
        CHECK(bit_equal(y, whole.batch(n)));
        const GradIn din{dx, 0};
        op.backward(Exec{}, x.batch(n), {}, {&din, 1});
        CHECK(bit_equal(dx, whole.batch(n)));
    }
}
