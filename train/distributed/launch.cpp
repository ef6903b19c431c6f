#include "train/distributed/launch.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "tensor/exec.hpp"
#include "train/distributed/communicator.hpp"

namespace lumachrome {
namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1};
constexpr int kCannotRun = 127;  // of the child that found no mpirun to become; as shells have it

std::atomic<pid_t> child = 0;
std::atomic<int> signals = 0;
static_assert(std::atomic<pid_t>::is_always_lock_free);  // for use in a signal handler

// mpirun answers SIGINT and SIGTERM by killing its processes two seconds later, checkpoint or not.
// It hands SIGUSR1 on to them, and goes on waiting.
void pass_on(int signal) {
    if (signal == SIGHUP && signals > 0) return;  // a terminal that closes may say so twice
    const int saved = errno;
    if (child > 0) kill(child, signals == 0 ? SIGUSR1 : SIGTERM);
    ++signals;
    errno = saved;
}

// The signals reach pass_on, in a scope.
class ForwardedSignals {
  public:
    ForwardedSignals() {
        signals = 0;
        struct sigaction action {};
        action.sa_handler = pass_on;
        for (size_t i = 0; i < std::size(kSignals); ++i) {
            sigaction(kSignals[i], nullptr, &before_[i]);
            if (before_[i].sa_handler != SIG_IGN) sigaction(kSignals[i], &action, nullptr);
        }
    }
    ~ForwardedSignals() {
        for (size_t i = 0; i < std::size(kSignals); ++i)
            sigaction(kSignals[i], &before_[i], nullptr);
        child = 0;
    }
    ForwardedSignals(const ForwardedSignals&) = delete;
    ForwardedSignals& operator=(const ForwardedSignals&) = delete;

  private:
    struct sigaction before_[std::size(kSignals)];
};

std::string find_mpirun() {
    const char* path = std::getenv("PATH");
    std::string rest = path ? path : "";
    while (!rest.empty()) {
        const size_t colon = std::min(rest.find(':'), rest.size());
        const std::string candidate = rest.substr(0, colon) + "/mpirun";
        if (colon > 0 && access(candidate.c_str(), X_OK) == 0) return candidate;
        rest.erase(0, colon + 1);
    }
    throw ResourceError("mpirun: not found on the PATH; install openmpi-bin");
}

// In the child. A process group of its own keeps the terminal's Ctrl-C from mpirun.
[[noreturn]] void become(char* const* argv) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);  // does not outlive its parent
    for (int signal : kSignals) {
        struct sigaction now {};
        sigaction(signal, nullptr, &now);
        if (now.sa_handler != SIG_IGN) ::signal(signal, SIG_DFL);  // nohup reaches the ranks
    }
    const int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (nothing >= 0) dup2(nothing, STDIN_FILENO);
    execv(argv[0], argv);
    _exit(kCannotRun);
}

int wait_for(pid_t id) {
    int status = 0;
    while (waitpid(id, &status, 0) < 0)
        if (errno != EINTR)
            throw ResourceError(std::string("mpirun: cannot wait for it: ") + std::strerror(errno));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

Launched launch_processes(int count, const std::string& program,
                          std::vector<std::string> arguments) {
    if (started_processes() > 1)
        throw UsageError(
            "several processes, each of which is to start several: say it once, to "
            "mpirun or here");
    if (!mpi_version().starts_with("Open MPI"))
        throw ResourceError(mpi_available()
                                ? mpi_version() +
                                      ": only Open MPI's mpirun is started from here; "
                                      "start this program with your own"
                                : "several processes need MPI: install libopenmpi-dev and "
                                  "openmpi-bin, then meson setup --reconfigure build");
    // No binding: Open MPI would pin each of few processes to one core. Oversubscribing: it counts
    // whole cores as places, and refuses the processes that go beyond.
    std::vector<std::string> words{find_mpirun(),         "--quiet",   "-np",
                                   std::to_string(count), "--bind-to", "none",
                                   "--oversubscribe",     program};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    if (geteuid() == 0) {  // a container, as a rule; Open MPI wants to be told twice
        setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
        setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    }

    const ForwardedSignals forwarded;
    const pid_t id = fork();
    if (id < 0) throw ResourceError(std::string("cannot start mpirun: ") + std::strerror(errno));
    if (id == 0) become(argv.data());
    child = id;
    if (signals > 0) kill(id, SIGTERM);  // one came between the two lines above
    const int code = wait_for(id);
    child = 0;  // its number may be another's from here on
    if (code == kCannotRun) throw ResourceError(words[0] + ": cannot be run");
    if (signals > 1 || (signals > 0 && code >= 128))
        return {EX_TEMPFAIL, "stopped at once; the last checkpoint is intact, go on with --resume"};
    if (code >= 128)
        return {EX_TEMPFAIL, "a process was lost (" + std::string(strsignal(code - 128)) +
                                 "); the last checkpoint is intact, go on with --resume"};
    return {code, ""};
}

}  // namespace lumachrome
