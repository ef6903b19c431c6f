// Stopping and going on changes nothing: weights, optimizer, averages and log are those of a run
// that was never interrupted.
#include <doctest/doctest.h>

#include <filesystem>

#include "run_folder.hpp"
#include "tensor/random.hpp"
#include "train/trainer.hpp"

using namespace lumachrome;
namespace fs = std::filesystem;

namespace {

TrainOptions options_of(const fs::path& run, uint64_t seed,
                        const std::shared_ptr<const Dataset>& data) {
    const char* rules[] = {"adadelta", "adamw", "sgd"};
    TrainOptions o;
    o.run = run.string();
    o.seed = seed;
    o.augment.size = 64;
    o.augment.luma_jitter = 0.1;
    o.batch = 4;
    o.log_steps = 3;
    o.optimizer = optimizer_spec(rules[seed % 3]);
    o.schedule = {.kind = Schedule::cosine, .warmup_steps = 2, .total_steps = 16};
    o.clip_norm = seed % 2 ? 0.05 : 0;
    o.ema_decay = seed % 4 < 2 ? 0.9 : 0;
    o.validation = data;
    o.validation_steps = 4;
    o.validation_photos = 6;
    o.checkpoint_steps = seed % 5 ? 0 : 2;
    return o;
}

// Runs to max_steps, or is stopped (as by Ctrl-C) after `stop_at` steps.
void train(TrainOptions o, const std::shared_ptr<const Dataset>& data, int64_t max_steps,
           int64_t stop_at, bool resume) {
    Spec spec = preset("tiny");
    spec.class_names = data->classes();
    spec.classes = static_cast<int64_t>(spec.class_names.size());
    spec.dropout = 0.2;
    o.max_steps = max_steps;
    o.resume = resume;
    std::atomic<bool> stop = false;
    TrainEvents events;
    events.progress = [&](const TrainReport& r) { stop = r.step == stop_at; };
    Trainer trainer(std::make_unique<ColorNet>(spec, o.seed), data, o, Exec{{}, 2});
    CHECK(trainer.run(stop, events) == (stop_at < max_steps ? TrainEnd::stopped : TrainEnd::limit));
}

void check_equal(const std::string& a, const std::string& b) {
    TensorFile x = read_tensor_file(a), y = read_tensor_file(b);
    x.metadata.erase("seconds"), y.metadata.erase("seconds");
    CHECK(x.metadata == y.metadata);
    REQUIRE(x.tensors.size() == y.tensors.size());
    for (const auto& [name, tensor] : x.tensors) {
        CAPTURE(name);
        CHECK(bit_equal(tensor, y.tensors.at(name)));
    }
}

}  // namespace

TEST_CASE("20 random pairs of stopping and going on equal no interruption") {
    const fs::path folder = fs::temp_directory_path() / "lumachrome_resume_test";
    fs::remove_all(folder);
    const auto data = open_dataset({"scenes:28:80"}, 1);
    for (uint32_t pair = 0; pair < 20; ++pair) {
        CAPTURE(pair);
        Random random(11, Random::Purpose::test, pair);
        const int64_t first = 1 + random.below(8), second = 1 + random.below(8);
        CAPTURE(first);
        CAPTURE(second);
        const fs::path whole = folder / "whole", parts = folder / "parts";
        train(options_of(whole, pair, data), data, first + second, first + second, false);
        // Half of them are stopped by a signal, half by their limit of steps.
        const bool signal = pair % 2 == 0;
        train(options_of(parts, pair, data), data, signal ? 100 : first, first, false);
        train(options_of(parts, pair, data), data, first + second, first + second, true);
        check_equal(state_path(whole.string()), state_path(parts.string()));
        check_equal(model_path(whole.string()), model_path(parts.string()));
        const bool best = fs::exists(best_path(whole.string()));
        CHECK(fs::exists(best_path(parts.string())) == best);
        if (best) check_equal(best_path(whole.string()), best_path(parts.string()));
        CHECK(timeless_log(whole.string()) == timeless_log(parts.string()));
        fs::remove_all(folder);
    }
}
