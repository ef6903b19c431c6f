#include "train/run_log.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string_view>

#include "image/codec.hpp"
#include "tensor/error.hpp"
#include "tensor/file.hpp"
#include "train/report/report.hpp"

namespace lumachrome {
namespace {

Json to_json(const TrainReport& r) {
    Json line;
    line.set("step", r.step);
    line.set("epoch", r.epoch);
    line.set("color_loss", r.color_loss);
    line.set("class_loss", r.class_loss);
    line.set("top1", r.top1);
    line.set("gradient_norm", r.gradient_norm);
    line.set("learning_rate", r.learning_rate);
    line.set("images_per_second", r.images_per_second);
    line.set("seconds", r.seconds);
    return line;
}

Json to_json(const ValidationResult& v) {
    Json json;
    json.set("images", v.images);
    json.set("color_loss", v.color_loss);
    json.set("class_loss", v.class_loss);
    json.set("top1", v.top1);
    json.set("rmse_ab", v.rmse_ab);
    json.set("gray_rmse_ab", v.gray_rmse_ab);
    json.set("psnr_rgb", v.psnr_rgb);
    json.set("delta_e2000_mean", v.delta_e2000_mean);
    json.set("colorfulness", v.colorfulness);
    json.set("colorfulness_truth", v.colorfulness_truth);
    json.set("near_gray_fraction", v.near_gray_fraction);
    Json::Array classes;
    for (const ClassAccuracy& c : v.classes)
        classes.push_back(Json::Object{{"label", c.label},
                                       {"images", c.images},
                                       {"top1", double(c.correct) / double(c.images)}});
    json.set("classes", std::move(classes));
    return json;
}

Json to_json(const std::vector<LayerStatistics>& layers) {
    Json::Array all;
    for (const LayerStatistics& l : layers)
        all.push_back(Json::Object{{"name", l.name},
                                   {"activation_mean", l.activation_mean},
                                   {"activation_std", l.activation_std},
                                   {"activation_zero", l.activation_zero},
                                   {"weight_rms", l.weight_rms},
                                   {"gradient_rms", l.gradient_rms}});
    return all;
}

// Of the lines up to `step`. A last line may have been cut off by a crash; another that cannot be
// read is a reason not to touch the file.
off_t kept_bytes(const std::string& path, int64_t step) {
    const std::vector<uint8_t> bytes = read_file(path);
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    size_t begin = 0;
    for (size_t end; (end = text.find('\n', begin)) != text.npos; begin = end + 1) {
        try {
            const Json json = Json::parse(text.substr(begin, end - begin));
            if (json.at("step").integer() > step || json.find("final")) break;
        } catch (const InputError& error) {
            if (end + 1 == text.size()) break;
            throw InputError(path + ": at byte " + std::to_string(begin) + ": " + error.what());
        }
    }
    return static_cast<off_t>(begin);
}

}  // namespace

std::string metrics_path(const std::string& run) {
    return run + "/metrics.jsonl";
}

RunLog::RunLog(std::string run, int64_t step, bool tensorboard)
    : run_(std::move(run)), path_(metrics_path(run_)) {
    fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd_ < 0) throw ResourceError(path_ + ": cannot create: " + std::strerror(errno));
    // Released by the system however this process ends. Some network file systems know no locks.
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        ::close(fd_);
        throw UsageError(run_ + ": another process is training in this folder");
    }
    off_t kept = 0;
    try {
        kept = kept_bytes(path_, step);
    } catch (...) {
        ::close(fd_);
        throw;
    }
    if (::ftruncate(fd_, kept) != 0) {
        const std::string reason = std::strerror(errno);
        ::close(fd_);
        throw ResourceError(path_ + ": cannot write: " + reason);
    }
    size_ = kept;
    if (tensorboard) tensorboard_.emplace(run_, step);
}

RunLog::~RunLog() {
    ::close(fd_);
}

void RunLog::training(const TrainReport& r) {
    add(to_json(r));
    if (!tensorboard_) return;
    tensorboard_->scalars(r.step, {{"train/color_loss", r.color_loss},
                                   {"train/class_loss", r.class_loss},
                                   {"train/top1", r.top1},
                                   {"train/gradient_norm", r.gradient_norm},
                                   {"train/learning_rate", r.learning_rate},
                                   {"train/images_per_second", r.images_per_second}});
}

void RunLog::validation(const TrainProgress& progress, int64_t epoch,
                        const ValidationResult& result, bool final) {
    Json line;
    line.set("step", progress.step);
    line.set("epoch", epoch);
    if (final) line.set("final", true);
    line.set("validation", to_json(result));
    line.set("layers", to_json(result.layers));
    line.set("seconds", progress.seconds);
    add(line);
    const std::string folder = run_ + "/samples";
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) throw ResourceError(folder + ": cannot create: " + error.message());
    char name[40];
    std::snprintf(name, sizeof name, "/step-%08lld.png", static_cast<long long>(progress.step));
    const std::vector<uint8_t> png = encode(result.samples, Format::png);
    write_file_atomic(folder + name, png, true);
    report();
    if (!tensorboard_) return;
    tensorboard_->scalars(progress.step, {{"validation/color_loss", result.color_loss},
                                          {"validation/class_loss", result.class_loss},
                                          {"validation/top1", result.top1},
                                          {"validation/rmse_ab", result.rmse_ab},
                                          {"validation/psnr_rgb", result.psnr_rgb},
                                          {"validation/colorfulness", result.colorfulness}});
    tensorboard_->image(progress.step, "validation/samples", png, result.samples.width,
                        result.samples.height);
}

void RunLog::report() {
    write_report(run_);
}

void RunLog::add(const Json& line) {
    pending_ += line.dump() + '\n';
    write();
}

// Takes back a part of a line.
bool RunLog::cut() {
    torn_ = ::ftruncate(fd_, size_) != 0;
    return !torn_;
}

void RunLog::write() {
    std::string reason;
    if (torn_ && !cut()) reason = std::strerror(errno);
    for (size_t done = 0; reason.empty() && done < pending_.size();) {
        const ssize_t written = ::write(fd_, pending_.data() + done, pending_.size() - done);
        if (written < 0 && errno == EINTR) continue;
        if (written > 0)
            done += static_cast<size_t>(written);
        else
            reason = written < 0 ? std::strerror(errno) : "nothing was written";
    }
    if (reason.empty()) {
        size_ += static_cast<int64_t>(pending_.size());
        pending_.clear();
        return;
    }
    cut();
    throw ResourceError(path_ + ": cannot write: " + reason);
}

void RunLog::sync() {
    if (!pending_.empty()) write();
    if (::fsync(fd_) != 0) throw ResourceError(path_ + ": cannot write: " + std::strerror(errno));
}

}  // namespace lumachrome
