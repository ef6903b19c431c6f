// `train --processes N` from end to end: trains, loses processes, is stopped, goes on with another
// number of them. Skipped with a message where MPI is missing.
#include <doctest/doctest.h>

#include <chrono>
#include <cmath>
#include <thread>

#include "run_folder.hpp"
#include "support/faults/faulty_process.hpp"
#include "tensor/random.hpp"
#include "train/distributed/communicator.hpp"

using namespace lumachrome;
namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

namespace {

constexpr int kKills = 20;
constexpr double kPatience = 300;  // seconds, of a busy machine

bool skipped() {
    const bool missing = !mpi_available() || std::system("command -v mpirun >/dev/null") != 0;
    if (missing) MESSAGE("skipped: needs a build with MPI, and mpirun");
    return missing;
}

struct Run {
    std::string folder;
    int processes = 1;
    int64_t steps = 1'000'000;
    bool resume = false, sync_batch_norm = false, json = false;
    int64_t checkpoint_steps = 0;  // 0: at the end
};

std::vector<std::string> words(const Run& run) {
    std::vector<std::string> all = {"train", "scenes:28:80", "--out", run.folder};
    const std::pair<const char*, std::string> options[] = {
        {"--preset", "tiny"},
        {"--size", "32"},
        {"--batch", "8"},
        {"--activation", "sigmoid"},
        {"--optimizer", "sgd"},
        {"--threads", "1"},
        {"--validation-steps", "1000000"},
        {"--processes", std::to_string(run.processes)},
        {"--steps", std::to_string(run.steps)},
        {"--checkpoint-steps", std::to_string(run.checkpoint_steps)}};
    for (const auto& [option, value] : options) all.insert(all.end(), {option, value});
    all.push_back(run.json ? "--json" : "-q");
    if (run.sync_batch_norm) all.push_back("--sync-bn");
    if (run.resume) all.push_back("--resume");
    return all;
}

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

void sleep_seconds(double seconds) {
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

struct Stat {
    char state = 'Z';  // also of what is gone
    pid_t parent = 0;
};

Stat stat_of(const std::string& id) {
    const std::string text = contents("/proc/" + id + "/stat");
    const size_t name = text.rfind(") ");
    if (name == text.npos) return {};
    return {text[name + 2], std::stoi(text.substr(name + 4))};
}

std::vector<pid_t> children(pid_t parent) {
    std::vector<pid_t> all;
    for (const auto& entry : fs::directory_iterator("/proc")) {
        const std::string name = entry.path().filename().string();
        if (name.find_first_not_of("0123456789") == name.npos && stat_of(name).parent == parent)
            all.push_back(std::stoi(name));
    }
    return all;
}

// Of launcher -> mpirun -> ranks.
std::vector<pid_t> ranks(pid_t launcher) {
    std::vector<pid_t> all;
    for (const pid_t mpirun : children(launcher))
        for (const pid_t rank : children(mpirun)) all.push_back(rank);
    return all;
}

// Until it has ended; after `limit` its processes are ended.
double seconds_to_end(const Process& process, double limit = kPatience) {
    const Clock::time_point start = Clock::now();
    while (stat_of(std::to_string(process.id)).state != 'Z') {
        if (seconds_since(start) > limit) {
            for (const pid_t rank : ranks(process.id)) kill(rank, SIGKILL);
            kill(process.id, SIGKILL);
            break;
        }
        sleep_seconds(0.01);
    }
    return seconds_since(start);
}

Finished finish(const Run& run) {
    const Process process(words(run));
    seconds_to_end(process);
    return process.wait();
}

void check_trains(const Run& run) {
    const Finished done = finish(run);
    CAPTURE(run.processes);
    CAPTURE(done.err);
    CHECK(done.code == 0);
    CHECK(done.err.empty());
}

int64_t saved_step(const std::string& run) {
    return std::stoll(read_tensor_file(state_path(run)).metadata.at("step"));
}

template <class Condition>
void wait_until(const Condition& condition) {
    const Clock::time_point start = Clock::now();
    while (!condition() && seconds_since(start) < kPatience) sleep_seconds(0.005);
    REQUIRE(condition());
}

// |a - b| / |a| over all tensors of the states whose names begin with `prefix`.
double apart(const std::string& run_a, const std::string& run_b, const std::string& prefix) {
    const TensorFile a = read_tensor_file(state_path(run_a));
    const TensorFile b = read_tensor_file(state_path(run_b));
    CHECK(a.metadata.at("step") == b.metadata.at("step"));
    double difference = 0, all = 0;
    for (const auto& [name, x] : a.tensors) {
        if (!name.starts_with(prefix)) continue;
        const Tensor& y = b.tensors.at(name);
        for (int64_t i = 0; i < x.numel(); ++i) {
            difference += std::pow(x.item(i) - y.item(i), 2);
            all += std::pow(x.item(i), 2);
        }
    }
    return std::sqrt(difference / all);
}

}  // namespace

TEST_CASE("several processes train to the end with the same weights in all of them") {
    if (skipped()) return;
    for (const int processes : {2, 4}) {
        const TemporaryFolder folder;
        const Clock::time_point start = Clock::now();
        check_trains({.folder = folder / "run", .processes = processes, .steps = 500});
        CHECK(saved_step(folder / "run") == 500);  // compared every 100 steps
        MESSAGE(processes << " processes: 500 steps in " << seconds_since(start) << " s");
    }
}

TEST_CASE("with shared batch norm, any number of processes trains the same network") {
    if (skipped()) return;
    // The momentum is the mean of the last gradients; one f32 gradient is off by 2e-5 whatever adds
    // it up (train/distributed/README.md), and ten steps leave it there, as sigmoids have no kinks.
    constexpr double kTolerance = 2e-5;  // measured: 1.5e-6
    const TemporaryFolder folder;
    const auto train = [&](const std::string& name, int processes, bool shared, int64_t steps) {
        const bool resume = fs::exists(state_path(folder / name));
        check_trains({.folder = folder / name,
                      .processes = processes,
                      .steps = steps,
                      .resume = resume,
                      .sync_batch_norm = shared});
        return resume;
    };
    train("one", 1, true, 10);
    train("two", 2, true, 10);
    train("four", 4, true, 10);
    CHECK_FALSE(train("changing", 2, true, 5));
    CHECK(train("changing", 1, true, 10));
    train("separate", 2, false, 10);
    for (const std::string name : {"two", "four", "changing"}) {
        const double gradients = apart(folder / "one", folder / name, "optimizer.first.");
        MESSAGE(name << ": gradients " << gradients << ", weights "
                     << apart(folder / "one", folder / name, "color."));
        CHECK(gradients < kTolerance);
    }
    // Another order of the samples, or statistics of a half, would be seen.
    CHECK(apart(folder / "one", folder / "separate", "optimizer.first.") > 1000 * kTolerance);
}

TEST_CASE("20 times kill -9 of one process end all of them, and the run goes on") {
    if (skipped()) return;
    const TemporaryFolder folder;
    const std::string run = folder / "run";
    int64_t step = 0;
    double slowest = 0, all = 0;
    for (uint32_t number = 0; number < kKills; ++number) {
        CAPTURE(number);
        Random random(17, Random::Purpose::test, number);
        const int processes = number % 4 == 3 ? 4 : 2;
        const Process process(words(
            {.folder = run, .processes = processes, .resume = step > 0, .checkpoint_steps = 5}));
        // Until the first save is complete there is no model.
        wait_until([&] { return fs::exists(model_path(run)) && saved_step(run) > step; });
        sleep_seconds(random.uniform(0, 0.2));
        const std::vector<pid_t> targets = ranks(process.id);
        REQUIRE(targets.size() == size_t(processes));
        const pid_t target = targets[random.below(uint32_t(processes))];
        kill(target, SIGKILL);
        const double seconds = seconds_to_end(process);
        const Finished ended = process.wait();
        CAPTURE(ended.err);
        CHECK(ended.code == 75);
        CHECK(ended.err.find("a process was lost (Killed)") != std::string::npos);
        CHECK(seconds < 30);
        slowest = std::max(slowest, seconds), all += seconds;
        for (const pid_t rank : targets)
            wait_until([&] { return stat_of(std::to_string(rank)).state == 'Z'; });
        const int64_t now = saved_step(run);
        CHECK(now > step);
        CHECK_NOTHROW(read_tensor_file(model_path(run)));
        step = now;
        if (number % 5 == 0)  // alone
            check_trains({.folder = run, .steps = ++step, .resume = true});
    }
    check_trains({.folder = run, .processes = 2, .steps = step + 5, .resume = true});
    CHECK(saved_step(run) == step + 5);
    MESSAGE(kKills << " kills, " << step << " steps; all processes gone after " << all / kKills
                   << " s in the mean, " << slowest << " s at most");
}

TEST_CASE("a signal to the launcher saves the very step and ends with 75") {
    if (skipped()) return;
    for (const int signal : {SIGTERM, SIGINT}) {
        const TemporaryFolder folder;
        const std::string run = folder / "run";
        const Process process(words({.folder = run, .processes = 2, .json = true}));
        wait_until(
            [&] { return fs::exists(metrics_path(run)) && !contents(metrics_path(run)).empty(); });
        kill(process.id, signal);
        const double seconds = seconds_to_end(process);
        const Finished ended = process.wait();
        CAPTURE(ended.err);
        CHECK(ended.code == 75);
        REQUIRE(!ended.out.empty());
        const Json result = Json::parse(ended.out);
        CHECK(result.at("step").integer() >= 20);  // the first line of the log
        CHECK(result.at("step").integer() == saved_step(run));
        MESSAGE("signal " << signal << ": saved step " << saved_step(run) << " and left after "
                          << seconds << " s");
        check_trains({.folder = run, .processes = 2, .steps = saved_step(run) + 2, .resume = true});
    }
}

TEST_CASE("what one process finds wrong ends all of them with its code and one message") {
    if (skipped()) return;
    const TemporaryFolder folder;
    const std::string run = folder / "run";
    check_trains({.folder = run, .steps = 1});
    const Clock::time_point start = Clock::now();
    const Finished twice = finish({.folder = run, .processes = 2});
    CHECK(twice.code == 2);
    CHECK(twice.messages() == 1);
    CHECK(twice.err.find("holds a run already; --resume continues it") != std::string::npos);
    MESSAGE("refused after " << seconds_since(start) << " s");

    // The disk is full when the first of them saves at the end.
    const std::string full = folder / "full";
    const Process process = start_with_fault(words({.folder = full, .processes = 2, .steps = 3}),
                                             full, {"enospc", 10, Fault::kForever});
    CHECK(seconds_to_end(process) < kPatience);
    const Finished unsaved = process.wait();
    CHECK(unsaved.code == 69);
    CHECK(unsaved.messages() == 1);
    CHECK(unsaved.err.find(full) != std::string::npos);
    CHECK(unsaved.err.ends_with("No space left on device\n"));
    CHECK_FALSE(fs::exists(state_path(full)));
}
