#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>

#include "tensor/error.hpp"
#include "tensor/file.hpp"
#include "tensor/json.hpp"
#include "train/evaluate.hpp"
#include "train/trainer.hpp"

using namespace lumachrome;
namespace fs = std::filesystem;

namespace {

struct Folder {
    fs::path path = fs::temp_directory_path() / "lumachrome_trainer_test";
    Folder() { fs::remove_all(path); }
    ~Folder() { fs::remove_all(path); }
    std::string run(const std::string& name) const { return (path / name).string(); }
};

TrainOptions options(const std::string& run, int64_t steps) {
    TrainOptions o;
    o.run = run;
    o.augment.size = 64;
    o.batch = 4;
    o.max_steps = steps;
    o.log_steps = 2;
    return o;
}

Spec tiny(const Dataset& data) {
    Spec spec = preset("tiny");
    spec.class_names = data.classes();
    spec.classes = static_cast<int64_t>(spec.class_names.size());
    return spec;
}

void train(const TrainOptions& o, const std::shared_ptr<const Dataset>& data) {
    const std::atomic<bool> stop = false;
    Trainer trainer(std::make_unique<ColorNet>(tiny(*data), o.seed), data, o, Exec{{}, 2});
    CHECK(trainer.run(stop) == TrainEnd::limit);
}

}  // namespace

TEST_CASE("stopping and resuming gives the bits of an uninterrupted run") {
    const Folder folder;
    const auto data = open_dataset({"scenes:40"}, 1);
    for (const char* rule : {"adadelta", "adam", "sgd"}) {
        CAPTURE(rule);
        const std::string whole = folder.run(std::string("whole-") + rule),
                          parts = folder.run(std::string("parts-") + rule);
        TrainOptions o = options(whole, 7);
        o.optimizer = optimizer_spec(rule);
        train(o, data);
        o.run = parts;
        for (int64_t steps : {2, 3, 7}) {
            o.max_steps = steps;
            train(o, data);
            o.resume = true;
        }
        CHECK(read_file(model_path(whole)) == read_file(model_path(parts)));
        const TensorFile a = read_tensor_file(state_path(whole)),
                         b = read_tensor_file(state_path(parts));
        REQUIRE(a.tensors.size() == b.tensors.size());
        for (const auto& [name, tensor] : a.tensors) CHECK(bit_equal(tensor, b.tensors.at(name)));
    }
}

TEST_CASE("a run that ended before its first step has validated what it started from, once") {
    const Folder folder;
    const auto data = open_dataset({"scenes:20"}, 1);
    const auto run = [&](TrainOptions o, bool stopped) {
        const std::atomic<bool> stop = stopped;
        Trainer trainer(std::make_unique<ColorNet>(tiny(*data), 1), data, o, Exec{{}, 2});
        CHECK(trainer.run(stop) == (stopped ? TrainEnd::stopped : TrainEnd::limit));
        return trainer.progress();
    };
    TrainOptions o = options(folder.run("whole"), 2);
    o.validation = data;
    o.validation_photos = 4;
    o.validation_steps = 1;
    o.validate_first = true;
    o.optimizer = optimizer_spec("sgd");
    const TrainProgress whole = run(o, false);
    o.run = folder.run("parts");
    run(o, true);
    o.resume = true;
    const TrainProgress parts = run(o, false);
    CHECK(parts.validations_since_best == whole.validations_since_best);
    CHECK(parts.best_step == whole.best_step);
    for (const char* name : {"whole", "parts"}) {
        CAPTURE(name);
        std::ifstream in(metrics_path(folder.run(name)));
        int at_start = 0;
        for (std::string line; std::getline(in, line);)
            at_start += Json::parse(line).at("step").integer() == 0;
        CHECK(at_start == 1);
    }
}

TEST_CASE("a run is not overwritten, and a damaged one is refused") {
    const Folder folder;
    const auto data = open_dataset({"scenes:20"}, 1);
    TrainOptions o = options(folder.run("run"), 1);
    train(o, data);
    CHECK_THROWS_AS(train(o, data), UsageError);
    o.resume = true;
    o.optimizer = optimizer_spec("adam");
    CHECK_THROWS_WITH_AS(train(o, data), doctest::Contains("goes on only as it began"), UsageError);
    o.optimizer = optimizer_spec("adadelta");
    o.batch = 5;
    CHECK_THROWS_WITH_AS(train(o, data), doctest::Contains("batch is 4"), UsageError);
    o.batch = 4;
    TensorFile state = read_tensor_file(state_path(o.run));
    for (const char* step : {"9223372036854775807", "-1", "x", ""}) {
        state.metadata["step"] = step;
        write_tensor_file(state_path(o.run), state, true);
        CHECK_THROWS_WITH_AS(train(o, data), doctest::Contains("metadata key step"), ModelError);
    }
    std::vector<uint8_t> bytes = read_file(state_path(o.run));
    bytes.resize(bytes.size() / 2);
    write_file_atomic(state_path(o.run), bytes, true);
    CHECK_THROWS_AS(train(o, data), ModelError);
    o.run = folder.run("none");
    CHECK_THROWS_AS(train(o, data), UsageError);
}

TEST_CASE("both activations learn: the loss falls on a few photos") {
    for (Activation activation : {Activation::relu, Activation::sigmoid}) {
        const auto data = open_dataset({"scenes:8"}, 1);
        Spec spec = tiny(*data);
        spec.activation = activation;
        ColorNet net(spec, 1);
        Optimizer optimizer(optimizer_spec("adam"));
        net.visit([&](const std::string& name, Parameter& p) { optimizer.add(name, p); });
        AugmentSpec augment;
        augment.size = 64;
        augment.flip = false;
        Loader loader(data, augment, 8, 1, 1);
        const Batch batch = loader.next();
        double first = 0, last = 0;
        for (int step = 0; step < 60; ++step) {
            const StepResult r = train_step(net, optimizer, Exec{{}, 2}, batch);
            (step == 0 ? first : last) = r.color_loss + kAlpha * r.class_loss;
        }
        CAPTURE(name(activation));
        CHECK(last < 0.3 * first);
    }
}

TEST_CASE("metrics are logged as one JSON object a line") {
    const Folder folder;
    TrainOptions o = options(folder.run("run"), 4);
    train(o, open_dataset({"scenes:20"}, 1));
    std::ifstream in(o.run + "/metrics.jsonl");
    std::string line;
    int lines = 0;
    while (std::getline(in, line)) {
        const Json json = Json::parse(line);
        CHECK(json.at("step").integer() == 2 * (lines + 1));
        CHECK(json.at("color_loss").number() > 0);
        ++lines;
    }
    CHECK(lines == 2);
}

TEST_CASE("evaluation of a perfect and of a gray result") {
    const auto data = open_dataset({"scenes:3"}, 1);
    const Image truth = data->read(0).image;
    const ColorQuality perfect = compare(truth, truth);
    CHECK(perfect.rmse_ab == 0);
    CHECK(perfect.delta_e2000_mean == 0);
    CHECK(perfect.psnr_rgb == 100);
    Colorizer colorizer(std::make_unique<ColorNet>(tiny(*data), 1), {}, Exec{{}, 2});
    const Evaluation e = evaluate(colorizer, *data, 0, {});
    CHECK(e.images == 3);
    CHECK(e.gray_baseline.colorfulness < 2);
    CHECK(e.gray_baseline.rmse_ab > 3);
    CHECK(e.top5 >= e.top1);
}

TEST_CASE("the step schedule falls by its factor after every stair, after the warm-up") {
    const Schedule s{
        .kind = Schedule::steps, .warmup_steps = 10, .step_length = 100, .step_factor = 0.5};
    CHECK(s.factor(0, 0) == doctest::Approx(0.1));
    CHECK(s.factor(9, 0) == 1);
    CHECK(s.factor(109, 0) == 1);
    CHECK(s.factor(110, 0) == 0.5);
    CHECK(s.factor(310, 0) == doctest::Approx(0.125));
}

TEST_CASE("weight averages follow their formula, and the model file holds them") {
    const Folder folder;
    TrainOptions o = options(folder.run("run"), 3);
    o.ema_decay = 0.15;  // under the ramp's (1 + t) / (10 + t) from the first step on
    const auto data = open_dataset({"scenes:40"}, 1);
    Trainer trainer(std::make_unique<ColorNet>(tiny(*data), 1), data, o, Exec{{}, 2});
    const auto bias = [&] { return trainer.net().output.weight.value.clone(); };
    Tensor expected = bias();
    TrainEvents events;
    events.progress = [&](const TrainReport&) {
        const Tensor now = bias();
        for (int64_t i = 0; i < now.numel(); ++i)
            expected.data<float>()[i] +=
                (1 - 0.15f) * (now.data<float>()[i] - expected.data<float>()[i]);
    };
    const std::atomic<bool> stop = false;
    trainer.run(stop, events);
    const TensorFile model = read_tensor_file(model_path(o.run));
    const Tensor saved = to_memory_order(model.tensors.at("output.conv.weight"));
    for (int64_t i = 0; i < saved.numel(); ++i)
        CHECK(saved.data<float>()[i] == doctest::Approx(expected.data<float>()[i]).epsilon(1e-5));
    // Training itself goes on with the last weights.
    CHECK_FALSE(bit_equal(bias(), saved));
}

TEST_CASE("frozen stages keep every bit, their running statistics too") {
    const Folder folder;
    TrainOptions o = options(folder.run("run"), 3);
    o.freeze = {"low", "global"};
    const auto data = open_dataset({"scenes:40"}, 1);
    Trainer trainer(std::make_unique<ColorNet>(tiny(*data), 1), data, o, Exec{{}, 2});
    std::map<std::string, Tensor> before;
    trainer.net().visit(
        [&](const std::string& name, Parameter& p) { before[name] = p.value.clone(); });
    const std::atomic<bool> stop = false;
    trainer.run(stop);
    trainer.net().visit([&](const std::string& name, Parameter& p) {
        CAPTURE(name);
        const bool frozen = name.starts_with("low.") || name.starts_with("global.");
        // Biases before batch norm have no gradient but rounding's.
        if (frozen || !name.ends_with("conv.bias"))
            CHECK(bit_equal(p.value, before[name]) == frozen);
    });
    o.freeze = {"nonsense"};
    o.run = folder.run("other");
    CHECK_THROWS_AS(Trainer(std::make_unique<ColorNet>(tiny(*data), 1), data, o, Exec{{}, 2}),
                    UsageError);
}

TEST_CASE("training ends when validation stops improving, and keeps the best and the last states") {
    const Folder folder;
    const auto data = open_dataset({"scenes:40"}, 1);
    TrainOptions o = options(folder.run("run"), 100);
    o.optimizer = optimizer_spec("sgd");
    o.optimizer.learning_rate = 1e-12;  // nothing improves but by running statistics
    o.validation = data;
    o.validation_steps = 1;
    o.validation_photos = 4;
    o.patience = 2;
    o.checkpoint_steps = 1;
    o.keep = 2;
    Trainer trainer(std::make_unique<ColorNet>(tiny(*data), 1), data, o, Exec{{}, 2});
    int64_t last_best = 0, validations = 0;
    TrainEvents events;
    events.validated = [&](int64_t step, const ValidationResult& v, bool best) {
        if (best) last_best = step;
        ++validations;
        CHECK(v.images == 4);
        CHECK(v.layers.size() > 15);
    };
    const std::atomic<bool> stop = false;
    CHECK(trainer.run(stop, events) == TrainEnd::patience);
    const int64_t end = trainer.progress().step;
    CHECK(trainer.progress().best_step == last_best);
    CHECK(end == last_best + 2);
    CHECK(validations == end);
    CHECK(read_tensor_file(best_path(o.run)).metadata.at("training_step") ==
          std::to_string(last_best));
    std::vector<std::string> kept;
    for (const auto& entry : fs::directory_iterator(o.run))
        if (entry.path().filename().string().starts_with("state-"))
            kept.push_back(read_tensor_file(entry.path().string()).metadata.at("step"));
    std::sort(kept.begin(), kept.end(),
              [](auto& a, auto& b) { return std::stoi(a) < std::stoi(b); });
    CHECK(kept == std::vector{std::to_string(end - 1), std::to_string(end)});
    CHECK(fs::exists(o.run + "/report.html"));
}

TEST_CASE("two processes cannot train in one folder") {
    const Folder folder;
    fs::create_directories(folder.path);
    const RunLog first(folder.path.string(), 0, false);
    CHECK_THROWS_WITH_AS(RunLog(folder.path.string(), 0, false),
                         doctest::Contains("another process"), UsageError);
}
