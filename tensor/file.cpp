#include "tensor/file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string_view>
#include <utility>

#include "tensor/error.hpp"

namespace lumachrome {
namespace {

constexpr std::string_view kTemporary = ".tmp";

class Descriptor {
  public:
    explicit Descriptor(int fd) : fd_(fd) {}
    ~Descriptor() {
        if (fd_ >= 0) ::close(fd_);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    int get() const { return fd_; }

  private:
    int fd_;
};

std::string reason() {
    return std::strerror(errno);
}

void write_all(int fd, std::span<const uint8_t> bytes, const std::string& path) {
    while (!bytes.empty()) {
        const ssize_t written = ::write(fd, bytes.data(), bytes.size());
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) throw ResourceError(path + ": cannot write: " + reason());
        bytes = bytes.subspan(static_cast<size_t>(written));
    }
}

bool exists(const std::string& path) {  // a dangling link too
    std::error_code error;
    return std::filesystem::exists(std::filesystem::symlink_status(path, error));
}

// NAME.tmpPROCESS-TIME, as AtomicFile makes it.
struct Temporary {
    std::string name;
    pid_t process = 0;
};
std::optional<Temporary> temporary_of(const std::string& file) {
    const size_t mark = file.rfind(kTemporary);
    if (mark == file.npos || mark == 0) return {};
    Temporary temporary{file.substr(0, mark)};
    const char* const end = file.data() + file.size();
    int64_t time = 0;
    const auto process =
        std::from_chars(file.data() + mark + kTemporary.size(), end, temporary.process);
    if (process.ec != std::errc{} || process.ptr == end || *process.ptr != '-') return {};
    const auto number = std::from_chars(process.ptr + 1, end, time);
    if (number.ec != std::errc{} || number.ptr != end || time < 0 || temporary.process <= 0)
        return {};
    return temporary;
}

bool lives(pid_t process) {
    return ::kill(process, 0) == 0 || errno != ESRCH;
}

void remove_temporaries(const std::string& folder,
                        const std::function<bool(const Temporary&)>& abandoned) {
    std::error_code error;
    std::vector<std::filesystem::path> found;
    for (std::filesystem::directory_iterator at(folder, error), end; !error && at != end;
         at.increment(error)) {
        const auto temporary = temporary_of(at->path().filename().string());
        if (temporary && abandoned(*temporary)) found.push_back(at->path());
    }
    for (const std::filesystem::path& path : found) std::filesystem::remove(path, error);
}

UsageError exists_already(const std::string& path) {
    return UsageError(path + ": exists already; --overwrite replaces it");
}

}  // namespace

size_t read_file(const std::string& path, int64_t max_bytes, const StartCheck& check_start,
                 const MakeRoom& room) {
    const Descriptor fd(path == "-" ? ::dup(0) : ::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (fd.get() < 0) throw InputError(path + ": cannot open: " + reason());
    struct stat info {};
    if (::fstat(fd.get(), &info) != 0) throw InputError(path + ": cannot stat: " + reason());
    if (S_ISDIR(info.st_mode)) throw InputError(path + ": is a directory, a file is needed");
    if (path != "-" && (S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode)))
        throw InputError(path + ": is a device, a file is needed");
    const auto too_large = [&] {
        return InputError(path + ": larger than the limit of " + std::to_string(max_bytes) +
                          " bytes");
    };
    if (S_ISREG(info.st_mode) && info.st_size > max_bytes) throw too_large();
    // A pipe has no size: read in growing pieces. The first piece is judged before the others.
    constexpr size_t kStart = 16, kPiece = 1 << 16;
    size_t size = kPiece, used = 0;
    uint8_t* bytes = room(size);
    bool checked = !check_start;
    for (;;) {
        if (!checked && used >= kStart) {
            check_start({bytes, kStart});
            checked = true;
        }
        if (used == size) {
            // One more than the file has, so that its end shows without further room.
            const size_t whole = S_ISREG(info.st_mode) ? static_cast<size_t>(info.st_size) + 1 : 0;
            size = used < whole ? whole : size * 2;
            bytes = room(size);
        }
        const ssize_t got = ::read(fd.get(), bytes + used, size - used);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) throw InputError(path + ": cannot read: " + reason());
        if (got == 0) break;
        used += static_cast<size_t>(got);
        if (static_cast<int64_t>(used) > max_bytes) throw too_large();
    }
    if (!checked) check_start({bytes, used});
    return used;
}

std::vector<uint8_t> read_file(const std::string& path, int64_t max_bytes,
                               const StartCheck& check_start) {
    std::vector<uint8_t> bytes;
    bytes.resize(read_file(path, max_bytes, check_start, [&](size_t size) {
        bytes.resize(size);
        return bytes.data();
    }));
    return bytes;
}

void check_overwrite(const std::string& path, bool overwrite) {
    if (!overwrite && exists(path)) throw exists_already(path);
}

AtomicFile::AtomicFile(std::string path, bool overwrite)
    : path_(std::move(path)), overwrite_(overwrite) {
    check_overwrite(path_, overwrite_);
    // A process killed while writing leaves its temporary file; another with its number must not
    // stumble over it.
    const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
    temporary_ = path_;
    temporary_.append(kTemporary);
    temporary_ += std::to_string(::getpid()) + "-" + std::to_string(now);
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd_ < 0) throw ResourceError(path_ + ": cannot create: " + reason());
}

AtomicFile::~AtomicFile() {
    if (fd_ >= 0) ::close(fd_);
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const uint8_t> bytes) {
    write_all(fd_, bytes, path_);
}

int64_t AtomicFile::sync() {
    struct stat info {};
    if (::fsync(fd_) != 0 || ::fstat(fd_, &info) != 0 || ::close(std::exchange(fd_, -1)) != 0)
        throw ResourceError(path_ + ": cannot write: " + reason());
    return int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
}

void AtomicFile::commit() {
    if (fd_ >= 0) sync();
    // link() refuses an existing target, so a file that appeared meanwhile is not lost either.
    // File systems without links (FAT, some network ones) get rename(), which does not.
    const bool linked = !overwrite_ && ::link(temporary_.c_str(), path_.c_str()) == 0;
    if (!overwrite_ && !linked && (errno == EEXIST || exists(path_))) throw exists_already(path_);
    if (!linked && ::rename(temporary_.c_str(), path_.c_str()) != 0)
        throw ResourceError(path_ + ": cannot rename: " + reason());
    if (linked) ::unlink(temporary_.c_str());
    temporary_.clear();
    const auto folder = std::filesystem::path(path_).parent_path();
    const Descriptor directory(
        ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY));
    // Some file systems cannot do this, and say EINVAL or the like; others know of a broken disk.
    if (directory.get() >= 0 && ::fsync(directory.get()) != 0 &&
        (errno == EIO || errno == ENOSPC || errno == EDQUOT))
        throw ResourceError(path_ + ": cannot write to its folder: " + reason());
}

void write_file_atomic(const std::string& path, std::span<const uint8_t> bytes, bool overwrite) {
    AtomicFile file(path, overwrite);
    file.write(bytes);
    file.commit();
}

void remove_abandoned(const std::string& folder) {
    remove_temporaries(folder, [](const Temporary&) { return true; });
}

void remove_abandoned(const std::string& folder, const std::set<std::string>& names) {
    // Where processes are few, as in a container, a dead one's number may be ours by now.
    remove_temporaries(folder, [&](const Temporary& temporary) {
        return names.contains(temporary.name) &&
               (temporary.process == ::getpid() || !lives(temporary.process));
    });
}

}  // namespace lumachrome
