#include "train/run_log.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "tensor/error.hpp"
#include "tensor/file.hpp"

namespace lumachrome {

std::string metrics_path(const std::string& run) {
    return run + "/metrics.jsonl";
}

RunLog::RunLog(std::string run, int64_t step) : path_(metrics_path(run)) {
    std::string kept, line;
    std::ifstream in(path_);
    while (std::getline(in, line)) {
        try {
            const Json json = Json::parse(line);
            if (json.at("step").integer() > step) break;
            if (json.find("final")) continue;
        } catch (const InputError&) {
            continue;  // half a line, cut off by a crash
        }
        kept += line + '\n';
    }
    if (in.is_open())
        write_file_atomic(path_, {reinterpret_cast<const uint8_t*>(kept.data()), kept.size()},
                          true);
    fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd_ < 0) throw ResourceError(path_ + ": cannot create: " + std::strerror(errno));
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
    if (::ftruncate(fd_, before.st_size) != 0) pending_.insert(0, "\n");
    throw ResourceError(path_ + ": cannot write: " + reason);
}

void RunLog::sync() {
    if (!pending_.empty()) write();
    if (::fsync(fd_) != 0) throw ResourceError(path_ + ": cannot write: " + std::strerror(errno));
}

}  // namespace lumachrome
