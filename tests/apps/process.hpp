// Runs the binary under test and measures it.
#pragma once
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace lumachrome {

inline std::string contents(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    std::ostringstream text;
    text << in.rdbuf();
    return text.str();
}

// A folder that goes away with its owner.
class TemporaryFolder {
  public:
    TemporaryFolder() {
        std::string pattern =
            (std::filesystem::temp_directory_path() / "lumachrome-XXXXXX").string();
        path = mkdtemp(pattern.data());
    }
    ~TemporaryFolder() { std::filesystem::remove_all(path); }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
    std::string operator/(const std::string& name) const { return (path / name).string(); }
    std::filesystem::path path;
};

struct Finished {
    int code = -1;  // exit code, or 128 + signal
    std::string out, err;
    double cpu_seconds = 0, peak_mib = 0;
    // Lines of stderr.
    int64_t messages() const { return std::count(err.begin(), err.end(), '\n'); }
};

struct Process {
    pid_t id;
    TemporaryFolder files;

    explicit Process(std::vector<std::string> words, const std::string& input = "/dev/null") {
        const char* binary = std::getenv("LUMACHROME_BINARY");
        std::vector<char*> argv{const_cast<char*>(binary)};
        for (std::string& word : words) argv.push_back(word.data());
        argv.push_back(nullptr);
        const std::string out = files / "out", err = files / "err";
        id = fork();
        if (id != 0) return;
        dup2(open(input.c_str(), O_RDONLY), STDIN_FILENO);
        dup2(open(out.c_str(), O_WRONLY | O_CREAT, 0600), STDOUT_FILENO);
        dup2(open(err.c_str(), O_WRONLY | O_CREAT, 0600), STDERR_FILENO);
        execv(binary, argv.data());
        _exit(127);
    }
    Finished wait() const {
        int status = 0;
        rusage usage{};
        wait4(id, &status, 0, &usage);
        const auto seconds = [](const timeval& t) {
            return double(t.tv_sec) + double(t.tv_usec) / 1e6;
        };
        return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
                contents(files.path / "out"), contents(files.path / "err"),
                seconds(usage.ru_utime) + seconds(usage.ru_stime), double(usage.ru_maxrss) / 1024};
    }
};

// One thread: what is measured then does not depend on what else the machine does.
inline Finished run(std::vector<std::string> words, const std::string& input = "/dev/null") {
    if (words.size() > 1 && !words[0].starts_with("-")) {
        words.push_back("--threads");
        words.push_back("1");
    }
    return Process(std::move(words), input).wait();
}

}  // namespace lumachrome
