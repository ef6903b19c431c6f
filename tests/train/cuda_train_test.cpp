// Training on a GPU against training on the CPU; on the emulated GPU where there is no other.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <optional>
#include <thread>

#include "support/device.hpp"
#include "support/random_tensor.hpp"
#include "tensor/storage.hpp"
#include "train/data_fixtures.hpp"
#include "train/step_runner.hpp"
#include "train/trainer.hpp"

using namespace lumachrome;
using support::kGpu;

namespace {

Exec gpu(DType maps = DType::f32) {
    return {.device = kGpu, .threads = 2, .maps = maps};
}

// The narrowest network there is; with dropout, and a copy of another size.
Spec narrow(bool batch_norm = true) {
    Spec spec = preset("tiny");
    spec.width_divisor = 32;
    spec.global_size = 16;
    spec.batch_norm = batch_norm;
    spec.classes = 3;
    spec.dropout = 0.3;
    return spec;
}

constexpr int64_t kPhotos = 4;

Batch batch_of(uint32_t step, int64_t size) {
    Batch batch;
    batch.luma = random_tensor({kPhotos, size, size, 1}, 10 * step);
    batch.ab = random_tensor({kPhotos, size / 2, size / 2, 2}, 10 * step + 1);
    batch.labels = {2, -1, int64_t(step % 3), 0};
    return batch;
}

struct Graphs {  // on or off for a while
    explicit Graphs(bool on) { setenv("LUMACHROME_CUDA_GRAPHS", on ? "1" : "0", 1); }
    ~Graphs() { unsetenv("LUMACHROME_CUDA_GRAPHS"); }
};

struct Run {
    std::vector<StepResult> steps;
    std::vector<Tensor> weights;  // on the CPU; averages too
    int64_t late_allocations = 0;
    bool replays = false;
};

Run train(const Exec& exec, const std::string& rule, int64_t size, int steps,
          bool batch_norm = true) {
    ColorNet net(narrow(batch_norm), 1);
    net.dropout_seed = 7;
    net.to(exec.device);
    OptimizerSpec spec = optimizer_spec(rule);
    Optimizer optimizer(spec);
    WeightAverage average(0.5);
    net.visit([&](const std::string& name, Parameter& p) {
        optimizer.add(name, p);
        average.add(name, p);
    });
    StepRunner runner(net, optimizer, exec, &average);
    Run run;
    int64_t allocations = 0;
    for (int step = 0; step < steps; ++step) {
        const auto taken = [&] { return storage_counters(exec.device).system_allocations; };
        if (step == 2) allocations = taken();
        StepSettings settings;
        settings.rate_factor = 0.5;
        settings.clip_norm = step == 1 ? 0.01 : 0;
        run.steps.push_back(runner.step(batch_of(uint32_t(step), size), settings));
        run.late_allocations = taken() - allocations;
    }
    run.replays = runner.replays();
    net.visit([&](const std::string&, Parameter& p) {
        run.weights.push_back(p.value.to(Device{}).clone());
    });
    for (const WeightAverage::Entry& entry : average.entries())
        run.weights.push_back(entry.average.to(Device{}).clone());
    return run;
}

bool same(const Run& a, const Run& b) {
    for (size_t i = 0; i < a.steps.size(); ++i)
        if (a.steps[i].color_loss != b.steps[i].color_loss ||
            a.steps[i].class_loss != b.steps[i].class_loss ||
            a.steps[i].gradient_norm != b.steps[i].gradient_norm ||
            a.steps[i].correct != b.steps[i].correct)
            return false;
    for (size_t i = 0; i < a.weights.size(); ++i)
        if (!bit_equal(a.weights[i], b.weights[i])) return false;
    return a.steps.size() == b.steps.size() && a.weights.size() == b.weights.size();
}

struct Folder {
    std::filesystem::path path =
        std::filesystem::temp_directory_path() / "lumachrome_cuda_train_test";
    Folder() { std::filesystem::remove_all(path); }
    ~Folder() { std::filesystem::remove_all(path); }
    std::string run(const std::string& name) const { return (path / name).string(); }
};

}  // namespace

// Batch norm over a few values enlarges rounding: with it only the first update is compared.
TEST_CASE("steps on a GPU are those of the CPU" * doctest::skip(support::no_gpu())) {
    struct Kind {
        const char* rule;
        int64_t size;
        int steps;
        bool batch_norm;
    };
    for (const auto& [rule, size, count, batch_norm] :
         {Kind{"sgd", 24, 4, false}, Kind{"adam", 16, 2, true}, Kind{"adadelta", 16, 2, true}}) {
        CAPTURE(std::string(rule));
        const Run cpu = train(Exec{{}, 2}, rule, size, count, batch_norm),
                  run = train(gpu(), rule, size, count, batch_norm);
        CHECK(run.replays == (count > 2));
        for (size_t i = 0; i < cpu.steps.size(); ++i) {
            CAPTURE(i);
            const StepResult &a = cpu.steps[i], &b = run.steps[i];
            CHECK(b.color_loss == doctest::Approx(a.color_loss).epsilon(1e-4));
            CHECK(b.class_loss == doctest::Approx(a.class_loss).epsilon(1e-4));
            CHECK(b.gradient_norm == doctest::Approx(a.gradient_norm).epsilon(1e-3));
            CHECK(b.labelled == a.labelled);
            CHECK(b.correct == a.correct);
        }
    }
    const Run cpu = train(Exec{{}, 2}, "sgd", 24, 2), run = train(gpu(DType::bf16), "sgd", 24, 2);
    for (size_t i = 0; i < cpu.steps.size(); ++i) {
        CHECK(run.steps[i].color_loss == doctest::Approx(cpu.steps[i].color_loss).epsilon(0.02));
        CHECK(run.steps[i].class_loss == doctest::Approx(cpu.steps[i].class_loss).epsilon(0.05));
    }
}

TEST_CASE("a GPU's bits do not depend on the run, nor on whether steps are recorded" *
          doctest::skip(support::no_gpu())) {
    const Exec exec = gpu(DType::bf16);
    const Run first = train(exec, "adadelta", 16, 4);
    CHECK(first.replays);
    CHECK(first.late_allocations == 0);
    CHECK(same(first, train(exec, "adadelta", 16, 4)));
    const Graphs off(false);
    const Run eager = train(exec, "adadelta", 16, 4);
    CHECK_FALSE(eager.replays);
    CHECK(eager.late_allocations == 0);
    CHECK(same(first, eager));
}

TEST_CASE("a step of another shape is recorded anew" * doctest::skip(support::no_gpu())) {
    const auto losses = [] {
        ColorNet net(narrow(), 1);
        net.to(kGpu);
        Optimizer optimizer(optimizer_spec("sgd"));
        net.visit([&](const std::string& name, Parameter& p) { optimizer.add(name, p); });
        StepRunner runner(net, optimizer, gpu());
        std::vector<double> result;
        for (const int64_t size : {16, 16, 16, 8, 8, 8, 16})
            result.push_back(runner.step(batch_of(1, size)).color_loss);
        return result;
    };
    const std::vector<double> recorded = losses();
    const Graphs off(false);
    CHECK(losses() == recorded);
}

TEST_CASE("on a GPU too, the op where a NaN was born is named and the weights stay" *
          doctest::skip(support::no_gpu())) {
    for (const int bad_step : {1, 4}) {  // launched, replayed
        ColorNet net(narrow(), 1);
        net.to(kGpu);
        Optimizer optimizer(optimizer_spec("sgd"));
        net.visit([&](const std::string& name, Parameter& p) { optimizer.add(name, p); });
        StepRunner runner(net, optimizer, gpu());
        for (int step = 1; step < bad_step; ++step) runner.step(batch_of(uint32_t(step), 16));
        const Tensor before = net.low[0].layer.weight.value.to(Device{}).clone();
        net.color[1].layer.bias.value.fill(std::numeric_limits<double>::infinity());
        CHECK_THROWS_WITH_AS(runner.step(batch_of(9, 16)), doctest::Contains("color.2.conv"),
                             NonFiniteError);
        CHECK(bit_equal(net.low[0].layer.weight.value, before));
    }
}

TEST_CASE("a run on a GPU that was stopped goes on bit for bit, there and nearly so on the CPU" *
          doctest::skip(support::no_gpu())) {
    const Folder folder;
    const auto data = std::make_shared<fixtures::FakeSet>(9, std::set<int64_t>{2});
    const auto part = [&](const std::string& run, const Exec& exec, int64_t steps, bool resume) {
        TrainOptions options;
        options.run = run;
        options.augment.size = 16;
        options.batch = kPhotos;
        options.ema_decay = 0.5;
        options.max_steps = steps;
        options.log_steps = 2;
        options.validation = data;
        options.validation_steps = 4;
        options.validation_photos = 3;
        options.resume = resume;
        Spec spec = narrow();
        spec.classes = 9;
        const std::atomic<bool> stop = false;
        Trainer trainer(std::make_unique<ColorNet>(spec, 1), data, options, exec);
        CHECK(trainer.run(stop) == TrainEnd::limit);
        CHECK(trainer.last_validation().has_value());
        return trainer.last_report();
    };
    const Exec exec = gpu(DType::bf16);
    const std::string whole = folder.run("whole"), parts = folder.run("parts");
    part(whole, exec, 5, false);
    part(parts, exec, 2, false);
    part(parts, exec, 5, true);
    const TensorFile a = read_tensor_file(state_path(whole)),
                     b = read_tensor_file(state_path(parts));
    REQUIRE(a.tensors.size() == b.tensors.size());
    for (const auto& [name, tensor] : a.tensors) CHECK(bit_equal(tensor, b.tensors.at(name)));
    // Files know nothing of devices.
    const TrainReport there = part(parts, gpu(), 6, true), here = part(whole, Exec{{}, 2}, 6, true);
    CHECK(there.color_loss == doctest::Approx(here.color_loss).epsilon(1e-3));
}

TEST_CASE("processes with GPUs share a batch as those of the CPU do" *
          doctest::skip(support::no_gpu())) {
    struct Ended {
        std::vector<StepResult> steps;
        std::vector<Tensor> weights;
    };
    const auto train_shared = [](const Exec& exec) {
        auto communicators = thread_communicators(2);
        std::vector<Ended> ended(2);
        std::vector<std::thread> ranks;
        for (size_t rank = 0; rank < 2; ++rank)
            ranks.emplace_back([&, rank] {
                const PeerGroup peers([&] { return std::move(communicators[rank]); });
                ColorNet net(narrow(false), 1);
                net.to(exec.device);
                Optimizer optimizer(optimizer_spec("sgd"));
                std::vector<Parameter*> trained;
                net.visit([&](const std::string& name, Parameter& p) {
                    optimizer.add(name, p);
                    trained.push_back(&p);
                });
                GradientReducer reducer(peers, trained, 4096);
                StepRunner runner(net, optimizer, exec);
                StepSettings settings;
                settings.peers = &peers, settings.reducer = &reducer;
                for (uint32_t step = 0; step < 3; ++step) {
                    const Batch whole = batch_of(step, 16);
                    const auto first = int64_t(rank) * kPhotos / 2;
                    Batch mine;
                    mine.first = first;
                    const auto half = [&](const Tensor& all) {
                        const Shape& s = all.shape();
                        const Tensor part = Tensor::empty({s[0] / 2, s[1], s[2], s[3]});
                        for (int64_t n = 0; n < s[0] / 2; ++n)
                            part.batch(n).copy_from(all.batch(first + n));
                        return part;
                    };
                    mine.luma = half(whole.luma), mine.ab = half(whole.ab);
                    mine.labels = {whole.labels.begin() + first,
                                   whole.labels.begin() + first + kPhotos / 2};
                    ended[rank].steps.push_back(runner.step(mine, settings));
                }
                net.visit([&](const std::string&, Parameter& p) {
                    ended[rank].weights.push_back(p.value.to(Device{}).clone());
                });
            });
        for (std::thread& rank : ranks) rank.join();
        for (size_t i = 0; i < ended[0].weights.size(); ++i)
            CHECK(bit_equal(ended[0].weights[i], ended[1].weights[i]));
        return ended[0].steps;
    };
    const std::vector<StepResult> cpu = train_shared(Exec{}), there = train_shared(gpu());
    REQUIRE(there.size() == 3);
    for (size_t i = 0; i < there.size(); ++i) {
        CHECK(there[i].color_loss == doctest::Approx(cpu[i].color_loss).epsilon(1e-4));
        CHECK(there[i].class_loss == doctest::Approx(cpu[i].class_loss).epsilon(1e-4));
        CHECK(there[i].gradient_norm == doctest::Approx(cpu[i].gradient_norm).epsilon(1e-3));
        CHECK(there[i].labelled == cpu[i].labelled);
        CHECK(there[i].correct == cpu[i].correct);
    }
}
