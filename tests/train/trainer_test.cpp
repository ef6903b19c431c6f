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
    CHECK_THROWS_WITH_AS(train(o, data), doctest::Contains("train_batch is 4"), UsageError);
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
