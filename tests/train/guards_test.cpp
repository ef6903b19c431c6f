// A NaN anywhere must be caught in the step where it appears, and never reach a checkpoint.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <limits>

#include "../support/random_tensor.hpp"
#include "tensor/error.hpp"
#include "tensor/file.hpp"
#include "train/train_state.hpp"
#include "train/train_step.hpp"

using namespace lumachrome;
namespace fs = std::filesystem;

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Spoils one value of the output, or of an input gradient, of the op that comes `at`-th.
struct Spoiler : Watch {
    bool armed = false, in_backward = false;
    int at = 0, seen = 0;
    uint32_t element = 0;
    std::string victim;

    void spoil(const Tape::Node& node, const Tensor& value) {
        if (!armed || seen++ != at) return;
        value.data<float>()[element % value.numel()] = kNan;
        victim = node.op->name();
    }
    // Strikes again in the pass that looks for the culprit.
    void forward(const Tape& tape, const Tape::Node& node, const Tensor& out) override {
        const auto is_op = [](const Tape::Node& earlier) { return earlier.op != nullptr; };
        if (std::none_of(tape.nodes().begin(), tape.nodes().end(), is_op)) seen = 0;
        if (!in_backward) spoil(node, out);
    }
    void backward(const Tape&, const Tape::Node& node, std::span<const GradIn> din) override {
        if (in_backward && din[0]) spoil(node, din[0].grad);
    }
};

struct Training {
    ColorNet net;
    Optimizer optimizer;
    Training() : net(spec(), 1), optimizer(optimizer_spec("adam")) {
        net.visit([&](const std::string& name, Parameter& p) { optimizer.add(name, p); });
    }
    static Spec spec() {
        Spec s = preset("tiny");
        s.classes = 3;
        s.dropout = 0.1;
        return s;
    }
    Batch batch(uint32_t step) const {
        return {random_tensor({4, 32, 32, 1}, step),
                random_tensor({4, 16, 16, 2}, 100 + step),
                {0, 1, 2, -1}};
    }
};

}  // namespace

TEST_CASE("a NaN at 100 random places is caught in its step and never saved") {
    const fs::path folder = fs::temp_directory_path() / "lumachrome_guards_test";
    fs::remove_all(folder);
    fs::create_directories(folder);
    for (uint32_t trial = 0; trial < 100; ++trial) {
        CAPTURE(trial);
        Random random(7, Random::Purpose::test, trial);
        Training t;
        Spoiler spoiler;
        StepSettings settings;
        settings.watch = &spoiler;
        const auto bad_step = static_cast<uint32_t>(random.below(3));
        for (uint32_t step = 0; step < bad_step; ++step)
            train_step(t.net, t.optimizer, Exec{{}, 2}, t.batch(step), settings);
        save_train_state(folder.string(), {t.net, t.optimizer}, {}, {}, {});
        const std::vector<uint8_t> before = read_file(state_path(folder.string()));

        Batch batch = t.batch(bad_step);
        const auto spoil = [&](const Tensor& tensor) {
            tensor.data<float>()[random.below(tensor.numel())] = kNan;
        };
        auto& slot = t.optimizer.slots()[size_t(random.below(std::ssize(t.optimizer.slots())))];
        const int64_t kind = random.below(6);
        CAPTURE(kind);
        switch (kind) {
            case 0:
                spoil(batch.luma);
                break;
            case 1:
                spoil(batch.ab);
                break;
            case 2:
                spoil(slot.parameter->value);
                break;
            case 3:
                spoil(random.below(2) ? slot.first : slot.second);
                break;
            default:
                spoiler.armed = true;
                spoiler.in_backward = kind == 5;
                spoiler.at = int(random.below(40));
                spoiler.element = uint32_t(random.below(1 << 20));
        }
        std::string message;
        try {
            train_step(t.net, t.optimizer, Exec{{}, 2}, batch, settings);
        } catch (const Error& error) {
            message = error.what();
        }
        CAPTURE(message);
        CHECK(message.starts_with("step " + std::to_string(bad_step + 1) + ": "));
        if (kind == 2) CHECK(message.find("a parameter of") != message.npos);
        if (kind == 3) CHECK(message.find("the update made " + slot.name) != message.npos);
        if (kind == 5)
            CHECK(message.find("the gradient made by " + spoiler.victim) != message.npos);
        if (kind == 4) CHECK(message.find("the output of " + spoiler.victim) != message.npos);
        if (kind == 2 || kind == 3)
            CHECK_THROWS_WITH_AS(
                save_train_state(folder.string(), {t.net, t.optimizer}, {}, {}, {}),
                doctest::Contains("not saved"), Error);
        CHECK(read_file(state_path(folder.string())) == before);
    }
    fs::remove_all(folder);
}

TEST_CASE("gradients longer than the limit are scaled down to it") {
    Training a, b;
    const double norm =
        train_step(a.net, a.optimizer, Exec{{}, 2}, a.batch(0), {.rate_factor = 0}).gradient_norm;
    REQUIRE(norm > 0);
    // Adam's first moment after one step is (1 - b1) g: it shows the gradient that was used.
    const StepResult clipped =
        train_step(b.net, b.optimizer, Exec{{}, 2}, b.batch(0), {.clip_norm = norm / 4});
    CHECK(clipped.gradient_norm == norm);
    for (size_t i = 0; i < a.optimizer.slots().size(); ++i) {
        const Tensor &whole = a.optimizer.slots()[i].first, &part = b.optimizer.slots()[i].first;
        for (int64_t k = 0; k < whole.numel(); ++k)
            CHECK(part.data<float>()[k] ==
                  doctest::Approx(whole.data<float>()[k] / 4).epsilon(1e-5));
    }
}
