#include <algorithm>
#include <charconv>

#include "apps/commands/commands.hpp"
#include "tensor/error.hpp"
#include "train/distributed/communicator.hpp"

namespace lumachrome {

Exec exec_for(const RunOptions& options, Console& console) {
    const std::string& name = options.device;
    if (name.starts_with("cuda")) {
        int index = 0;
        const char *at = name.data() + 4, *end = name.data() + name.size();
        if (at != end &&
            (*at != ':' || std::from_chars(at + 1, end, index).ptr != end || index < 0))
            throw UsageError("--device " + name + ": must be auto, cpu, cuda or cuda:N");
        throw ResourceError("--device " + name + ": this build has no CUDA backend");
    }
    if (name != "auto" && name != "cpu")
        throw UsageError("--device " + name + ": must be auto, cpu, cuda or cuda:N");
    const int threads = options.threads > 0 ? options.threads
                                            : std::max(1, available_threads() / local_processes());
    console.detail(format("device: cpu, %d threads%s", threads,
                          name == "auto" ? " (this build has no CUDA backend)" : ""));
    return {Device{}, threads};
}

}  // namespace lumachrome
