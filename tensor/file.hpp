// Files, read whole and written atomically.
#pragma once
#include <cstdint>
#include <functional>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace lumachrome {

// "-" is standard input. `check_start` sees the first 16 bytes (or all, if fewer) before the rest
// is read, and throws when they belong to something else. Throws InputError naming the path and the
// reason: missing, a directory or device, unreadable, too large.
using StartCheck = std::function<void(std::span<const uint8_t> start)>;
std::vector<uint8_t> read_file(const std::string& path, int64_t max_bytes = int64_t{4} << 30,
                               const StartCheck& check_start = {});
// The same into the caller's memory: `room` makes place for so many bytes, those read so far kept,
// and says where. Returns how many were read.
using MakeRoom = std::function<uint8_t*(size_t bytes)>;
size_t read_file(const std::string& path, int64_t max_bytes, const StartCheck& check_start,
                 const MakeRoom& room);

// Temp file in the same folder, fsync, rename, fsync of the folder: after commit() the path holds
// all of the new contents, before it and without it the old ones. Throws UsageError when the path
// exists and `overwrite` is false, ResourceError when the disk says no. (If only the last fsync is
// refused, the new contents are in place, but may be the old ones again after a power failure.)
class AtomicFile {
  public:
    AtomicFile(std::string path, bool overwrite);
    ~AtomicFile();  // without commit() nothing is left
    AtomicFile(const AtomicFile&) = delete;
    AtomicFile& operator=(const AtomicFile&) = delete;

    void write(std::span<const uint8_t> bytes);
    // The contents are on the disk, under a temporary name still. Returns the time that the file
    // bears from now on: nanoseconds since 1970.
    int64_t sync();
    void commit();  // once, after the last write; syncs where that was not done

  private:
    std::string path_, temporary_;
    int fd_ = -1;
    bool overwrite_;
};

// Whether that would be refused because the path exists: for asking before the work.
void check_overwrite(const std::string& path, bool overwrite);  // throws UsageError

// The same for contents in memory.
void write_file_atomic(const std::string& path, std::span<const uint8_t> bytes, bool overwrite);

// Removes what killed processes left of their atomic files. Only for a folder where nobody writes.
void remove_abandoned(const std::string& folder);
// The same for files of these names only, before this process writes them; what belongs to another
// process that still lives stays.
void remove_abandoned(const std::string& folder, const std::set<std::string>& names);

}  // namespace lumachrome
