// A disk that fails on demand. Preloaded into a program (LD_PRELOAD), this library counts the calls
// that change files below one folder, and lets some of them fail:
//   LUMACHROME_FAULT_FOLDER      the folder, an absolute path; without it nothing is counted
//   LUMACHROME_FAULT_AT          number of the first call that fails, from 1; 0 or unset: none
//   LUMACHROME_FAULT_FOR         how many in a row fail; unset: 1
//   LUMACHROME_FAULT             how: enospc, eio; erofs: only calls that open for writing or
//   change
//                                names; short: a write stores half, the next one fails with ENOSPC;
//                                crash: the process ends with 137 before the call
//   LUMACHROME_FAULT_COUNT_FILE  receives the number of calls at exit, then each: its name and file
// fsync of what lies there is counted, but not done: that takes most of a short run, and matters
// only to those who pull the plug.
// Counted are: opening for writing, write, ftruncate, fsync, close of what is open for writing,
// mkdir, link, rename, unlink, and fsync of a folder. The C library's own calls inside fopen and
// its like cannot be seen from here.

// Both open and open64 are defined below, which <fcntl.h> must not make the same.
#undef _FILE_OFFSET_BITS
#undef _TIME_BITS
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <vector>

namespace {

constexpr int kKilled = 137;  // what a shell says of a process that got SIGKILL

std::string variable(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
}

template <class Function>
Function* next(const char* name) {
    return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

enum class Kind { path, content };  // changes names; changes bytes or asks for the disk

struct Faults {
    const std::string folder = variable("LUMACHROME_FAULT_FOLDER");
    const std::string kind = variable("LUMACHROME_FAULT");
    const std::string count_file = variable("LUMACHROME_FAULT_COUNT_FILE");
    const long first = std::atol(variable("LUMACHROME_FAULT_AT").c_str());
    const long length = std::max(1L, std::atol(variable("LUMACHROME_FAULT_FOR").c_str()));
    std::mutex mutex;
    std::vector<std::string> calls;
    bool full = false;  // after a short write

    bool below(const std::string& path) const {
        return !folder.empty() && path.starts_with(folder) &&
               (path.size() == folder.size() || path[folder.size()] == '/');
    }
    // 0: do it; otherwise the error to return. A write asks for `half` of what it was given when
    // that is wanted.
    int next_call(const char* name, const std::string& path, Kind what, bool* half = nullptr) {
        if (!below(path)) return 0;
        const std::lock_guard lock(mutex);
        calls.push_back(std::string(name) + " " + path);
        const long number = static_cast<long>(calls.size());
        if (half && full) {
            full = false;
            return ENOSPC;
        }
        if (first <= 0 || number < first || number - first >= length) return 0;
        if (kind == "crash") _exit(kKilled);
        if (kind == "short") {
            if (half) *half = full = true;
            return 0;
        }
        if (kind == "erofs") return what == Kind::path ? EROFS : 0;
        return kind == "eio" ? EIO : ENOSPC;
    }
};

Faults& faults() {
    static Faults* const all = new Faults;  // outlives every destructor that closes a file
    return *all;
}

std::string link_target(const std::string& link) {
    char target[PATH_MAX];
    const ssize_t size = readlink(link.c_str(), target, sizeof target);
    return size < 0 ? "" : std::string(target, static_cast<size_t>(size));
}

std::string path_of(int fd) {
    return link_target("/proc/self/fd/" + std::to_string(fd));
}

std::string absolute(int folder, const char* path) {
    if (path[0] == '/') return path;
    return (folder == AT_FDCWD ? link_target("/proc/self/cwd") : path_of(folder)) + "/" + path;
}

bool writes(int flags) {
    return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)) != 0;
}

int refused(int error) {
    errno = error;
    return -1;
}

// For calls that name a file; `path` is where it will be.
template <class Call>
int on_path(const char* name, int folder, const char* path, const Call& call) {
    const int error = faults().next_call(name, absolute(folder, path), Kind::path);
    return error ? refused(error) : call();
}

template <class Call>
int on_descriptor(const char* name, int fd, const Call& call) {
    const int saved = errno;
    const int error = faults().next_call(name, path_of(fd), Kind::content);
    errno = saved;
    return error ? refused(error) : call();
}

template <class Call>
ssize_t on_write(const char* name, int fd, size_t size, const Call& call) {
    const int saved = errno;
    bool half = false;
    const int error = faults().next_call(name, path_of(fd), Kind::content, &half);
    errno = saved;
    return error ? refused(error) : call(half ? size / 2 : size);
}

template <class Call>
int on_open(int folder, const char* path, int flags, const Call& call) {
    return writes(flags) ? on_path("open", folder, path, call) : call();
}

// The third argument of open, where there is one.
mode_t mode_of(int flags, va_list arguments) {
    return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(arguments, mode_t) : 0;
}

[[gnu::destructor]] void write_count() {
    Faults& all = faults();
    if (all.count_file.empty()) return;
    FILE* out = std::fopen(all.count_file.c_str(), "w");
    if (!out) return;
    std::fprintf(out, "%zu\n", all.calls.size());
    for (const std::string& call : all.calls) std::fprintf(out, "%s\n", call.c_str());
    std::fclose(out);
}

}  // namespace

extern "C" {

#define LUMACHROME_OPEN(NAME)                                                           \
    int NAME(const char* path, int flags, ...) {                                        \
        static const auto real = next<int(const char*, int, ...)>(#NAME);               \
        va_list arguments;                                                              \
        va_start(arguments, flags);                                                     \
        const mode_t mode = mode_of(flags, arguments);                                  \
        va_end(arguments);                                                              \
        return on_open(AT_FDCWD, path, flags, [&] { return real(path, flags, mode); }); \
    }
LUMACHROME_OPEN(open)
LUMACHROME_OPEN(open64)

#define LUMACHROME_OPENAT(NAME)                                                               \
    int NAME(int folder, const char* path, int flags, ...) {                                  \
        static const auto real = next<int(int, const char*, int, ...)>(#NAME);                \
        va_list arguments;                                                                    \
        va_start(arguments, flags);                                                           \
        const mode_t mode = mode_of(flags, arguments);                                        \
        va_end(arguments);                                                                    \
        return on_open(folder, path, flags, [&] { return real(folder, path, flags, mode); }); \
    }
LUMACHROME_OPENAT(openat)
LUMACHROME_OPENAT(openat64)

int creat(const char* path, mode_t mode) {
    return open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
}
int creat64(const char* path, mode_t mode) {
    return open64(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
}

ssize_t write(int fd, const void* bytes, size_t size) {
    static const auto real = next<ssize_t(int, const void*, size_t)>("write");
    return on_write("write", fd, size, [&](size_t part) { return real(fd, bytes, part); });
}
ssize_t writev(int fd, const iovec* pieces, int count) {
    static const auto real = next<ssize_t(int, const iovec*, int)>("writev");
    return on_write("write", fd, static_cast<size_t>(count),
                    [&](size_t part) { return real(fd, pieces, static_cast<int>(part)); });
}
ssize_t pwrite(int fd, const void* bytes, size_t size, off_t at) {
    static const auto real = next<ssize_t(int, const void*, size_t, off_t)>("pwrite");
    return on_write("write", fd, size, [&](size_t part) { return real(fd, bytes, part, at); });
}
ssize_t pwrite64(int fd, const void* bytes, size_t size, off64_t at) {
    static const auto real = next<ssize_t(int, const void*, size_t, off64_t)>("pwrite64");
    return on_write("write", fd, size, [&](size_t part) { return real(fd, bytes, part, at); });
}
ssize_t sendfile(int to, int from, off_t* at, size_t size) noexcept {
    static const auto real = next<ssize_t(int, int, off_t*, size_t)>("sendfile");
    return on_write("write", to, size, [&](size_t part) { return real(to, from, at, part); });
}
ssize_t copy_file_range(int from, off64_t* from_at, int to, off64_t* to_at, size_t size,
                        unsigned flags) {
    static const auto real =
        next<ssize_t(int, off64_t*, int, off64_t*, size_t, unsigned)>("copy_file_range");
    return on_write("write", to, size,
                    [&](size_t part) { return real(from, from_at, to, to_at, part, flags); });
}

int ftruncate(int fd, off_t size) noexcept {
    static const auto real = next<int(int, off_t)>("ftruncate");
    return on_descriptor("ftruncate", fd, [&] { return real(fd, size); });
}
int ftruncate64(int fd, off64_t size) noexcept {
    static const auto real = next<int(int, off64_t)>("ftruncate64");
    return on_descriptor("ftruncate", fd, [&] { return real(fd, size); });
}
int fsync(int fd) {
    static const auto real = next<int(int)>("fsync");
    return on_descriptor("fsync", fd, [&] { return faults().below(path_of(fd)) ? 0 : real(fd); });
}
int fdatasync(int fd) {
    static const auto real = next<int(int)>("fdatasync");
    return on_descriptor("fsync", fd, [&] { return faults().below(path_of(fd)) ? 0 : real(fd); });
}
// As Linux has it: the descriptor is gone whatever close returns.
int close(int fd) {
    static const auto real = next<int(int)>("close");
    const int saved = errno, flags = fcntl(fd, F_GETFL);
    const std::string path = flags >= 0 && writes(flags) ? path_of(fd) : "";
    errno = saved;
    const int error = path.empty() ? 0 : faults().next_call("close", path, Kind::content);
    const int result = real(fd);
    return error ? refused(error) : result;
}

int mkdir(const char* path, mode_t mode) noexcept {
    static const auto real = next<int(const char*, mode_t)>("mkdir");
    return on_path("mkdir", AT_FDCWD, path, [&] { return real(path, mode); });
}
int mkdirat(int folder, const char* path, mode_t mode) noexcept {
    static const auto real = next<int(int, const char*, mode_t)>("mkdirat");
    return on_path("mkdir", folder, path, [&] { return real(folder, path, mode); });
}
int link(const char* from, const char* to) noexcept {
    static const auto real = next<int(const char*, const char*)>("link");
    return on_path("link", AT_FDCWD, to, [&] { return real(from, to); });
}
int linkat(int from_folder, const char* from, int folder, const char* to, int flags) noexcept {
    static const auto real = next<int(int, const char*, int, const char*, int)>("linkat");
    return on_path("link", folder, to, [&] { return real(from_folder, from, folder, to, flags); });
}
int rename(const char* from, const char* to) noexcept {
    static const auto real = next<int(const char*, const char*)>("rename");
    return on_path("rename", AT_FDCWD, to, [&] { return real(from, to); });
}
int renameat(int from_folder, const char* from, int folder, const char* to) noexcept {
    static const auto real = next<int(int, const char*, int, const char*)>("renameat");
    return on_path("rename", folder, to, [&] { return real(from_folder, from, folder, to); });
}
int unlink(const char* path) noexcept {
    static const auto real = next<int(const char*)>("unlink");
    return on_path("unlink", AT_FDCWD, path, [&] { return real(path); });
}
int unlinkat(int folder, const char* path, int flags) noexcept {
    static const auto real = next<int(int, const char*, int)>("unlinkat");
    return on_path("unlink", folder, path, [&] { return real(folder, path, flags); });
}
int remove(const char* path) noexcept {
    static const auto real = next<int(const char*)>("remove");
    return on_path("unlink", AT_FDCWD, path, [&] { return real(path); });
}

}  // extern "C"
