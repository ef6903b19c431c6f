// The one file that knows MPI. The C++ bindings, removed from the standard in 2012, stay out.
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>

#include <sysexits.h>
#include <unistd.h>
#include <limits>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <thread>

#include "train/distributed/communicator.hpp"

namespace lumachrome {
namespace {

using Clock = std::chrono::steady_clock;

// Elements in one MPI call: MPI counts in int, and the deadline holds for each call.
constexpr size_t kMostElements = size_t{4} << 20;
// How long a rank that gives up waits for the others to do the same.
constexpr double kPartingSeconds = 2;

// Called by exit() in a process that left its peers waiting: takes them along, after the error has
// been printed, with the exit code that was chosen for it.
void end_job(int status, void*) {
    MPI_Abort(MPI_COMM_WORLD, status != 0 ? status : EX_TEMPFAIL);
}

// Collectives are started without blocking and then asked for, so that a silent peer is noticed and
// waiting does not take a core from the threads that compute.
class MpiCommunicator final : public Communicator {
  public:
    MpiCommunicator() : deadline_(peer_timeout_seconds()) {
        int initialised = 0, provided = 0;
        MPI_Initialized(&initialised);
        if (initialised) throw ResourceError("MPI: can be started once in a process");
        if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS ||
            provided < MPI_THREAD_FUNNELED)
            throw ResourceError("MPI: cannot start " + mpi_version());
        MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
        MPI_Comm_size(MPI_COMM_WORLD, &size_);
        // Copies keep the calls apart: the parting of one rank matches no collective of another.
        MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
        check(MPI_Comm_dup(MPI_COMM_WORLD, &work_), "start");
        check(MPI_Comm_dup(MPI_COMM_WORLD, &parting_), "start");
    }
    ~MpiCommunicator() override {
        if (broken_ || !part()) {
            on_exit(end_job, nullptr);
            return;
        }
        MPI_Comm_free(&work_);
        MPI_Comm_free(&parting_);
        MPI_Finalize();
    }
    MpiCommunicator(const MpiCommunicator&) = delete;
    MpiCommunicator& operator=(const MpiCommunicator&) = delete;

    int rank() const override { return rank_; }
    int size() const override { return size_; }
    void all_reduce_sum(std::span<float> values) override { sum(values, MPI_FLOAT); }
    void all_reduce_sum(std::span<double> values) override { sum(values, MPI_DOUBLE); }
    void broadcast(std::span<std::byte> bytes, int root) override {
        in_pieces(bytes, [&](std::byte* data, int count, MPI_Request* request) {
            return MPI_Ibcast(data, count, MPI_BYTE, root, work_, request);
        });
    }
    void all_gather(std::span<const std::byte> mine, std::span<std::byte> all) override {
        if (mine.size() > kMostElements || mine.size() * size_t(size_) != all.size())
            throw Error("all_gather: " + std::to_string(mine.size()) + " bytes from each of " +
                        std::to_string(size_) + " processes do not make " +
                        std::to_string(all.size()));
        const int count = static_cast<int>(mine.size());
        finish([&](MPI_Request* request) {
            return MPI_Iallgather(mine.data(), count, MPI_BYTE, all.data(), count, MPI_BYTE, work_,
                                  request);
        });
    }
    void barrier() override { wait_at_barrier(deadline_); }
    void wait_for_all() override { wait_at_barrier(std::numeric_limits<double>::infinity()); }
    void abort() noexcept override { aborted_ = true; }

  private:
    std::string here() const { return "process " + std::to_string(rank_) + ": "; }

    void check(int code, const char* what) const {
        if (code == MPI_SUCCESS) return;
        char text[MPI_MAX_ERROR_STRING] = "";
        int length = 0;
        MPI_Error_string(code, text, &length);
        throw PeerError(here() + "MPI cannot " + what + ": " + text);
    }

    template <class T>
    void sum(std::span<T> values, MPI_Datatype type) {
        in_pieces(values, [&](T* data, int count, MPI_Request* request) {
            return MPI_Iallreduce(MPI_IN_PLACE, data, count, type, MPI_SUM, work_, request);
        });
    }

    template <class T, class Call>
    void in_pieces(std::span<T> values, const Call& call) {
        for (size_t i = 0; i < values.size(); i += kMostElements) {
            const size_t count = std::min(kMostElements, values.size() - i);
            finish([&](MPI_Request* request) {
                return call(values.data() + i, static_cast<int>(count), request);
            });
        }
    }

    void wait_at_barrier(double seconds) {
        finish([&](MPI_Request* request) { return MPI_Ibarrier(work_, request); }, seconds);
    }

    template <class Call>
    void finish(const Call& call) {
        finish(call, deadline_);
    }
    template <class Call>
    void finish(const Call& call, double patience) {
        // What fails leaves a request that still owns its buffers: nothing may follow.
        if (broken_) throw PeerError(here() + "the connection to the other processes is lost");
        broken_ = true;
        MPI_Request request = MPI_REQUEST_NULL;
        check(call(&request), "reach the other processes");
        if (!completes(request, patience, aborted_)) {
            const auto seconds = std::to_string(std::lround(deadline_));
            throw PeerError(here() + (aborted_ ? "training was given up"
                                               : "no answer from the other processes for " +
                                                     seconds + " s (LUMACHROME_PEER_TIMEOUT)"));
        }
        broken_ = false;
    }

    // Asks at once, then at growing intervals: small sums return within microseconds, large ones
    // lose little, and a rank that waits long sleeps.
    bool completes(MPI_Request& request, double seconds, const std::atomic<bool>& given_up) const {
        const Clock::time_point start = Clock::now();
        for (;;) {
            int done = 0;
            check(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "reach the other processes");
            if (done) return true;
            const std::chrono::duration<double> waited = Clock::now() - start;
            if (given_up || waited.count() > seconds) return false;
            if (waited < std::chrono::microseconds(200))
                std::this_thread::yield();
            else
                std::this_thread::sleep_for(std::clamp<std::chrono::duration<double>>(
                    waited / 10, std::chrono::microseconds(20), std::chrono::milliseconds(1)));
        }
    }

    // All ranks leave together, or this one alone: false.
    bool part() noexcept {
        try {
            MPI_Request request = MPI_REQUEST_NULL;
            check(MPI_Ibarrier(parting_, &request), "part");
            return completes(request, aborted_ ? kPartingSeconds : deadline_, false);
        } catch (const PeerError&) {
            return false;
        }
    }

    const double deadline_;
    int rank_ = 0, size_ = 1;
    MPI_Comm work_ = MPI_COMM_NULL, parting_ = MPI_COMM_NULL;
    std::atomic<bool> aborted_ = false;
    bool broken_ = false;
};

}  // namespace

std::unique_ptr<Communicator> mpi_communicator() {
    return std::make_unique<MpiCommunicator>();
}

bool mpi_available() {
    return true;
}

std::string mpi_version() {
    char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int length = 0;
    MPI_Get_library_version(text, &length);
    const std::string whole(text, static_cast<size_t>(std::max(length, 0)));
    return whole.substr(0, whole.find_first_of(",\n"));
}

}  // namespace lumachrome
