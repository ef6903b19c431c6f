#include <algorithm>
#include <charconv>
#include <optional>
#include <system_error>

#include "apps/commands/commands.hpp"
#include "tensor/cuda.hpp"
#include "tensor/error.hpp"
#include "train/distributed/communicator.hpp"

namespace lumachrome {
namespace {

// Processes that share a machine share its GPUs in turn.
Device own_gpu() {
    return {Device::cuda, local_rank() % cuda::device_count()};
}

// N of "cuda:N"; none: it is no such name.
std::optional<int> gpu_number(const std::string& name) {
    if (!name.starts_with("cuda:")) return {};
    int index = -1;
    const char* const end = name.data() + name.size();
    const auto [stop, error] = std::from_chars(name.data() + 5, end, index);
    if (error != std::errc() || stop != end || index < 0) return {};
    return index;
}

Device device_for(const std::string& name) {
    check_device(name);
    if (name == "cpu") return {};
    if (name == "auto") return cuda::unavailable().empty() ? own_gpu() : Device{};
    if (!cuda::unavailable().empty())
        throw ResourceError("--device " + name + ": " + cuda::unavailable());
    const std::optional<int> index = gpu_number(name);
    if (!index) return own_gpu();
    if (*index >= cuda::device_count())
        throw ResourceError(format("--device %s: this machine has %d, counted from 0", name.c_str(),
                                   cuda::device_count()));
    return {Device::cuda, *index};
}

void set_precision(const std::string& wanted, Exec& exec) {
    if (exec.device.kind == Device::cpu) {
        if (wanted == "auto" || wanted == "f32") return;
        throw ResourceError("--precision " + wanted + ": needs a GPU; the CPU computes in f32");
    }
    exec.tf32 = wanted != "f32";
    exec.maps = wanted == "auto" || wanted == "bf16" ? DType::bf16 : DType::f32;
}

}  // namespace

const char* precision_name(const Exec& exec) {
    return exec.maps == DType::bf16 ? "bf16" : exec.tf32 ? "tf32" : "f32";
}

void check_device(const std::string& name) {
    if (name != "auto" && name != "cpu" && name != "cuda" && !gpu_number(name))
        throw UsageError(name + " must be auto, cpu, cuda or cuda:N");
}

Exec exec_for(const RunOptions& options, Console& console) {
    Exec exec{device_for(options.device),
              options.threads > 0 ? options.threads
                                  : std::max(1, available_threads() / local_processes())};
    set_precision(options.precision, exec);
    const std::string where = exec.device.kind == Device::cuda
                                  ? exec.device.str() + " (" +
                                        cuda::properties(exec.device.index).name + "), " +
                                        precision_name(exec)
                                  : "cpu";
    const bool fell_back = options.device == "auto" && exec.device.kind == Device::cpu;
    console.detail(format("device: %s, %d threads%s", where.c_str(), exec.threads,
                          fell_back ? (" (" + cuda::unavailable() + ")").c_str() : ""));
    return exec;
}

}  // namespace lumachrome
