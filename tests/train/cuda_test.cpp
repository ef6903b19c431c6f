// Optimizers, clipping, the weight average and the outcome of a step on the GPU, against the CPU.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>

#include "../support/device.hpp"
#include "../support/random_tensor.hpp"
#include "tensor/larger_or_nan.hpp"
#include "train/device_step.hpp"

using namespace lumachrome;

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Sizes around those of accesses, chunks and tables.
const Shape kShapes[] = {{1}, {3}, {4}, {7, 3}, {255}, {8192}, {8195}, {20001}, {5, 2, 2, 3}};

struct Model {
    std::deque<Parameter> parameters;
    Optimizer optimizer;
    Device device;
    Model(const std::string& rule, Device d, DType dtype = DType::f32, size_t count = 9)
        : optimizer(optimizer_spec(rule)), device(d) {
        for (size_t i = 0; i < count; ++i) {
            Parameter& p = parameters.emplace_back();
            p.value = random_tensor(kShapes[i % std::size(kShapes)], uint32_t(i), dtype, -1, 1)
                          .to(device);
            optimizer.add("p" + std::to_string(i), p);
        }
    }
    void gradients(uint32_t step, double size = 1) {
        for (size_t i = 0; i < parameters.size(); ++i) {
            if (i == 3 && step == 1) {  // of what the loss did not reach
                parameters[i].grad = {};
                continue;
            }
            const Tensor& w = parameters[i].value;
            parameters[i].grad =
                random_tensor(w.shape(), 1000 * (step + 1) + uint32_t(i), w.dtype(), -size, size)
                    .to(device);
        }
    }
};

double norm_of(const Model& m) {
    double square = 0;
    for (const Parameter& p : m.parameters)
        for (int64_t i = 0; p.grad.defined() && i < p.grad.numel(); ++i)
            square += std::pow(p.grad.item(i), 2);
    return std::sqrt(square);
}

double distance(const Tensor& a, const Tensor& b) {
    const Tensor wa = a.to(Device{}), wb = b.to(Device{});
    double error = 0, scale = 1e-300;
    for (int64_t i = 0; i < wa.numel(); ++i) {
        const double difference = std::fabs(wa.item(i) - wb.item(i));
        error = larger_or_nan(error, difference);
        scale = std::max(scale, std::fabs(wb.item(i)));
    }
    return error / scale;
}

void compare(Model& gpu, Model& cpu, double tolerance) {
    for (size_t i = 0; i < cpu.parameters.size(); ++i) {
        CAPTURE(i);
        const auto &a = gpu.optimizer.slots()[i], &b = cpu.optimizer.slots()[i];
        CHECK(distance(a.parameter->value, b.parameter->value) <= tolerance);
        CHECK(distance(a.first, b.first) <= tolerance);
        if (b.second.defined()) CHECK(distance(a.second, b.second) <= tolerance);
    }
}

}  // namespace

TEST_CASE("optimizer steps on the GPU are the CPU's, with and without clipping" *
          doctest::skip(support::no_gpu())) {
    for (const char* rule : {"adadelta", "adam", "adamw", "sgd"})
        for (DType dtype : {DType::f32, DType::f64}) {
            CAPTURE(rule);
            Model gpu(rule, support::kGpu, dtype), cpu(rule, {}, dtype);
            DeviceStep on_device(support::kGpu);
            for (uint32_t step = 0; step < 4; ++step) {
                gpu.gradients(step), cpu.gradients(step);
                const double norm = norm_of(cpu), rate = step == 2 ? 0.5 : 1;
                const double clip = step % 2 ? norm / 3 : norm * 2;
                on_device.begin(gpu.optimizer.begin_step(rate, clip));
                on_device.gradient_norm(gpu.optimizer.slots());
                on_device.update(gpu.optimizer.spec(), gpu.optimizer.slots());
                on_device.publish();
                const StepOutcome& outcome = on_device.wait();
                CHECK(outcome.gradient_norm == doctest::Approx(norm).epsilon(1e-12));
                CHECK(outcome.first_bad == StepOutcome::kNone);
                CHECK(!cpu.optimizer.step(Exec{}, rate, step % 2 ? clip / norm : 1));
                compare(gpu, cpu, dtype == DType::f64 ? 1e-14 : 1e-6);
            }
            CHECK(gpu.optimizer.steps() == cpu.optimizer.steps());
        }
}

TEST_CASE("Optimizer::step runs on the GPU by itself" * doctest::skip(support::no_gpu())) {
    // More tensors than a table holds.
    Model gpu("adam", support::kGpu, DType::f32, 150), cpu("adam", {}, DType::f32, 150);
    gpu.gradients(0), cpu.gradients(0);
    const uint64_t version = gpu.parameters[0].version;
    CHECK(!gpu.optimizer.step(Exec{support::kGpu}, 0.5, 0.25));
    CHECK(!cpu.optimizer.step(Exec{}, 0.5, 0.25));
    CHECK(gpu.parameters[0].version == version + 1);
    compare(gpu, cpu, 1e-6);
    // An update that overflows names the first tensor it spoils.
    gpu.gradients(0);
    gpu.optimizer.slots()[140].second.fill(kNan);
    gpu.optimizer.slots()[77].first.fill(kNan);
    const Optimizer::Slot* bad = gpu.optimizer.step(Exec{support::kGpu});
    REQUIRE(bad);
    CHECK(bad->name == "p77");
}

TEST_CASE("a gradient or loss that is not finite leaves weights and state alone" *
          doctest::skip(support::no_gpu())) {
    for (int kind = 0; kind < 3; ++kind) {
        CAPTURE(kind);
        Model gpu("adadelta", support::kGpu);
        gpu.gradients(0);
        std::vector<Tensor> before;
        for (const auto& slot : gpu.optimizer.slots())
            for (const Tensor& t : {slot.parameter->value, slot.first, slot.second})
                before.push_back(t.clone());
        if (kind == 0) {
            const Tensor spoiled = gpu.parameters[7].grad.to(Device{}).clone();
            spoiled.data<float>()[20000] = float(kNan);
            gpu.parameters[7].grad.copy_from(spoiled);
        }
        const auto scalar = [](double value) {
            return Tensor::full({}, value, DType::f32, support::kGpu);
        };
        DeviceStep step(support::kGpu);
        step.begin(gpu.optimizer.begin_step());
        step.losses(scalar(kind == 1 ? kNan : 0.5),
                    scalar(kind == 2 ? std::numeric_limits<double>::infinity() : 0.25));
        step.gradient_norm(gpu.optimizer.slots());
        step.update(gpu.optimizer.spec(), gpu.optimizer.slots());
        step.publish();
        const StepOutcome& outcome = step.wait();
        CHECK(std::isfinite(outcome.gradient_norm) == (kind != 0));
        CHECK(std::isfinite(outcome.color_loss) == (kind != 1));
        CHECK(std::isfinite(outcome.class_loss) == (kind != 2));
        CHECK(outcome.first_bad == StepOutcome::kNone);
        size_t i = 0;
        for (const auto& slot : gpu.optimizer.slots())
            for (const Tensor& t : {slot.parameter->value, slot.first, slot.second})
                CHECK(bit_equal(t, before[i++]));
    }
}

TEST_CASE("the outcome of a step: losses, hits, tensors that are not finite" *
          doctest::skip(support::no_gpu())) {
    const int64_t N = 21;
    for (int64_t classes : {3, 32, 70}) {
        const Tensor logits = random_tensor({N, classes}, 1), labels = Tensor::empty({N});
        float* z = logits.data<float>();
        int correct = 0;
        for (int64_t n = 0; n < N; ++n) {
            float* row = z + n * classes;
            if (n == 4) std::fill_n(row, classes, 0.5f);  // the first of equals counts
            const int64_t best = std::max_element(row, row + classes) - row;
            const int64_t label = n % 3 == 0 ? -1 : n % 3 == 1 ? best : (best + 1) % classes;
            labels.data<float>()[n] = float(label);
            correct += label == best;
        }
        DeviceStep step(support::kGpu);
        const Tensor color = Tensor::full({}, 0.375, DType::f32, support::kGpu);
        for (int again = 0; again < 2; ++again) {
            step.begin({});
            step.losses(color, {});
            step.count_correct(logits.to(support::kGpu), labels.to(support::kGpu));
            std::vector<Tensor> tensors;
            for (double value : {0.0, 1.0, again ? kNan : 2.0, kNan})
                tensors.push_back(Tensor::full({13}, value, DType::f32, support::kGpu));
            if (!again) tensors.pop_back();
            step.check_finite(tensors);
            step.publish();
            CHECK(step.wait().correct == correct);
            CHECK(step.wait().color_loss == 0.375);
            CHECK(step.wait().class_loss == 0);
            CHECK(step.wait().first_bad_tensor == (again ? 2 : StepOutcome::kNone));
        }
    }
}

TEST_CASE("the weight average moves on the GPU as on the CPU" * doctest::skip(support::no_gpu())) {
    Model gpu("sgd", support::kGpu), cpu("sgd", {});
    WeightAverage a(0.99), b(0.99);
    for (size_t i = 0; i < cpu.parameters.size(); ++i) {
        a.add("p", gpu.parameters[i]);
        b.add("p", cpu.parameters[i]);
    }
    for (uint32_t step = 0; step < 3; ++step) {
        gpu.gradients(step), cpu.gradients(step);
        gpu.optimizer.step(Exec{support::kGpu}), cpu.optimizer.step(Exec{});
        a.update(Exec{support::kGpu}, step + 1), b.update(Exec{}, step + 1);
    }
    for (size_t i = 0; i < a.entries().size(); ++i)
        CHECK(distance(a.entries()[i].average, b.entries()[i].average) <= 1e-6);
}
