// The processes that train together, as the trainer sees them. One thread of its own speaks to the
// others and takes what is submitted in order, so that gradients travel while the rest of the
// network is still being differentiated. Every rank submits the same things in the same order.
// Alone (one process), everything is done at once and nothing is sent.
#pragma once
#include <functional>
#include <future>

#include "tensor/exec.hpp"
#include "tensor/tensor.hpp"
#include "train/distributed/communicator.hpp"

namespace lumachrome {

// An alarm, not a signature: 64 bits over all elements in order, to find weights that drifted
// apart. Equal values give equal hashes on every machine of one byte order.
uint64_t hash_of(std::span<const Tensor> tensors);

// The methods throw PeerError when others are lost or silent; from then on all of them do.
// Destroyed while an exception is under way, it does not wait for the others: they get a PeerError,
// or are ended by MPI as soon as this process ends.
class PeerGroup final : public Peers {
  public:
    using Open = std::function<std::unique_ptr<Communicator>()>;  // called on the group's thread
    explicit PeerGroup(const Open& open = open_communicator);
    ~PeerGroup() override;
    PeerGroup(const PeerGroup&) = delete;
    PeerGroup& operator=(const PeerGroup&) = delete;

    int rank() const { return rank_; }
    int count() const override { return count_; }
    void sum(std::span<double> values) const override;

    // The work is done after all that was submitted before; its exception comes with the future.
    using Work = std::function<void(Communicator&)>;
    std::future<void> submit(Work work) const;

    std::vector<double> sum_scalars(std::vector<double> values) const;
    // mine * count / sum over all: the weight of a mean over `mine` items, so that the average of
    // the weighted means is the mean over everybody's items. 0 when nobody has any.
    double share_of(double mine) const;
    void mean(std::span<const Tensor> tensors) const;  // in place, each element over all ranks
    void broadcast(std::span<const Tensor> tensors, int root = 0) const;
    void broadcast(std::span<std::byte> bytes, int root = 0) const;
    void barrier() const;
    void wait_for_all() const;  // a barrier without a deadline: one of them is doing long work
    // Throws Error naming the ranks whose hash of `what` differs from most others'.
    void check_equal(uint64_t hash, const std::string& what) const;

  private:
    struct Thread;
    void run(const Work& work) const;
    std::unique_ptr<Thread> thread_;  // none alone
    std::unique_ptr<Communicator> alone_;
    int rank_ = 0, count_ = 1;
    int exceptions_;  // under way at construction
};

}  // namespace lumachrome
