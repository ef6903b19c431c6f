// How the photos in a folder of results were made, so that a batch that ended early goes on where
// it was: a hidden file, one line of JSON a photo. A line is on the disk before its output has its
// name, so the process may be killed at any moment; a line without its output counts for nothing.
#pragma once
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "apps/commands/photos.hpp"
#include "tensor/json.hpp"

namespace lumachrome {

// A file that has the same is taken to hold the same.
struct FileStamp {
    int64_t bytes = 0, modified = 0;  // nanoseconds since 1970
    bool operator==(const FileStamp&) const = default;
};
std::optional<FileStamp> stamp_of(const std::string& path);  // nothing: there is no such file

// Threads may share one.
class Manifest {
  public:
    static constexpr const char* kName = ".lumachrome-manifest.jsonl";

    // `settings` ({"--option": "value"}) and `model` (a hash) are what results are made with now. A
    // last line that was torn, and what else is no line of ours, is passed over. Throws InputError
    // for a file that cannot be read.
    Manifest(std::string folder, Json settings, std::string model);

    // `output` exists: how it differs from what would be made of the photo now, as the end of
    // "exists already, ...". Empty where nobody knows how it was made; nothing where it does not
    // differ.
    std::optional<std::string> difference(const PhotoPath& photo, const std::string& output) const;

    // The output is about to get its name and will bear the time `written`. Throws ResourceError.
    void add(const PhotoPath& photo, const FileStamp& stamp, const std::string& output,
             int64_t written);

  private:
    struct Entry {
        std::string input, model;
        FileStamp stamp;
        int64_t written = 0;
        Json settings;
    };
    std::string name_of(const std::string& output) const;
    void read_line(const std::string& line);
    std::string changed_settings(const Entry& entry) const;

    std::string folder_, path_;
    Json settings_;
    std::string model_;
    std::map<std::string, Entry> entries_;  // by output, below the folder
    bool torn_ = false;                     // the file's last line has no end
    std::mutex writing_;
};

}  // namespace lumachrome
