#include "tensor/file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "tensor/error.hpp"

namespace lumachrome {
namespace {

class Descriptor {
  public:
    explicit Descriptor(int fd) : fd_(fd) {}
    ~Descriptor() {
        if (fd_ >= 0) ::close(fd_);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    int get() const { return fd_; }
    int release() {
        const int fd = fd_;
        fd_ = -1;
        return fd;
    }

  private:
    int fd_;
};

std::string reason() { return std::strerror(errno); }

void write_all(int fd, std::span<const uint8_t> bytes, const std::string& path) {
    while (!bytes.empty()) {
        const ssize_t written = ::write(fd, bytes.data(), bytes.size());
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) throw ResourceError(path + ": cannot write: " + reason());
        bytes = bytes.subspan(static_cast<size_t>(written));
    }
}

}  // namespace

std::vector<uint8_t> read_file(const std::string& path, int64_t max_bytes) {
    const Descriptor fd(path == "-" ? ::dup(0) : ::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (fd.get() < 0) throw InputError(path + ": cannot open: " + reason());
    struct stat info {};
    if (::fstat(fd.get(), &info) != 0) throw InputError(path + ": cannot stat: " + reason());
    if (S_ISDIR(info.st_mode)) throw InputError(path + ": is a directory, a file is needed");
    const auto too_large = [&] {
        return InputError(path + ": larger than the limit of " + std::to_string(max_bytes) + " bytes");
    };
    if (S_ISREG(info.st_mode) && info.st_size > max_bytes) throw too_large();
    // A pipe has no size: read in growing pieces.
    std::vector<uint8_t> bytes;
    size_t used = 0;
    bytes.resize(S_ISREG(info.st_mode) ? static_cast<size_t>(info.st_size) + 1 : size_t{1} << 16);
    for (;;) {
        if (used == bytes.size()) bytes.resize(bytes.size() * 2);
        const ssize_t got = ::read(fd.get(), bytes.data() + used, bytes.size() - used);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) throw InputError(path + ": cannot read: " + reason());
        if (got == 0) break;
        used += static_cast<size_t>(got);
        if (static_cast<int64_t>(used) > max_bytes) throw too_large();
    }
    bytes.resize(used);
    return bytes;
}

void write_file_atomic(const std::string& path, std::span<const uint8_t> bytes, bool overwrite) {
    if (!overwrite && std::filesystem::exists(std::filesystem::symlink_status(path)))
        throw UsageError(path + ": exists already; --overwrite replaces it");
    const std::string temporary = path + ".tmp" + std::to_string(::getpid());
    Descriptor fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (fd.get() < 0) throw ResourceError(path + ": cannot create: " + reason());
    try {
        write_all(fd.get(), bytes, path);
        if (::fsync(fd.get()) != 0 || ::close(fd.release()) != 0)
            throw ResourceError(path + ": cannot write: " + reason());
        // link() refuses an existing target, so a file that appeared meanwhile is not lost either.
        if (overwrite ? ::rename(temporary.c_str(), path.c_str()) != 0
                      : ::link(temporary.c_str(), path.c_str()) != 0) {
            if (errno == EEXIST) throw UsageError(path + ": exists already; --overwrite replaces it");
            throw ResourceError(path + ": cannot rename: " + reason());
        }
        if (!overwrite) ::unlink(temporary.c_str());
    } catch (...) {
        ::unlink(temporary.c_str());
        throw;
    }
    const auto folder = std::filesystem::path(path).parent_path();
    const Descriptor directory(::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY));
    if (directory.get() >= 0) ::fsync(directory.get());
}

}  // namespace lumachrome
