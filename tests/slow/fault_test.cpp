// A disk that fails at every call of a run, one after the other: what was saved stays readable, the
// message names the file, and going on afterwards gives the bits of a run without faults.
#include <doctest/doctest.h>

#include <atomic>
#include <map>
#include <memory>
#include <set>
#include <thread>

#include "run_folder.hpp"
#include "support/faults/faulty_process.hpp"

using namespace lumachrome;
namespace fs = std::filesystem;

namespace {

constexpr int kWorkers = 2;
constexpr int kReadySteps = 2, kSteps = 7;  // the last save is not one of the regular ones

// Without the number of the process and the time.
std::string plain(std::string name) {
    for (const char* mark : {".tmp", "events.out.tfevents"})
        if (const size_t at = name.find(mark); at != name.npos)
            name.resize(at + std::string(mark).size());
    return name;
}

struct Call {
    std::string name, file;  // file: within the run folder; "" the folder itself
    auto operator<=>(const Call&) const = default;
};

// 1 thread, batches of 2: a hundred milliseconds a run.
std::vector<std::string> words(const std::string& run, int steps, bool resume, int keep = 2) {
    std::vector<std::string> all = {"train", "scenes:28:80", "--out", run, "-q", "--tensorboard"};
    const std::pair<const char*, std::string> options[] = {{"--preset", "tiny"},
                                                           {"--size", "32"},
                                                           {"--batch", "2"},
                                                           {"--threads", "1"},
                                                           {"--checkpoint-steps", "2"},
                                                           {"--validation-steps", "3"},
                                                           {"--keep", std::to_string(keep)},
                                                           {"--steps", std::to_string(steps)}};
    for (const auto& [option, value] : options) all.insert(all.end(), {option, value});
    if (resume) all.push_back("--resume");
    return all;
}

std::vector<Call> calls_in(const std::string& count_file, const std::string& run) {
    std::ifstream in(count_file);
    std::string line;
    std::getline(in, line);
    const size_t count = std::stoul(line);
    std::vector<Call> calls;
    while (std::getline(in, line)) {
        const size_t space = line.find(' ');
        const std::string path = line.substr(space + 1);
        calls.push_back(
            {line.substr(0, space), plain(path.substr(std::min(path.size(), run.size() + 1)))});
    }
    REQUIRE(calls.size() == count);
    return calls;
}

// What a run without faults does and leaves.
struct Reference {
    TemporaryFolder folder;
    std::string run = folder / "reference", ready = folder / "ready";
    std::map<int64_t, TensorFile> states;  // of each save
    TensorFile model, best;
    std::string log;
    std::vector<Call> fresh_calls, resumed_calls;

    Reference() {
        const auto traced = [&](const std::string& target, int steps, bool resume, int keep,
                                const std::string& trace) {
            const Finished done =
                start_with_fault(words(target, steps, resume, keep), target, {}, trace).wait();
            CAPTURE(done.err);
            REQUIRE(done.code == 0);
            REQUIRE(done.err.empty());
            return calls_in(trace, target);
        };
        traced(run, kSteps, false, 100, folder / "trace");
        for (const auto& entry : fs::directory_iterator(run))
            if (entry.path().filename().string().starts_with("state-")) {
                TensorFile state = timeless(entry.path());
                states[std::stoll(state.metadata.at("step"))] = state;
            }
        REQUIRE(states.size() == 4);  // 2, 4, 6, 7
        model = timeless(model_path(run));
        best = timeless(best_path(run));
        log = timeless_log(run);
        fresh_calls = traced(folder / "fresh", kSteps, false, 2, folder / "trace");
        traced(ready, kReadySteps, false, 2, folder / "trace");
        fs::copy(ready, folder / "resumed", fs::copy_options::recursive);
        resumed_calls = traced(folder / "resumed", kSteps, true, 2, folder / "trace");
    }
};

struct Case {
    bool resumed;  // goes on with a run that holds a checkpoint, else begins one
    Fault fault;
    Call call;
};

struct Totals {
    std::mutex mutex;
    std::map<std::string, int> codes;  // "kind: code" -> how often
    std::set<Call> pairs;
    int complaints = 0;
};

// Exit code of a run that meets one refused call: told and survived, unless it happens at the
// start or in the save at the end. Such calls of `all` end with 69.
bool ends_the_run(const std::vector<Call>& all, int at) {
    const size_t index = static_cast<size_t>(at) - 1;
    size_t first_save = all.size(), last_save = 0, kept = 0;
    for (size_t i = 0; i < all.size(); ++i) {
        if (all[i] == Call{"fsync", "metrics.jsonl"}) {
            first_save = std::min(first_save, i);
            // The very last one follows the last state that is kept.
            for (size_t j = i; j < all.size(); ++j)
                if (all[j].name == "rename" && all[j].file.starts_with("state-"))
                    last_save = i, kept = j + 1;  // and its folder
        }
    }
    size_t begun = 0;  // the last thing before the first step: the options, or the log cut
    for (size_t i = 0; i < first_save; ++i)
        if (all[i] == Call{"ftruncate", "metrics.jsonl"} || all[i].file == "train.ini") begun = i;
    if (all[begun].file == "train.ini") ++begun;  // its folder
    return index <= begun || (index >= last_save && index <= kept);
}

// Nothing is lost when such a call fails: an old file stays longer; what a close could report of
// these two, the fsync before has reported.
bool costs_nothing(const Call& call) {
    return call.name == "unlink" || (call.name == "close" && (call.file == "metrics.jsonl" ||
                                                              call.file == "events.out.tfevents"));
}

// "" or what is wrong.
std::string examine(const Reference& reference, const Case& c, Totals& totals) {
    const auto folder = [] {
        const std::lock_guard lock(environment_mutex());
        return std::make_unique<TemporaryFolder>();
    }();
    const std::string run = *folder / "run";
    std::string wrong;
    const auto check = [&](bool holds, const std::string& what) {
        if (!holds) wrong += "  " + what + "\n";
    };
    if (c.resumed) fs::copy(reference.ready, run, fs::copy_options::recursive);
    const Finished hit = start_with_fault(words(run, kSteps, c.resumed), run, c.fault).wait();
    const std::vector<Call>& all = c.resumed ? reference.resumed_calls : reference.fresh_calls;
    const bool lasting = c.fault.length > 1, short_write = c.fault.kind == "short";

    // How it ended, and what it said.
    if (c.fault.kind == "crash") {
        check(hit.code == 137, "ends with 137");
    } else {
        const bool harmless = costs_nothing(c.call) && !lasting;
        const int expected = !harmless && ends_the_run(all, c.fault.at) ? 69 : 0;
        if (!lasting) check(hit.code == expected, "ends with " + std::to_string(expected));
        check(hit.code == 0 || hit.code == 69, "ends with 0 or 69");
        if (!harmless && !(lasting && hit.code == 0)) check(!hit.err.empty(), "tells");
        const char* reasons[] = {"No space left on device", "Input/output error",
                                 "Read-only file system"};
        const int reason = c.fault.kind == "eio" ? 1 : c.fault.kind == "erofs" ? 2 : 0;
        std::istringstream lines(hit.err);
        for (std::string line; std::getline(lines, line);)
            check(line.find(run) != line.npos && line.ends_with(reasons[reason]),
                  "names file and reason");
        if (short_write) check(hit.err.find("cannot write") != hit.err.npos, "says cannot write");
    }

    // What lies there now: complete files, each of one step.
    const auto intact = [&](const fs::path& path) -> int64_t {
        try {
            const TensorFile file = timeless(path);
            const int64_t step = std::stoll(file.metadata.at("training_step"));
            const bool state = file.metadata.contains("step");
            if (state) {
                check(reference.states.contains(step) &&
                          same(file, reference.states.at(step)).empty(),
                      path.filename().string() + " is that of its step");
            } else if (path.filename() == "best.safetensors") {
                check(step == 3 || step == 6, "best is of a validation");
            } else {
                check(reference.states.contains(step) && part_of(file, reference.states.at(step)),
                      "model is that of its step");
            }
            return step;
        } catch (const std::exception& error) {
            check(false, std::string("readable: ") + error.what());
            return 0;
        }
    };
    int64_t step = 0, model = 0;
    if (fs::exists(run))
        for (const auto& entry : fs::directory_iterator(run)) {
            const std::string name = entry.path().filename().string();
            if (!name.ends_with(".safetensors")) continue;
            const int64_t at = intact(entry.path());
            if (name == "state.safetensors") step = at;
            if (name == "model.safetensors") model = at;
        }
    check(step >= (c.resumed ? kReadySteps : 0) && step >= model, "nothing saved is gone");
    if (hit.code == 0) check(step == kSteps && model == kSteps, "0 means saved");

    // And on.
    const Finished last = start_with_fault(words(run, kSteps, step > 0), run, {}).wait();
    check(last.code == 0 && last.err.empty(), "goes on: " + last.err);
    if (last.code == 0) try {
            check(same(timeless(state_path(run)), reference.states.at(kSteps)).empty(),
                  "same state");
            check(same(timeless(model_path(run)), reference.model).empty(), "same model");
            check(timeless_log(run) == reference.log, "same log");
            check(fs::exists(run + "/train.ini") && fs::exists(run + "/report.html"),
                  "all written");
            for (const auto& entry : fs::recursive_directory_iterator(run)) {
                const std::string name = entry.path().filename().string();
                check(name.find(".tmp") == name.npos, "nothing half written is left: " + name);
            }
            check(same(timeless(best_path(run)), reference.best).empty(), "same best");
        } catch (const Error& error) {
            check(false, error.what());
        }
    const std::lock_guard lock(totals.mutex);
    ++totals.codes[c.fault.kind + (lasting ? " lasting" : "") + ": " + std::to_string(hit.code)];
    totals.pairs.insert(c.call);
    totals.complaints += !wrong.empty();
    if (!wrong.empty())
        wrong = c.fault.kind + (lasting ? " lasting" : "") + " at call " +
                std::to_string(c.fault.at) + (c.resumed ? " resumed" : " fresh") + ", " +
                c.call.name + " " + c.call.file + ": code " + std::to_string(hit.code) + ", \"" +
                hit.err + "\"\n" + wrong;
    return wrong;
}

// Every call of a resumed run and the first ones of a new run crash, or find the disk full for once
// or for good; each kind of call on each file meets everything.
std::vector<Case> cases(const Reference& reference) {
    std::vector<Case> all;
    std::set<Call> seen;
    const auto add = [&](bool resumed, size_t index) {
        const Call& call = (resumed ? reference.resumed_calls : reference.fresh_calls)[index];
        const auto meets = [&](const char* kind, int length) {
            all.push_back({resumed, {kind, static_cast<int>(index) + 1, length}, call});
        };
        const bool first = seen.insert(call).second;
        meets("crash", 1);
        meets("enospc", 1);
        if (resumed || first) meets("enospc", Fault::kForever);
        if (!first) return;
        meets("eio", 1);
        if (call.name == "write") meets("short", 1);
        const std::set<std::string> changes_names = {"open", "mkdir", "link", "rename", "unlink"};
        if (changes_names.contains(call.name)) meets("erofs", Fault::kForever);
    };
    for (size_t i = 0; i < reference.resumed_calls.size(); ++i) add(true, i);
    bool saved = false;
    for (size_t i = 0; i < reference.fresh_calls.size(); ++i) {
        if (!saved || !seen.contains(reference.fresh_calls[i])) add(false, i);
        saved = saved || reference.fresh_calls[i] == Call{"rename", "state-00000002.safetensors"};
    }
    return all;
}

}  // namespace

TEST_CASE("a failing disk at every call of a run costs no more than what it refused") {
    REQUIRE(fs::exists(faults_library()));
    const Reference reference;
    const std::vector<Case> all = cases(reference);
    Totals totals;
    std::atomic<size_t> next = 0;
    std::vector<std::string> wrong(all.size());
    std::vector<std::thread> workers;
    for (int w = 0; w < kWorkers; ++w)
        workers.emplace_back([&] {
            for (size_t i = next++; i < all.size(); i = next++)
                wrong[i] = examine(reference, all[i], totals);
        });
    for (std::thread& worker : workers) worker.join();
    for (const std::string& text : wrong)
        if (!text.empty()) FAIL_CHECK(text);
    std::set<Call> pairs(reference.fresh_calls.begin(), reference.fresh_calls.end());
    for (const Call& call : reference.resumed_calls) pairs.insert(call);
    for (const Call& call : pairs) {
        CAPTURE(call.name);
        CAPTURE(call.file);
        CHECK(totals.pairs.contains(call));
    }
    std::string text;
    for (const auto& [kind, count] : totals.codes)
        text += ", " + kind + " x " + std::to_string(count);
    MESSAGE(reference.fresh_calls.size()
            << " calls of a run, " << reference.resumed_calls.size() << " of a resumed one, "
            << pairs.size() << " kinds of call and file, " << all.size() << " faults" << text);
}

TEST_CASE("a run in a read-only folder is refused before it trains") {
    REQUIRE(fs::exists(faults_library()));
    for (const bool exists : {false, true}) {
        CAPTURE(exists);
        const TemporaryFolder folder;
        const std::string run = folder / "run";
        if (exists) fs::create_directory(run);
        const Finished refused =
            start_with_fault(words(run, 1'000'000, false), run, {"erofs", 1, Fault::kForever})
                .wait();
        CHECK(refused.code == 69);
        CHECK(refused.err == "lumachrome: " + run + (exists ? "/metrics.jsonl" : "") +
                                 ": cannot create: Read-only file system\n");
        CHECK(fs::exists(run) == exists);
        if (exists) CHECK(fs::is_empty(run));
    }
}
