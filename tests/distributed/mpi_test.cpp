// Several processes for real: this program starts itself under mpirun, in a role that it finds in
// its arguments. Skipped with a message where MPI is missing.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <thread>

#include "apps/process.hpp"
#include "distributed/shares.hpp"
#include "tensor/error.hpp"
#include "train/distributed/launch.hpp"

using namespace lumachrome;
using Clock = std::chrono::steady_clock;

namespace {

constexpr int kOk = 0, kInternalError = 1, kBadInput = 3, kStoppedEarly = 75;

std::atomic<bool> stop_requested = false;

void require(bool holds, const char* what) {
    if (!holds) throw Error(what);
}

void sleep_seconds(double seconds) {
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

// ---- what a rank does; arguments: "rank" ROLE FOLDER

int collectives(const PeerGroup& peers, const std::string&) {
    const int R = peers.count();
    for (size_t count : {size_t{1}, size_t{1000}, size_t{5} << 20}) {  // the last in two pieces
        std::vector<float> values(count, 1);
        values.back() = static_cast<float>(peers.rank());
        peers.submit([&](Communicator& c) { c.all_reduce_sum(values); }).get();
        require(values.back() == static_cast<float>(R * (R - 1) / 2), "sum of f32");
        require(count == 1 || values[count - 2] == static_cast<float>(R), "sum of f32");
    }
    require(peers.sum_scalars({0.5, double(peers.rank())})[0] == 0.5 * R, "sum of f64");
    const Tensor tensor = Tensor::full({3}, peers.rank());
    peers.broadcast({&tensor, 1}, R - 1);
    require(tensor.item(2) == R - 1, "broadcast");
    peers.check_equal(7, "numbers");
    peers.barrier();
    return kOk;
}

int gradients(const PeerGroup& peers, const std::string&) {
    const PeerGroup alone(self_communicator);
    std::string worst;
    const double apart = difference(outcome(alone, {}), outcome(peers, {}), worst);
    require(apart <= 1e-12, worst.c_str());
    return kOk;
}

int alarm(const PeerGroup& peers, const std::string&) {
    peers.check_equal(peers.rank() == 1 ? 8 : 7, "weights");
    return kOk;
}

int silence(const PeerGroup& peers, const std::string&) {
    peers.barrier();
    if (peers.rank() == 1) sleep_seconds(60);
    peers.barrier();
    return kOk;
}

int killed(const PeerGroup& peers, const std::string&) {
    for (int step = 0;; ++step) {
        if (step == 5 && peers.rank() == 1) raise(SIGKILL);
        peers.sum_scalars({1});
    }
}

int throws(const PeerGroup& peers, const std::string&) {
    peers.barrier();
    if (peers.rank() == 1) throw InputError("photo.png: truncated");
    peers.barrier();
    return kOk;
}

int all_throw(const PeerGroup& peers, const std::string&) {
    peers.barrier();
    throw InputError("list.txt: names no photo");
}

// Trains until asked to stop; then rank 0 takes two seconds to save.
int stop(const PeerGroup& peers, const std::string& folder) {
    if (peers.rank() == 0) std::ofstream(folder + "/started");
    while (peers.sum_scalars({stop_requested ? 1.0 : 0.0})[0] == 0) sleep_seconds(0.01);
    if (peers.rank() == 0) {
        sleep_seconds(2);
        std::ofstream(folder + "/saved");
    }
    peers.barrier();
    return kStoppedEarly;
}

using Role = int (*)(const PeerGroup&, const std::string& folder);
const std::map<std::string, Role> kRoles = {{"collectives", collectives},
                                            {"gradients", gradients},
                                            {"alarm", alarm},
                                            {"silence", silence},
                                            {"killed", killed},
                                            {"throws", throws},
                                            {"all_throw", all_throw},
                                            {"stop", stop}};

int run_rank(const std::string& role, const std::string& folder) {
    for (int s : {SIGINT, SIGTERM, SIGUSR1}) signal(s, [](int) { stop_requested = true; });
    try {
        const PeerGroup peers;
        std::ofstream(folder + "/rank" + std::to_string(peers.rank())) << getpid();
        return kRoles.at(role)(peers, folder);
    } catch (const PeerError& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return kStoppedEarly;
    } catch (const InputError& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return kBadInput;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return kInternalError;
    }
}

// ---- the launcher in a process of its own; arguments: "launch" COUNT ROLE FOLDER

std::string own_path() {
    return std::filesystem::read_symlink("/proc/self/exe");
}

int run_launcher(int count, const std::string& role, const std::string& folder) {
    try {
        const Launched launched = launch_processes(count, own_path(), {"rank", role, folder});
        std::fprintf(stderr, "%s\n", launched.note.c_str());
        return launched.code;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 69;
    }
}

struct Job {
    TemporaryFolder folder;
    pid_t id = 0;
    Clock::time_point start = Clock::now();

    Job(int count, const std::string& role) {
        std::vector<std::string> words{own_path(), "launch", std::to_string(count), role,
                                       folder.path};
        std::vector<char*> argv;
        for (std::string& word : words) argv.push_back(word.data());
        argv.push_back(nullptr);
        const std::string log = folder / "log";
        id = fork();
        if (id != 0) return;
        for (int fd : {STDOUT_FILENO, STDERR_FILENO})
            dup2(open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600), fd);
        execv(argv[0], argv.data());
        _exit(127);
    }
    int wait() const {
        int status = 0;
        waitpid(id, &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    void wait_for(const std::string& file) const {
        while (!std::filesystem::exists(folder.path / file) && seconds() < 20) sleep_seconds(0.02);
        REQUIRE(std::filesystem::exists(folder.path / file));
    }
    double seconds() const { return std::chrono::duration<double>(Clock::now() - start).count(); }
    std::string text() const { return contents(folder / "log"); }
    pid_t rank(int r) const { return std::stoi(contents(folder / ("rank" + std::to_string(r)))); }
};

// Exited, whether its parent has noticed or not.
bool ended(pid_t id) {
    const std::string stat = contents("/proc/" + std::to_string(id) + "/stat");
    const size_t name = stat.rfind(") ");
    return name == stat.npos || stat[name + 2] == 'Z';
}

bool all_end(const Job& job, int ranks, double seconds) {
    const Clock::time_point start = Clock::now();
    int left = ranks;
    while (std::chrono::duration<double>(Clock::now() - start).count() < seconds) {
        left = 0;
        for (int r = 0; r < ranks; ++r) left += !ended(job.rank(r));
        if (left == 0) break;
        sleep_seconds(0.02);
    }
    return left == 0;
}

bool skipped() {
    const bool missing = !mpi_available() || std::system("command -v mpirun >/dev/null") != 0;
    if (missing) MESSAGE("skipped: needs a build with MPI, and mpirun");
    return missing;
}

}  // namespace

int main(int argc, char** argv) {
    const std::vector<std::string> words(argv + 1, argv + argc);
    if (words.size() >= 3 && words[0] == "rank") return run_rank(words[1], words[2]);
    if (words.size() == 4 && words[0] == "launch")
        return run_launcher(std::stoi(words[1]), words[2], words[3]);
    return doctest::Context(argc, argv).run();
}

TEST_CASE("collectives and gradients over MPI") {
    if (skipped()) return;
    for (const char* role : {"collectives", "gradients"})
        for (int count : {2, 4}) {
            CAPTURE(role);
            CAPTURE(count);
            const Job job(count, role);
            CHECK(job.wait() == kOk);
            CHECK(job.text() == "\n");
        }
}

TEST_CASE("weights that drifted apart end all processes with the same message") {
    if (skipped()) return;
    const Job job(4, "alarm");
    CHECK(job.wait() == kInternalError);
    CHECK(job.text().find("weights of process 1 of 4 (counted from 0) differ") !=
          std::string::npos);
}

TEST_CASE("a silent process is given up after the deadline") {
    if (skipped()) return;
    setenv("LUMACHROME_PEER_TIMEOUT", "2", 1);
    const Job job(2, "silence");
    unsetenv("LUMACHROME_PEER_TIMEOUT");
    CHECK(job.wait() == kStoppedEarly);
    CHECK(job.seconds() < 10);
    CHECK(job.text().find("process 0: no answer from the other processes for 2 s") !=
          std::string::npos);
    CHECK(all_end(job, 2, 1));
}

TEST_CASE("a killed process ends the job within seconds, and nothing is left running") {
    if (skipped()) return;
    const Job job(3, "killed");
    CHECK(job.wait() == kStoppedEarly);
    CHECK(job.seconds() < 10);
    CHECK(job.text() ==
          "a process was lost (Killed); the last checkpoint is intact, go on with --resume\n");
    CHECK(all_end(job, 3, 1));
}

TEST_CASE("an error of one process or of all keeps its exit code and its message") {
    if (skipped()) return;
    const Job one(3, "throws"), all(2, "all_throw");
    CHECK(one.wait() == kBadInput);
    CHECK(one.text().find("photo.png: truncated\n") == 0);
    CHECK(all_end(one, 3, 1));
    CHECK(all.wait() == kBadInput);
    CHECK(all.text().find("list.txt: names no photo\n") == 0);
}

TEST_CASE("a signal lets the processes save; a second one, and the launcher's death, end them") {
    if (skipped()) return;
    const Job interrupted(2, "stop"), terminated(2, "stop"), twice(2, "stop"), orphaned(2, "stop");
    for (const Job* job : {&interrupted, &terminated, &twice, &orphaned}) job->wait_for("started");
    kill(interrupted.id, SIGINT);
    kill(terminated.id, SIGTERM);
    kill(twice.id, SIGINT);
    kill(orphaned.id, SIGKILL);
    sleep_seconds(0.3);
    kill(twice.id, SIGINT);
    for (const Job* job : {&interrupted, &terminated}) {
        CHECK(job->wait() == kStoppedEarly);
        CHECK(std::filesystem::exists(job->folder.path / "saved"));
        CHECK(job->text() == "\n");
    }
    CHECK(twice.wait() == kStoppedEarly);
    CHECK(twice.text().find("stopped at once") == 0);
    orphaned.wait();
    CHECK(all_end(orphaned, 2, 10));
}

TEST_CASE("what cannot be launched is refused with what to do") {
    if (!mpi_available()) {
        CHECK_THROWS_WITH_AS(launch_processes(2, own_path(), {}),
                             doctest::Contains("libopenmpi-dev"), ResourceError);
        setenv("OMPI_COMM_WORLD_SIZE", "2", 1);
        CHECK_THROWS_WITH_AS(open_communicator(), doctest::Contains("libopenmpi-dev"),
                             ResourceError);
        unsetenv("OMPI_COMM_WORLD_SIZE");
        return;
    }
    const std::string path = std::getenv("PATH");
    setenv("PATH", "/nowhere", 1);
    CHECK_THROWS_WITH_AS(launch_processes(2, own_path(), {}), doctest::Contains("openmpi-bin"),
                         ResourceError);
    setenv("PATH", path.c_str(), 1);
    setenv("OMPI_COMM_WORLD_SIZE", "2", 1);
    CHECK_THROWS_AS(launch_processes(2, own_path(), {}), UsageError);
    CHECK_THROWS_WITH_AS(open_communicator(), doctest::Contains("MPI sees 1"), ResourceError);
    unsetenv("OMPI_COMM_WORLD_SIZE");
    setenv("LUMACHROME_PEER_TIMEOUT", "soon", 1);
    CHECK_THROWS_AS(peer_timeout_seconds(), UsageError);
    unsetenv("LUMACHROME_PEER_TIMEOUT");
    CHECK(peer_timeout_seconds() == 600);
}
