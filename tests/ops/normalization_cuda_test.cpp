// Batch norm and the losses on the GPU against the CPU, where sizes are large enough that every
// thread has several tiles, and where sums would cancel.
#include <doctest/doctest.h>

#include <cmath>

#include "../support/device.hpp"
#include "../support/random_tensor.hpp"
#include "layers/batch_norm.hpp"
#include "layers/cross_entropy.hpp"
#include "layers/mse_loss.hpp"
#include "tensor/larger_or_nan.hpp"

using namespace lumachrome;

namespace {

// Largest difference, relative to the largest value.
double distance(const Tensor& a, const Tensor& b) {
    const Tensor wa = a.to(Device{}).to(DType::f64), wb = b.to(Device{}).to(DType::f64);
    double error = 0, scale = 1e-300;
    for (int64_t i = 0; i < wa.numel(); ++i) {
        const double difference = std::fabs(wa.item(i) - wb.item(i));
        error = larger_or_nan(error, difference);
        scale = std::max(scale, std::fabs(wb.item(i)));
    }
    return error / scale;
}

struct Outcome {
    Tensor y, running_mean, running_variance, dx, dgamma, dbeta;
};
Outcome batch_norm(const Exec& exec, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                   const Tensor& dy, int shares = 1) {
    const Device d = exec.device;
    const int64_t C = x.shape().back();
    const DType wide = gamma.dtype();
    Outcome o;
    o.running_mean = Tensor::zeros({C}, wide, d);
    o.running_variance = Tensor::full({C}, 1, wide, d);
    const BatchNormOp op(o.running_mean, o.running_variance, true, shares, Activation::relu);
    o.y = Tensor::empty(x.shape(), x.dtype(), d);
    Saved saved;
    const std::vector<Tensor> in = {x.to(d), gamma.to(d), beta.to(d)};
    op.forward(exec, in, o.y, &saved);
    o.dx = Tensor::empty(x.shape(), x.dtype(), d);
    o.dgamma = Tensor::empty({C}, wide, d);
    o.dbeta = Tensor::empty({C}, wide, d);
    const GradIn din[] = {{o.dx, 0}, {o.dgamma, 0}, {o.dbeta, 0}};
    op.backward(exec, dy.to(d), saved, din);
    return o;
}

// Two processes with the same share each.
struct Twin : Peers {
    int count() const override { return 2; }
    void sum(std::span<double> values) const override {
        for (double& v : values) v *= 2;
    }
};

}  // namespace

TEST_CASE("batch norm on the GPU is the CPU's over many tiles" * doctest::skip(support::no_gpu())) {
    const Shape shapes[] = {{700, 264}, {9000, 3}, {2300, 16}, {128, 128}, {1, 1, 2, 1000}};
    for (const Shape& shape : shapes)
        for (DType type : {DType::f32, DType::bf16}) {
            CAPTURE(shape.str());
            const int64_t C = shape.back();
            // What bf16 holds exactly, so that both start from the same.
            const Tensor x = random_tensor(shape, 1, DType::f32, -1, 2).to(DType::bf16);
            const Tensor dy = random_tensor(shape, 2, DType::f32, -1, 1).to(DType::bf16);
            const Tensor gamma = random_tensor({C}, 3, DType::f32, 0.5, 1.5);
            const Tensor beta = random_tensor({C}, 4, DType::f32, -1, 1);
            const Outcome gpu =
                batch_norm(Exec{support::kGpu}, x.to(type), gamma, beta, dy.to(type));
            const Outcome cpu = batch_norm(Exec{}, x.to(DType::f64), gamma.to(DType::f64),
                                           beta.to(DType::f64), dy.to(DType::f64));
            // Results in bf16 are rounded once; statistics and parameters never are.
            const double tolerance = type == DType::bf16 ? 0x1p-8 : 1e-5;
            CHECK(distance(gpu.y, cpu.y) <= tolerance);
            if (shape.rows() > 2) CHECK(distance(gpu.dx, cpu.dx) <= tolerance);
            CHECK(distance(gpu.running_mean, cpu.running_mean) <= 1e-6);
            CHECK(distance(gpu.running_variance, cpu.running_variance) <= 1e-6);
            if (shape.rows() > 2) CHECK(distance(gpu.dgamma, cpu.dgamma) <= 1e-5);
            CHECK(distance(gpu.dbeta, cpu.dbeta) <= 1e-5);
        }
}

TEST_CASE("statistics of a large mean with small deviations do not cancel" *
          doctest::skip(support::no_gpu())) {
    for (const Shape& shape : {Shape{3000, 8}, Shape{900, 5}}) {
        const Tensor x = random_tensor(shape, 1, DType::f32, 4096, 4096.5);
        x.data<float>()[0] = 4100;  // the first value is no guide to the others
        const int64_t C = shape.back();
        const BatchNormProblem p{shape.rows(), C};
        const Tensor moments = Tensor::empty({2, C}, DType::f64, support::kGpu);
        batch_norm_cuda().front().kernel.statistics(Exec{support::kGpu}, p, x.to(support::kGpu),
                                                    moments);
        const Tensor expected = Tensor::empty({2, C}, DType::f64);
        batch_norm_cpu().front().kernel.statistics(Exec{}, p, x.to(DType::f64), expected);
        const Tensor found = moments.to(Device{});
        for (int64_t c = 0; c < C; ++c) {
            CHECK(found.item(c) == doctest::Approx(expected.item(c)).epsilon(1e-8));
            CHECK(found.item(C + c) == doctest::Approx(expected.item(C + c)).epsilon(1e-5));
        }
    }
}

TEST_CASE("batch norm on the GPU shares its sums with other processes" *
          doctest::skip(support::no_gpu())) {
    const Twin twin;
    const Shape shape{60, 8};
    const Tensor x = random_tensor(shape, 1), dy = random_tensor(shape, 2);
    const Tensor gamma = random_tensor({8}, 3), beta = random_tensor({8}, 4);
    const Outcome gpu = batch_norm(Exec{support::kGpu, 1, &twin}, x, gamma, beta, dy, 2);
    const Outcome cpu = batch_norm(Exec{{}, 1, &twin}, x, gamma, beta, dy, 2);
    CHECK(distance(gpu.y, cpu.y) <= 1e-5);
    CHECK(distance(gpu.dx, cpu.dx) <= 1e-5);
    CHECK(distance(gpu.dgamma, cpu.dgamma) <= 1e-5);
    CHECK(distance(gpu.running_variance, cpu.running_variance) <= 1e-6);
}

TEST_CASE("cross entropy reads labels that lie on the GPU, at the time it runs" *
          doctest::skip(support::no_gpu())) {
    const int64_t N = 70, classes = 45;
    const Tensor z = random_tensor({N, classes}, 1, DType::f32, -4, 4);
    const Tensor on_device = Tensor::zeros({N}, DType::f32, support::kGpu);
    const CrossEntropyOp op(on_device);
    CHECK_THROWS_AS(op.infer(std::vector<Shape>{{N + 1, classes}}), ShapeError);
    for (int64_t run = 0; run < 2; ++run) {
        Labels labels;
        const Tensor numbers = Tensor::empty({N});
        for (int64_t n = 0; n < N; ++n) {
            labels.push_back((n * 7 + run) % (classes + 1) - 1);
            numbers.data<float>()[n] = static_cast<float>(labels.back());
        }
        on_device.copy_from(numbers);
        const auto both = [&](const Exec& exec, const CrossEntropyOp& which) {
            Saved saved;
            Tensor loss = Tensor::empty({}, DType::f32, exec.device);
            which.forward(exec, std::vector<Tensor>{z.to(exec.device)}, loss, &saved);
            const GradIn dz{Tensor::empty(z.shape(), DType::f32, exec.device), 0};
            which.backward(exec, Tensor::full({}, 3, DType::f32, exec.device), saved, {&dz, 1});
            return std::pair{loss.item(), dz.grad};
        };
        const auto gpu = both(Exec{support::kGpu}, op);
        const auto cpu = both(Exec{}, CrossEntropyOp(labels));
        CHECK(gpu.first == doctest::Approx(cpu.first).epsilon(1e-6));
        CHECK(distance(gpu.second, cpu.second) <= 1e-6);
    }
    on_device.fill(double(classes));
    Tensor loss = Tensor::empty({}, DType::f32, support::kGpu);
    op.forward(Exec{support::kGpu}, std::vector<Tensor>{z.to(support::kGpu)}, loss, nullptr);
    CHECK(std::isnan(loss.item()));
}

TEST_CASE("the tape weighs its roots on the GPU, without reading them" *
          doctest::skip(support::no_gpu())) {
    const Tensor y = random_tensor({50, 40, 2}, 1), t = random_tensor({50, 40, 2}, 2);
    const auto gradient = [&](Device device) {
        Tape tape(Phase::train, Exec{device});
        const Var a = tape.input(y.to(device), true);
        const Var loss = mse_loss(a, tape.input(t.to(device)));
        tape.backward({{loss, 1.0}, {loss, 0.25}});
        return std::pair{loss.value.item(), tape.grad(a)};
    };
    const auto gpu = gradient(support::kGpu), cpu = gradient({});
    CHECK(gpu.first == doctest::Approx(cpu.first).epsilon(1e-6));
    CHECK(distance(gpu.second, cpu.second) <= 1e-6);
}
