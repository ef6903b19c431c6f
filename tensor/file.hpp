// Files, read whole and written atomically.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace lumachrome {

// Throws InputError naming the path and the reason: missing, a directory, unreadable, too large.
std::vector<uint8_t> read_file(const std::string& path, int64_t max_bytes = int64_t{4} << 30);

// Temp file in the same folder, fsync, rename, fsync of the folder: afterwards the path holds either
// its old contents or all of the new ones. Throws UsageError when the path exists and `overwrite` is
// false, ResourceError when the disk says no.
void write_file_atomic(const std::string& path, std::span<const uint8_t> bytes, bool overwrite);

}  // namespace lumachrome
