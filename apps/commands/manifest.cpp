#include "apps/commands/manifest.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <sstream>

#include "tensor/error.hpp"
#include "tensor/file.hpp"

namespace lumachrome {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostBytes = int64_t{1} << 30;

// File names may be any bytes, JSON is UTF-8.
std::string in_utf8(const std::string& name) {
    if (Json::parse(Json(name).dump()).string() == name) return name;
    std::string text;
    for (const char c : name)
        text += c & 0x80 ? format("%%%02X", static_cast<unsigned char>(c)) : std::string(1, c);
    return text;
}

}  // namespace

std::optional<FileStamp> stamp_of(const std::string& path) {
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) return {};
    return FileStamp{info.st_size,
                     int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec};
}

Manifest::Manifest(std::string folder, Json settings, std::string model)
    : folder_(std::move(folder)),
      path_((fs::path(folder_) / kName).string()),
      settings_(std::move(settings)),
      model_(std::move(model)) {
    std::error_code ignored;
    if (!fs::exists(path_, ignored)) return;
    const std::vector<uint8_t> bytes = read_file(path_, kMostBytes);
    torn_ = !bytes.empty() && bytes.back() != '\n';
    std::istringstream lines(std::string(bytes.begin(), bytes.end()));
    for (std::string line; std::getline(lines, line);) read_line(line);
}

void Manifest::read_line(const std::string& line) {
    try {
        const Json json = Json::parse(line);
        entries_[json.at("output").string()] = {
            json.at("input").string(),
            json.at("model").string(),
            {json.at("bytes").integer(), json.at("modified").integer()},
            json.at("written").integer(),
            Json(json.at("settings").object())};
    } catch (const InputError&) {
    }
}

std::string Manifest::name_of(const std::string& output) const {
    return in_utf8(fs::path(output).lexically_relative(folder_).string());
}

// " --size auto --saturation 0.5": as they were.
std::string Manifest::changed_settings(const Entry& entry) const {
    std::string text;
    for (const auto& [option, value] : settings_.object()) {
        const Json* const then = entry.settings.find(option);
        if (then == nullptr || !then->is_string())
            text += " an older " + option;
        else if (then->string() != value.string())
            text += " " + option + " " + (then->string().empty() ? "off" : then->string());
    }
    return text;
}

std::optional<std::string> Manifest::difference(const PhotoPath& photo,
                                                const std::string& output) const {
    const auto found = entries_.find(name_of(output));
    const std::optional<FileStamp> written = stamp_of(output);
    // Older than its line: the process ended before the new output replaced this one.
    if (found == entries_.end() || !written || written->modified < found->second.written) return "";
    const Entry& entry = found->second;
    if (entry.input != in_utf8(photo.relative)) return "made from another photo, " + entry.input;
    if (entry.stamp != stamp_of(photo.path))
        return "made from another " + entry.input + ", or before it changed";
    if (entry.model != model_) return "made with another model";
    const std::string settings = changed_settings(entry);
    if (!settings.empty()) return "made with" + settings;
    return {};
}

void Manifest::add(const PhotoPath& photo, const FileStamp& stamp, const std::string& output,
                   int64_t written) {
    const Json line = Json::Object{{"output", name_of(output)}, {"input", in_utf8(photo.relative)},
                                   {"bytes", stamp.bytes},      {"modified", stamp.modified},
                                   {"written", written},        {"model", model_},
                                   {"settings", settings_}};
    const std::lock_guard lock(writing_);
    const std::string text = (torn_ ? "\n" : "") + line.dump() + "\n";
    const int file = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    // In one piece, for others may write lines of their own.
    const auto size = static_cast<ssize_t>(text.size());
    torn_ = file < 0 || ::write(file, text.data(), text.size()) != size || ::fsync(file) != 0;
    const std::string reason = std::strerror(errno);
    if (file >= 0) ::close(file);
    if (torn_) throw ResourceError(path_ + ": cannot write: " + reason);
}

}  // namespace lumachrome
