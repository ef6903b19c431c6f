// Preparing photos: which are worth training on, and shards of those that need no decoding.
#pragma once
#include <cstdint>
#include <functional>
#include <string>

#include "tensor/exec.hpp"
#include "train/dataset.hpp"

namespace lumachrome {

// Unusable photos by the first reason that applies: cannot be read or decoded; has the pixels of an
// earlier photo; hardly any colour (kNearGray, of the middle square).
struct ScanCounts {
    int64_t images = 0, corrupt = 0, duplicate = 0, near_gray = 0;
    int64_t rejected() const { return corrupt + duplicate + near_gray; }
};

// Who listens to a scan; all calls come from the calling thread, in the order of the dataset. Any
// of them may be empty.
struct ScanListener {
    std::function<void(int64_t done)> progress;
    std::function<void(const std::string& name, const std::string& reason)> rejected;
};

// Reads every photo once, on exec.threads threads; the result does not depend on how many.
ScanCounts scan(const Dataset& dataset, const Exec& exec, const ScanListener& listener);

struct PackOptions {
    std::string out;                           // folder, made when it is missing
    int64_t size = 160;                        // shorter side; smaller photos stay as they are
    int64_t shard_bytes = int64_t{512} << 20;  // a shard is closed before it would exceed this
};

struct PackReport {
    ScanCounts scan;
    int64_t packed = 0, shards = 0, bytes = 0;  // bytes of all shards
};

// Writes the usable photos as train-00.tar, train-01.tar, ... with members CLASS/NAME.ppm or
// unlabeled/NAME.ppm, and the classes as labels.txt: a shard folder as dataset.hpp reads it. Names
// are those of the photos, with a number where two meet. The same photos give the same bytes.
// Throws UsageError when `out` holds shards or labels.txt already or a number is below 1,
// InputError when a class cannot name a folder or no photo is usable, ResourceError when the disk
// says no. Shards that were complete by then are left behind.
PackReport pack(const Dataset& dataset, const PackOptions& options, const Exec& exec,
                const ScanListener& listener);

}  // namespace lumachrome
