// What the CUDA compiler says of every kernel, held to what the kernels were written for. Needs no
// GPU: the build keeps a report beside each object (tensor/cuda/compile). Skipped in a build
// without the toolkit.
#include <cxxabi.h>
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

namespace fs = std::filesystem;

namespace {

struct Memory {  // of one kernel, for one target
    std::string kernel, target;
    int stack = 0, stores = 0, loads = 0;  // bytes
};
struct Instructions {
    std::string kernel, target;
    std::map<std::string, int> count;
};
struct Report {
    std::string file;  // "activation_cuda"
    bool read = false;
    std::vector<Memory> memory;
    std::vector<Instructions> instructions;
    std::vector<std::string> advice;  // of ptxas
    int count(const std::string& target, const std::string& instruction) const {
        int sum = 0;
        for (const Instructions& i : instructions)
            if (const auto found = i.count.find(instruction);
                i.target == target && found != i.count.end())
                sum += found->second;
        return sum;
    }
};

std::string demangled(const std::string& name) {
    int status = 0;
    char* const text = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
    const std::string result = status == 0 ? text : name;
    std::free(text);
    return result;
}

Report read(const fs::path& path) {
    static const std::regex compiling("Compiling entry function '.*' for '(.*)'");
    static const std::regex properties("Function properties for (\\S+)");
    static const std::regex bytes(
        "([0-9]+) bytes stack frame, ([0-9]+) bytes spill stores, ([0-9]+) bytes spill loads");
    std::ifstream in(path);
    Report report{path.stem().stem().string(), in.good(), {}, {}, {}};
    std::string line, target, kernel;
    for (std::smatch m; std::getline(in, line);) {
        if (std::regex_search(line, m, compiling)) {
            target = m[1];
        } else if (std::regex_search(line, m, properties)) {
            kernel = demangled(m[1]);
        } else if (std::regex_search(line, m, bytes)) {
            report.memory.push_back(
                {kernel, target, std::stoi(m[1]), std::stoi(m[2]), std::stoi(m[3])});
        } else if (line.starts_with("ptx ")) {
            std::istringstream words(line.substr(4));
            Instructions found;
            words >> found.target >> found.kernel;
            found.kernel = demangled(found.kernel);
            for (std::string word; words >> word;) {
                const size_t equals = word.find('=');
                found.count[word.substr(0, equals)] = std::stoi(word.substr(equals + 1));
            }
            report.instructions.push_back(std::move(found));
        } else if (!line.empty() &&
                   (!line.starts_with("ptxas info") || line.find("(C7") != line.npos)) {
            // C7510 and its like: products that the compiler put in order itself.
            report.advice.push_back(line);
        }
    }
    return report;
}

// The build names the reports, joined by colons; none without the toolkit.
std::vector<Report> reports() {
    std::vector<Report> all;
    std::istringstream paths(LUMACHROME_CUDA_REPORTS);
    for (std::string path; std::getline(paths, path, ':');) all.push_back(read(path));
    return all;
}
bool no_toolkit() {
    return reports().empty();
}

// Kernels in double only serve gradient checks: nobody tunes them, but arrays of theirs stay out of
// memory too.
constexpr int kDoubleStack = 64;  // bytes
// Older targets run the same source with another count of registers: eight of them may go to
// memory.
constexpr int kOlderStack = 32;

// Other kernels that may use local memory: a part of the name, bytes of the stack frame, and why.
struct Allowed {
    const char* kernel;
    int stack;
    const char* why;
};
const std::vector<Allowed> kAllowed = {};

bool allowed(const Memory& memory) {
    if (memory.kernel.find("double") != std::string::npos && memory.stack <= kDoubleStack)
        return true;
    if (memory.target != "sm_90a" && memory.stack <= kOlderStack) return true;
    for (const Allowed& a : kAllowed)
        if (memory.kernel.find(a.kernel) != std::string::npos && memory.stack <= a.stack)
            return true;
    return false;
}

// What must stand in a file with kernels, by its name.
struct Expected {
    const char *name, *target, *instruction;
};
const std::vector<Expected> kExpected = {
    {"_mma_", "80", "mma.sync"},
    {"_mma_", "80", "ldmatrix"},
    {"_mma_", "80", "cp.async"},
    {"_wgmma_", "90a", "wgmma"},
};
// Files whose kernels pass over memory: some of their accesses must be 16 bytes wide.
const std::vector<std::string> kWide = {"batch_norm_cuda", "cast_cuda",    "dropout_cuda",
                                        "activation_cuda", "fusion_cuda",  "mse_loss_cuda",
                                        "optimizers_cuda", "upsample_cuda"};

}  // namespace

TEST_CASE("every CUDA file has a report, and its kernels are in it" * doctest::skip(no_toolkit())) {
    size_t kernels = 0;
    for (const Report& report : reports()) {
        CAPTURE(report.file);
        CHECK(report.read);
        for (const char* target : {"sm_80", "sm_90a"}) {
            size_t machine_code = 0, ptx = 0;
            for (const Memory& m : report.memory) machine_code += m.target == target;
            for (const Instructions& i : report.instructions) ptx += "sm_" + i.target == target;
            CHECK(machine_code >= ptx);  // functions that were not inlined are counted there only
            kernels += ptx;
        }
    }
    CHECK(kernels > 10);
}

TEST_CASE("no kernel keeps registers or arrays in memory" * doctest::skip(no_toolkit())) {
    for (const Report& report : reports())
        for (const Memory& memory : report.memory) {
            if (allowed(memory)) continue;
            CAPTURE(report.file);
            CAPTURE(memory.kernel);
            CAPTURE(memory.target);
            CHECK(memory.stack == 0);
            CHECK(memory.stores == 0);
            CHECK(memory.loads == 0);
        }
    // An exception that nobody needs any more goes.
    for (const Allowed& a : kAllowed) {
        bool needed = false;
        for (const Report& report : reports())
            for (const Memory& m : report.memory)
                needed |= m.stack > 0 && m.kernel.find(a.kernel) != std::string::npos;
        CAPTURE(a.kernel);
        CHECK(needed);
    }
}

TEST_CASE("the compiler did not have to put products in order" * doctest::skip(no_toolkit())) {
    for (const Report& report : reports())
        for (const std::string& advice : report.advice) {
            CAPTURE(report.file);
            CAPTURE(advice);
            CHECK(false);
        }
}

TEST_CASE("the instructions that kernels are written for are there" * doctest::skip(no_toolkit())) {
    for (const Report& report : reports()) {
        if (report.instructions.empty()) continue;
        CAPTURE(report.file);
        for (const Expected& expected : kExpected) {
            if (report.file.find(expected.name) == std::string::npos) continue;
            CAPTURE(expected.instruction);
            CHECK(report.count(expected.target, expected.instruction) > 0);
        }
        for (const std::string& wide : kWide)
            if (report.file == wide) CHECK(report.count("80", "global.16") > 0);
    }
}
