#include "train/distributed/communicator.hpp"

#include <charconv>
#include <cstdlib>
#include <cstring>

namespace lumachrome {
namespace {

constexpr double kPeerTimeoutSeconds = 600;  // longer than the slowest checkpoint on a busy disk

// A positive number in an environment variable, else 0.
int number(const char* variable) {
    const char* text = std::getenv(variable);
    int value = 0;
    if (text) std::from_chars(text, text + std::strlen(text), value);
    return value > 0 ? value : 0;
}

// The first of the variables that holds a positive number; `otherwise` if none does.
int first_number(std::initializer_list<const char*> variables, int otherwise = 1) {
    for (const char* variable : variables)
        if (const int value = number(variable)) return value;
    return otherwise;
}

}  // namespace

int started_processes() {
    // Open MPI's mpirun; MPICH's, or srun with PMI-2; srun, which sets it within a step only.
    return first_number({"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"});
}

int local_processes() {
    // Not under srun: it gives each process cores of its own.
    return first_number({"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"});
}

int local_rank() {
    return first_number({"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"}, 0);
}

std::unique_ptr<Communicator> open_communicator() {
    const int processes = started_processes();
    if (processes == 1) return self_communicator();
    if (!mpi_available())
        throw ResourceError("started as " + std::to_string(processes) +
                            " processes, but this build has no MPI: install libopenmpi-dev, then "
                            "meson setup --reconfigure -Dmpi=enabled build");
    std::unique_ptr<Communicator> communicator = mpi_communicator();
    if (communicator->size() != processes)
        throw ResourceError("started as " + std::to_string(processes) +
                            " processes, but MPI sees " + std::to_string(communicator->size()) +
                            ": the launcher is of another MPI than " + mpi_version() +
                            " (with srun, try --mpi=pmix)");
    return communicator;
}

double peer_timeout_seconds() {
    const char* text = std::getenv("LUMACHROME_PEER_TIMEOUT");
    if (!text) return kPeerTimeoutSeconds;
    double seconds = 0;
    const char* end = text + std::strlen(text);
    const auto [stop, error] = std::from_chars(text, end, seconds);
    if (error != std::errc() || stop != end || !(seconds > 0))
        throw UsageError("LUMACHROME_PEER_TIMEOUT=" + std::string(text) +
                         ": must be a number of seconds above 0");
    return seconds;
}

}  // namespace lumachrome
