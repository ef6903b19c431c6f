// What processes that train together can say to each other. R processes have ranks 0..R-1; a
// collective is called by all of them, in the same order, and returns when its result is there.
#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tensor/error.hpp"

namespace lumachrome {

// Another process is lost or silent. The last checkpoint is as it was; a new start resumes from it.
class PeerError : public ResourceError {
    using ResourceError::ResourceError;
};

// One thread at a time may call it, but for abort(). The collectives throw PeerError.
class Communicator {
  public:
    virtual ~Communicator() = default;
    virtual int rank() const = 0;
    virtual int size() const = 0;

    // Sums element by element, in place. All ranks receive the same bits.
    virtual void all_reduce_sum(std::span<float> values) = 0;
    virtual void all_reduce_sum(std::span<double> values) = 0;
    virtual void broadcast(std::span<std::byte> bytes, int root) = 0;
    // all = the ranks' `mine` one after the other; for small records.
    virtual void all_gather(std::span<const std::byte> mine, std::span<std::byte> all) = 0;
    virtual void barrier() = 0;
    // barrier() for when one has long work to do alone: no deadline, but for abort().
    virtual void wait_for_all() { barrier(); }

    // From any thread: this rank calls no more collectives. Who waits for it, here or in another
    // process, does not wait forever.
    virtual void abort() noexcept = 0;
};

// The processes this one was started with by mpirun or srun, by their environment variables; 1
// without a launcher. local_processes: those of them that share the cores this one may use.
// local_rank: which of those of its machine this process is, from 0.
int started_processes();
int local_processes();
int local_rank();

// MPI where a launcher started several processes, else one of size 1. The thread that opens it must
// be the one that uses and destroys it. Throws ResourceError when MPI is missing in this build: R
// processes that know nothing of each other would write into one run folder.
std::unique_ptr<Communicator> open_communicator();

std::unique_ptr<Communicator> self_communicator();  // one rank alone
// Ranks as threads of this process, for tests. Sums in rank order. Destroying one that others wait
// for ends their wait with PeerError.
std::vector<std::unique_ptr<Communicator>> thread_communicators(int ranks);
// Once per process: initialises MPI, and finalises it when destroyed. Throws ResourceError.
std::unique_ptr<Communicator> mpi_communicator();

bool mpi_available();       // in this build
std::string mpi_version();  // "Open MPI v4.1.4", or "not built"

// How long a collective may take: LUMACHROME_PEER_TIMEOUT, or 600. Throws UsageError.
double peer_timeout_seconds();

}  // namespace lumachrome
