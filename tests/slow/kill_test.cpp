// A run that is killed again and again ends with the bits of one that was left alone.
#include <doctest/doctest.h>

#include <chrono>
#include <thread>

#include "../apps/process.hpp"
#include "tensor/json.hpp"
#include "tensor/random.hpp"
#include "tensor/tensor_file.hpp"
#include "train/run_log.hpp"
#include "train/train_state.hpp"

using namespace lumachrome;

namespace {

constexpr int kKills = 200;

std::vector<std::string> command(const std::string& run, int64_t steps, bool resume) {
    std::vector<std::string> words = {"train",
                                      "scenes:28:80",
                                      "--out",
                                      run,
                                      "--preset",
                                      "tiny",
                                      "--size",
                                      "32",
                                      "--batch",
                                      "2",
                                      "--threads",
                                      "1",
                                      "--checkpoint-steps",
                                      "1",
                                      "--ema",
                                      "0.9",
                                      "--keep",
                                      "3",
                                      "--steps",
                                      std::to_string(steps),
                                      "--validation-steps",
                                      "7",
                                      "-q"};
    if (resume) words.push_back("--resume");
    return words;
}

int64_t saved_step(const std::string& run) {
    return std::stoll(read_tensor_file(state_path(run)).metadata.at("step"));
}

// While the file may be replaced at any moment. Until the first save is complete there is no model.
int64_t step_on_disk(const std::string& run) {
    return std::filesystem::exists(model_path(run)) ? saved_step(run) : 0;
}

// Of the last whole line.
int64_t logged_step(const std::string& run) {
    std::ifstream in(metrics_path(run));
    int64_t step = 0;
    for (std::string line; std::getline(in, line);) try {
            step = Json::parse(line).at("step").integer();
        } catch (const InputError&) {
        }
    return step;
}

}  // namespace

TEST_CASE("200 times kill -9 during checkpointing lose nothing but the step in work") {
    const TemporaryFolder folder;
    const std::string run = folder / "killed", calm = folder / "calm";
    int64_t step = 0, unreadable = 0;
    for (uint32_t kill_number = 0; kill_number < kKills; ++kill_number) {
        CAPTURE(kill_number);
        Random random(13, Random::Purpose::test, kill_number);
        const Process process(command(run, 1'000'000, std::filesystem::exists(state_path(run))));
        // Not before it has come to a first save, then at any moment of its loop.
        const auto start = std::chrono::steady_clock::now();
        while (step_on_disk(run) <= step &&
               std::chrono::steady_clock::now() - start < std::chrono::seconds(30))
            std::this_thread::sleep_for(std::chrono::milliseconds(2));
        std::this_thread::sleep_for(std::chrono::microseconds(random.below(60'000)));
        kill(process.id, SIGKILL);
        const Finished finished = process.wait();
        CHECK(finished.code == 128 + SIGKILL);
        int64_t now = -1;
        try {
            now = saved_step(run);
            read_tensor_file(model_path(run));
        } catch (const Error& error) {
            ++unreadable;
            FAIL(error.what());
        }
        CHECK(now > step);                   // nothing that was saved is gone
        CHECK(now >= logged_step(run) - 1);  // at most one interval, here one step, is lost
        step = now;
    }
    CHECK(unreadable == 0);
    MESSAGE(kKills << " kills, " << step << " steps");
    // No rubbish is left but temporary files.
    const Finished last = Process(command(run, step + 5, true)).wait();
    CAPTURE(last.err);
    CHECK(last.code == 0);
    CHECK(Process(command(calm, step + 5, false)).wait().code == 0);
    for (const auto& path : {state_path, model_path, best_path}) {
        TensorFile a = read_tensor_file(path(run)), b = read_tensor_file(path(calm));
        a.metadata.erase("seconds"), b.metadata.erase("seconds");
        CHECK(a.metadata == b.metadata);
        for (const auto& [name, tensor] : a.tensors) {
            CAPTURE(name);
            CHECK(bit_equal(tensor, b.tensors.at(name)));
        }
    }
}
