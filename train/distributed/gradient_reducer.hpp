// Averages gradients over processes while the rest is still being differentiated: Tape::backward
// hands over each parameter as it becomes complete, small ones share a bucket, and full buckets
// travel on the group's thread. Those of a GPU by way of the CPU's memory.
//
//   loss.backward([&](Parameter& p) { reducer.ready(p); });
//   reducer.finish();  // every p.grad is now the mean over the ranks
#pragma once
#include <future>
#include <unordered_set>
#include <vector>

#include "autograd/parameter.hpp"
#include "tensor/cuda_async.hpp"
#include "train/distributed/peer_group.hpp"

namespace lumachrome {

class GradientReducer {
  public:
    // Large enough that latency does not count, small enough that the first leave early: the
    // figure that PyTorch's DistributedDataParallel settled on (Li et al., VLDB 2020).
    static constexpr int64_t kBucketBytes = int64_t{25} << 20;

    // `parameters`: those that every backward pass brings, on every rank in the same order.
    GradientReducer(const PeerGroup& peers, const std::vector<Parameter*>& parameters,
                    int64_t bucket_bytes = kBucketBytes);

    // Its gradient is complete and not touched until finish(). Throws Error for a parameter that is
    // not in the list or came already.
    void ready(Parameter& parameter);
    // Throws Error when a parameter did not come, PeerError when another process is lost.
    void finish();

    int64_t buckets() const { return buckets_; }  // of the last step

  private:
    void flush();
    const PeerGroup& peers_;
    std::unordered_set<const Parameter*> parameters_, come_;
    int64_t bucket_bytes_;
    std::vector<Tensor> bucket_;  // gradients of one dtype
    int64_t filled_ = 0;          // bytes in it
    // Of the group's thread, for gradients of a GPU; the last job may outlive this object.
    std::shared_ptr<cuda::PinnedMemory> staging_ = std::make_shared<cuda::PinnedMemory>();
    std::vector<std::future<void>> sent_;
    int64_t buckets_ = 0;
};

}  // namespace lumachrome
