// Archives of photos: uncompressed ustar (IEEE 1003.1, pax "ustar Interchange Format"), read at any
// place by any thread, written from front to back.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tensor/file.hpp"

namespace lumachrome {

struct TarMember {
    std::string name;  // control characters are '?': names end up in one-line messages
    int64_t offset = 0, bytes = 0;
};

class TarReader {
  public:
    // Throws InputError when the path cannot be opened or is no regular file.
    explicit TarReader(std::string path);
    ~TarReader();
    TarReader(const TarReader&) = delete;
    TarReader& operator=(const TarReader&) = delete;

    const std::string& path() const { return path_; }

    // The regular files. Extended headers (pax, GNU) are passed over: the plain header's name and
    // size count. Throws InputError naming file, byte offset and rule for a damaged archive.
    std::vector<TarMember> members() const;

    // Throws InputError when the file has become shorter or cannot be read.
    void read(int64_t offset, uint8_t* out, int64_t count) const;

  private:
    std::string path_;
    int fd_ = -1;
    int64_t size_ = 0;
};

// The same members give the same bytes: owner 0, time 0, mode 644. The file appears at its path
// with finish(); without it nothing is left. Throws what AtomicFile throws.
class TarWriter {
  public:
    explicit TarWriter(const std::string& path) : file_(path, false) {}

    // Throws InputError for a name that ustar cannot hold: at most 100 bytes, or 155 for a folder
    // and 100 for the rest behind a '/'; or for 8 GiB and more.
    void add(const std::string& name, std::span<const uint8_t> bytes);
    void finish();
    int64_t bytes() const { return bytes_; }  // so far
    // What a member of `count` bytes takes.
    static int64_t member_bytes(int64_t count);

  private:
    AtomicFile file_;
    int64_t bytes_ = 0;
    std::vector<uint8_t> block_;
};

}  // namespace lumachrome
