#include "train/run_log.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "tensor/error.hpp"

namespace lumachrome {

std::string metrics_path(const std::string& run) {
    return run + "/metrics.jsonl";
}

RunLog::RunLog(std::string run, int64_t step) : path_(metrics_path(run)) {
    fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd_ < 0) throw ResourceError(path_ + ": cannot create: " + std::strerror(errno));
    // Released by the system however this process ends. Some network file systems know no locks.
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        ::close(fd_);
        throw UsageError(run + ": another process is training in this folder");
    }
    off_t kept = 0;
    std::ifstream in(path_);
    for (std::string line; std::getline(in, line) && !in.eof();) {
        try {
            const Json json = Json::parse(line);
            if (json.at("step").integer() > step || json.find("final")) break;
        } catch (const InputError&) {
            break;  // cut off by a crash
        }
        kept += static_cast<off_t>(line.size()) + 1;
    }
    if (::ftruncate(fd_, kept) != 0) {
        const std::string reason = std::strerror(errno);
        ::close(fd_);
        throw ResourceError(path_ + ": cannot write: " + reason);
    }
}

RunLog::~RunLog() {
    ::close(fd_);
}

void RunLog::add(const Json& line) {
    pending_ += line.dump() + '\n';
    write();
}

void RunLog::write() {
    struct stat before {};
    std::string reason;
    if (::fstat(fd_, &before) != 0) reason = std::strerror(errno);
    for (size_t done = 0; reason.empty() && done < pending_.size();) {
        const ssize_t written = ::write(fd_, pending_.data() + done, pending_.size() - done);
        if (written < 0 && errno == EINTR) continue;
        if (written > 0)
            done += static_cast<size_t>(written);
        else
            reason = written < 0 ? std::strerror(errno) : "nothing was written";
    }
    if (reason.empty()) {
        pending_.clear();
        return;
    }
    if (::ftruncate(fd_, before.st_size) != 0) pending_.clear();  // whatever is there stays
    throw ResourceError(path_ + ": cannot write: " + reason);
}

void RunLog::sync() {
    if (!pending_.empty()) write();
    if (::fsync(fd_) != 0) throw ResourceError(path_ + ": cannot write: " + std::strerror(errno));
}

}  // namespace lumachrome
