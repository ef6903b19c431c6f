// Reference-counted memory of tensors, on the CPU and on GPUs. Blocks that are given back are kept,
// joined with their free neighbours and handed out again, so a training loop allocates nothing from
// its second step on, and the process needs little more than the largest sum of live tensors. On a
// GPU that also means: no call that waits for it. Kernels run in the order in which they were
// started, so a block may be handed out while a kernel that read it has yet to run.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include "tensor/device.hpp"

namespace lumachrome {

struct StorageCounters {
    int64_t live_bytes;          // handed out now
    int64_t peak_live_bytes;     // largest value of live_bytes so far
    int64_t system_allocations;  // segments taken from the operating system or driver so far
};

// 64-byte aligned (256 on a GPU); the contents are undefined. Throws ResourceError naming the size.
std::shared_ptr<std::byte> allocate(int64_t bytes, Device device = {});
StorageCounters storage_counters(Device device = {});
void release_cached_storage();  // gives unused blocks of all devices back

// Memory of one GPU that nothing else is given: what a captured step (cuda_graph.hpp) works in each
// time it is replayed, though no tensor of the program holds it any more. Counted with the rest.
// Goes back to the driver when it and all tensors in it are gone.
class Pool;
class ReservedStorage {
  public:
    explicit ReservedStorage(Device device);

    // While it lives, the calling thread's memory of that device comes from there.
    class Scope {
      public:
        explicit Scope(const ReservedStorage& storage);
        ~Scope();
        Scope(const Scope&) = delete;
        Scope& operator=(const Scope&) = delete;

      private:
        std::shared_ptr<Pool> kept_;
    };

  private:
    std::shared_ptr<Pool> pool_;
};

// Memory of the whole process that is in use; 0 where the system does not say.
int64_t resident_bytes();

}  // namespace lumachrome
