#include <sched.h>

#include <fstream>
#include <thread>

#include "apps/commands/commands.hpp"
#include "image/profile.hpp"
#include "model/default_model.hpp"
#include "tensor/cuda.hpp"
#include "tensor/error.hpp"
#include "tensor/exec.hpp"
#include "tensor/isa.hpp"
#include "train/distributed/communicator.hpp"

namespace lumachrome {
namespace {

std::string cpu_model() {
    std::ifstream info("/proc/cpuinfo");
    for (std::string line; std::getline(info, line);)
        if (line.starts_with("model name"))
            return line.substr(std::min(line.size(), line.find(':') + 2));
    return "unknown";
}

std::vector<std::string> cpu_features() {
    std::vector<std::string> features;
#if defined(__x86_64__)
    // The builtin takes literals only.
    if (__builtin_cpu_supports("sse4.2")) features.push_back("sse4.2");
    if (__builtin_cpu_supports("avx")) features.push_back("avx");
    if (__builtin_cpu_supports("avx2")) features.push_back("avx2");
    if (__builtin_cpu_supports("fma")) features.push_back("fma");
    if (__builtin_cpu_supports("avx512f")) features.push_back("avx512f");
    if (__builtin_cpu_supports("avx512vnni")) features.push_back("avx512vnni");
#endif
    return features;
}

const char* built_for() {
#if defined(__AVX2__) && defined(__FMA__)
    return "x86-64-v3 (AVX2, FMA)";
#else
    return "baseline";
#endif
}

std::string affinity() {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return "unknown";
    std::string cpus;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
        if (CPU_ISSET(cpu, &set)) cpus += (cpus.empty() ? "" : ",") + std::to_string(cpu);
    return cpus;
}

Json default_model() {
    Json model;
    try {
        const std::string path = default_model_path();
        model.set("path", path);
        const TensorFile file = read_tensor_file(path);
        const Spec spec = from_metadata(file.metadata);
        model.set("preset", spec.preset);
        model.set("classes", spec.classes);
        // What is not the network's shape is its history: data, terms, steps.
        const Metadata shape = to_metadata(spec);
        for (const auto& [key, value] : file.metadata)
            if (!shape.count(key)) model.set(key, value);
    } catch (const Error& error) {
        model.set("error", error.what());
    }
    return model;
}

// What a GPU offers, or why there is none to use.
Json gpu(int index) {
    const cuda::Properties& p = cuda::properties(index);
    return Json::Object{{"name", p.name},
                        {"compute_capability", format("%d.%d", p.major, p.minor)},
                        {"multiprocessors", p.multiprocessors},
                        {"memory_mib", p.bytes >> 20},
                        {"l2_mib", p.l2_bytes >> 20}};
}

Json gpus() {
    if (!cuda::unavailable().empty()) return "none: " + cuda::unavailable();
    Json found{Json::Object{}};
    for (int index = 0; index < cuda::device_count(); ++index)
        found.set(Device{Device::cuda, index}.str(), gpu(index));
    return found;
}

void print(const std::string& key, const Json& value, const std::string& indent, Console& console) {
    if (value.is_object()) {
        console.print(indent + key);
        for (const auto& [name, inner] : value.object()) print(name, inner, indent + "  ", console);
        return;
    }
    std::string text = value.is_string() ? value.string() : value.dump();
    if (value.is_array()) {
        text.clear();
        for (const Json& item : value.array()) text += (text.empty() ? "" : " ") + item.string();
    }
    console.print(indent + format("%-*s ", static_cast<int>(22 - indent.size()), key.c_str()) +
                  text);
}

int run_doctor(const RunOptions& options, Console& console) {
    Json::Array features;
    for (const std::string& feature : cpu_features()) features.push_back(feature);
    Json json;
    json.set("version", LUMACHROME_VERSION);
    json.set("compiler", __VERSION__);
    json.set("built_for", built_for());
    json.set("cpu", cpu_model());
    json.set("cpu_features", std::move(features));
    json.set("instruction_set", std::string(name(isa())));  // of the innermost loops
    json.set("cores", static_cast<int>(std::thread::hardware_concurrency()));
    json.set("threads", exec_for(options, console).threads);
    json.set("affinity", affinity());
    json.set("openmp", format("%d", _OPENMP));
    json.set("color_profiles", color_management().empty() ? "not built: photos are taken as sRGB"
                                                          : color_management());
    json.set("cuda", cuda::versions().empty() ? "not built: this version computes on the CPU"
                                              : cuda::versions());
    json.set("gpu", gpus());
    json.set("mpi", mpi_version());
    json.set("processes", started_processes());
    json.set("nccl", "not built");
    json.set("default_model", default_model());
    console.result(json);
    for (const auto& [key, value] : json.object()) print(key, value, "", console);
    // mpirun binds each process to one core unless told otherwise; every thread then shares it.
    const int cores = static_cast<int>(std::thread::hardware_concurrency());
    if (started_processes() > 1 && available_threads() * local_processes() < cores)
        console.error(
            format("each of %d processes may use %d of %d cores; start them with mpirun "
                   "--bind-to none",
                   local_processes(), available_threads(), cores));
    return 0;
}

}  // namespace

Command doctor_command() {
    Command command({
        .name = "doctor",
        .summary = "this machine, this build, the default model",
        .description =
            "Says what this machine and this build offer, and where the default model comes from.",
        .examples = "  lumachrome doctor\n"
                    "  lumachrome doctor --json",
    });
    add_run_options(command, command.runs(run_doctor));
    return command;
}

}  // namespace lumachrome
