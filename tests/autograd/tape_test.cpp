#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "autograd/gradcheck.hpp"
#include "autograd/tape.hpp"
#include "layers/activation.hpp"
#include "layers/linear.hpp"
#include "layers/mse_loss.hpp"
#include "layers/op_cases.hpp"
#include "layers/upsample.hpp"
#include "support/random_tensor.hpp"
#include "tensor/error.hpp"
#include "tensor/larger_or_nan.hpp"
#include "tensor/storage.hpp"

using namespace lumachrome;

namespace {

void spoil_first(const Tensor& t) {
    dispatch_float(t.dtype(), [&](auto v) {
        using T = decltype(v);
        t.data<T>()[0] = std::numeric_limits<T>::quiet_NaN();
    });
}

// y = 0, with NaN in the first element of the result or of the gradient.
struct Spoilt : Op {
    Spoilt(bool value, bool gradient) : spoilt_value(value), spoilt_gradient(gradient) {}
    bool spoilt_value, spoilt_gradient;

    std::string name() const override { return "spoilt"; }
    Shape infer(std::span<const Shape> in) const override { return in[0]; }
    void forward(const Exec&, std::span<const Tensor>, Tensor& y, Saved*) const override {
        y.fill(0);
        if (spoilt_value) spoil_first(y);
    }
    void backward(const Exec&, const Tensor&, const Saved&,
                  std::span<const GradIn> din) const override {
        if (!din[0]) return;
        if (din[0].beta == 0) din[0].grad.fill(0);
        if (spoilt_gradient) spoil_first(din[0].grad);
    }
    void define(std::span<const View<const Dual>>, View<Dual> y) const override {
        for (int64_t i = 0; i < y.numel(); ++i) y.data[i] = 0;
    }
};

}  // namespace

TEST_CASE("a layer used twice receives both gradients") {
    Linear layer(3, 3);
    layer.weight.value = random_tensor({3, 3}, 1);
    const Tensor x = random_tensor({2, 3}, 2), target = random_tensor({2, 3}, 3);
    Tape tape(Phase::train, Exec{});
    const Var twice = layer(layer(tape.input(x)));
    tape.backward({{mse_loss(twice, tape.input(target)), 1.0}});
    const Tensor both = layer.weight.grad.clone();

    // The same with two copies of the layer: the gradients must add up.
    Linear first(3, 3), second(3, 3);
    first.weight.value = second.weight.value = layer.weight.value;
    Tape apart(Phase::train, Exec{});
    apart.backward({{mse_loss(second(first(apart.input(x))), apart.input(target)), 1.0}});
    for (int64_t i = 0; i < 9; ++i)
        CHECK(
            both.item(i) ==
            doctest::Approx(first.weight.grad.item(i) + second.weight.grad.item(i)).epsilon(1e-5));
}

TEST_CASE("several roots are weighted and added") {
    Linear layer(2, 1);
    layer.weight.value = random_tensor({1, 2}, 1);
    const Tensor x = random_tensor({4, 2}, 2);
    const auto gradient = [&](double a, double b) {
        Tape tape(Phase::train, Exec{});
        const Var y = layer(tape.input(x));
        const Var l1 = mse_loss(y, tape.input(Tensor::zeros({4, 1})));
        const Var l2 =
            mse_loss(activate(y, Activation::sigmoid), tape.input(Tensor::zeros({4, 1})));
        tape.backward({{l1, a}, {l2, b}});
        return layer.weight.grad.clone();
    };
    const Tensor one = gradient(1, 0), other = gradient(0, 1), both = gradient(2, 3);
    for (int64_t i = 0; i < 2; ++i)
        CHECK(both.item(i) == doctest::Approx(2 * one.item(i) + 3 * other.item(i)).epsilon(1e-5));
}

TEST_CASE("gradients are assigned anew by every backward, zero where no path leads") {
    Linear used(2, 1), unused(2, 1);
    used.weight.value = random_tensor({1, 2}, 1);
    for (int round = 0; round < 2; ++round) {
        Tape tape(Phase::train, Exec{});
        const Var x = tape.input(random_tensor({4, 2}, 2));
        const Var ignored = unused(x);
        (void)ignored;
        tape.backward({{mse_loss(used(x), tape.input(Tensor::zeros({4, 1}))), 1.0}});
        static Tensor first;
        if (round == 0) first = used.weight.grad.clone();
        CHECK(bit_equal(first, used.weight.grad));
        CHECK(unused.weight.grad.item() == 0);
    }
}

TEST_CASE("a frozen parameter gets no gradient and costs none") {
    Linear layer(2, 2);
    layer.weight.trainable = false;
    Tape tape(Phase::train, Exec{});
    const Var x = tape.input(random_tensor({1, 2}, 1), true);
    tape.backward({{mse_loss(layer(x), tape.input(Tensor::zeros({1, 2}))), 1.0}});
    CHECK_FALSE(layer.weight.grad.defined());
    CHECK(layer.bias.grad.defined());
    CHECK(tape.grad(x).shape() == Shape{1, 2});
}

#if !defined(__SANITIZE_ADDRESS__)  // there nobody counts
TEST_CASE("a tape keeps no value that backward does not need") {
    Tape tape(Phase::train, Exec{});
    const Var x = tape.input(random_tensor({1, 16, 16, 8}, 1), true);
    const int64_t before = storage_counters().live_bytes;
    upsample(x);
    CHECK(storage_counters().live_bytes == before);
    CHECK(tape.nodes().back().value.shape() == Shape{1, 32, 32, 8});
    upsample(activate(x, Activation::relu));  // relu needs its output
    CHECK(storage_counters().live_bytes == before + x.value.bytes());
}
#endif

TEST_CASE("misuse is refused with a reason") {
    Tape tape(Phase::eval, Exec{}), other(Phase::train, Exec{});
    const Var x = tape.input(random_tensor({1, 2}, 1));
    CHECK_THROWS_AS(other.apply(std::make_shared<ActivationOp>(Activation::relu), {x}), Error);
    const Var loss = mse_loss(x, tape.input(Tensor::zeros({1, 2})));
    CHECK_THROWS_AS(tape.backward({{loss, 1.0}}), Error);
    const Var y = other.input(random_tensor({1, 2}, 1), true);
    CHECK_THROWS_AS(other.backward({{y, 1.0}}), ShapeError);
    CHECK_THROWS_AS(other.backward({{mse_loss(y, y), 1.0}}), Error);
}

TEST_CASE("the trace phase infers shapes without memory") {
    Linear layer(3, 5);
    Tape tape(Phase::trace, Exec{});
    const Var y =
        layer(tape.input(Tensor::empty({int64_t{1} << 30, 3}, DType::f32, {Device::meta})));
    CHECK(y.shape() == Shape{int64_t{1} << 30, 5});
    CHECK(tape.nodes().size() == 4);
}

TEST_CASE("a NaN in front of finite numbers fails every check that sees it") {
    const double kNaN = std::numeric_limits<double>::quiet_NaN();
    CHECK(std::isnan(larger_or_nan(larger_or_nan(0, kNaN), 1)));
    CHECK(std::isnan(larger_or_nan(1, kNaN)));
    CHECK(larger_or_nan(1, 2) == 2);
    CHECK(larger_or_nan(2, 1) == 2);

    const auto failed = [](bool value, bool gradient, const std::string& what) {
        OpCase c;
        c.description = "case";
        c.op = std::make_shared<Spoilt>(value, gradient);
        c.inputs = {random_tensor({5}, 1, DType::f64, -1, 1)};
        c.differentiable = {true};
        int64_t count = 0, all = 0;
        for (const GradCheck& check : check_op(c, Exec{}, "plain", 3))
            if (check.what.find(": " + what) != std::string::npos) {
                ++all;
                count += !check.passed();
            }
        CHECK(all > 0);
        CHECK((count == 0 || count == all));
        return count > 0;
    };
    for (const char* what : {"value", "dual", "finite", "accumulate"})
        CHECK_FALSE(failed(false, false, what));
    CHECK(failed(true, false, "value"));
    CHECK_FALSE(failed(true, false, "dual"));
    CHECK_FALSE(failed(false, true, "value"));
    for (const char* what : {"dual", "finite", "accumulate"}) CHECK(failed(false, true, what));
}

TEST_CASE("the checks catch every injected derivative bug, and only in the broken op") {
    int64_t caught = 0;
    for (const DerivativeBug& bug : derivative_bugs())
        for (const OpFamily& family : op_families()) {
            if (family.name != bug.family) continue;
            int64_t failed = 0, failed_values = 0;
            for (const OpCase& c : broken(family.cases, bug))
                for (const GradCheck& check : check_op(c, Exec{}, family.implementations[0], 3)) {
                    failed += !check.passed();
                    failed_values +=
                        !check.passed() && check.what.find(": value") != std::string::npos;
                }
            CAPTURE(bug.name);
            CHECK(failed > 0);
            CHECK(failed_values == 0);
            caught += failed > 0;
        }
    CHECK(caught >= 25);
    CHECK(caught == std::ssize(derivative_bugs()));
}
