// Runs the binary under test on a disk that fails on demand (faults.cpp).
#pragma once
#include <mutex>

#include "apps/process.hpp"

namespace lumachrome {

struct Fault {
    std::string kind = "none";
    int at = 0, length = 1;  // calls, counted from 1
    static constexpr int kForever = 1'000'000;
};

inline std::filesystem::path faults_library() {
    return std::filesystem::read_symlink("/proc/self/exe").parent_path() / "faults.so";
}

// The environment belongs to all threads: who reads or changes it locks this, and so does who asks
// for a temporary folder.
inline std::mutex& environment_mutex() {
    static std::mutex mutex;
    return mutex;
}

// The calls below `folder` are counted into `count_file`, unless that is empty.
inline Process start_with_fault(const std::vector<std::string>& words, const std::string& folder,
                                const Fault& fault, const std::string& count_file = "") {
    const std::lock_guard lock(environment_mutex());
    const std::pair<const char*, std::string> variables[] = {
        {"LD_PRELOAD", faults_library().string()},
        {"LUMACHROME_FAULT_FOLDER", folder},
        {"LUMACHROME_FAULT", fault.kind},
        {"LUMACHROME_FAULT_AT", std::to_string(fault.at)},
        {"LUMACHROME_FAULT_FOR", std::to_string(fault.length)},
        {"LUMACHROME_FAULT_COUNT_FILE", count_file}};
    for (const auto& [name, value] : variables) setenv(name, value.c_str(), 1);
    struct Restore {
        ~Restore() {
            for (const auto& [name, value] : all) unsetenv(name);
        }
        decltype(variables)& all;
    } restore{variables};
    return Process(words);
}

}  // namespace lumachrome
