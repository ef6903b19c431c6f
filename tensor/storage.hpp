// Reference-counted memory of tensors. Blocks that are given back are kept, joined with their free
// neighbours and handed out again, so a training loop allocates nothing from its second step on,
// and the process needs little more than the largest sum of live tensors.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

namespace lumachrome {

struct StorageCounters {
    int64_t live_bytes;          // handed out now
    int64_t peak_live_bytes;     // largest value of live_bytes so far
    int64_t system_allocations;  // segments taken from the operating system so far
};

// 64-byte aligned; the contents are undefined. Throws ResourceError naming the size.
std::shared_ptr<std::byte> allocate_cpu(int64_t bytes);
StorageCounters storage_counters();
void release_cached_storage();  // gives unused blocks back to the operating system
// Memory of the whole process that is in use; 0 where the system does not say.
int64_t resident_bytes();

}  // namespace lumachrome
