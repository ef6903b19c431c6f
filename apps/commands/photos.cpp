#include "apps/commands/photos.hpp"

#include <glob.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <chrono>
#include <filesystem>
#include <mutex>
#include <set>
#include <thread>

#include "apps/exit_code.hpp"
#include "apps/stop.hpp"
#include "image/codec.hpp"
#include "model/colorizer.hpp"
#include "tensor/error.hpp"
#include "tensor/file.hpp"
#include "tensor/sha256.hpp"
#include "tensor/storage.hpp"

namespace lumachrome {
namespace {

namespace fs = std::filesystem;

// The network sees every photo in about the same size: its pass costs what decoding and encoding
// a JPEG of so many bytes does (25 ms against 55 ms for one of 205 kB).
constexpr double kCostOfNetwork = 100e3;
constexpr size_t kFailuresNamed = 5;

// Not what an earlier run made.
bool is_wanted(const fs::path& path) {
    return has_photo_name(path.string()) && !path.stem().string().ends_with("-color");
}

double cost_of(const fs::path& path) {
    std::error_code error;
    const uintmax_t bytes = fs::file_size(path, error);
    return kCostOfNetwork + (error ? 0 : double(bytes));
}

// The photos of one folder that the user named.
class Folder {
  public:
    Folder(fs::path root, bool recursive) : root_(std::move(root)), recursive_(recursive) {}

    std::vector<PhotoPath> photos() {
        add(root_);
        std::sort(found_.begin(), found_.end(),
                  [](const PhotoPath& a, const PhotoPath& b) { return a.path < b.path; });
        return std::move(found_);
    }

  private:
    void add(const fs::path& folder) {
        try {
            for (const auto& entry : fs::directory_iterator(folder)) consider(entry);
        } catch (const fs::filesystem_error& error) {
            found_.push_back({folder.string(), "", "cannot list: " + error.code().message()});
        }
    }
    void consider(const fs::directory_entry& entry) {
        std::error_code ignored;
        if (recursive_ && entry.is_directory(ignored)) {
            const bool hidden = entry.path().filename().string().starts_with('.');
            if (!hidden && !entry.is_symlink(ignored)) add(entry.path());
            return;
        }
        // Reading a pipe would wait forever. Other things called .jpg fail by name.
        if (is_wanted(entry.path()) && !entry.is_other(ignored))
            found_.push_back({entry.path().string(),
                              entry.path().lexically_relative(root_).string(), "",
                              cost_of(entry.path())});
    }

    fs::path root_;
    bool recursive_;
    std::vector<PhotoPath> found_;
};

std::string no_photo_in(const std::string& folder, bool recursive) {
    return folder + ": the folder holds no photo (" + kPhotoNames + ")" +
           (recursive ? "" : "; -r looks into its folders");
}

std::vector<std::string> matches(const std::string& pattern) {
    glob_t found{};
    std::vector<std::string> paths;
    if (glob(pattern.c_str(), 0, nullptr, &found) == 0)
        paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
    globfree(&found);
    return paths;
}

// Tells the same only once, however many photos and threads there are.
class Warnings {
  public:
    explicit Warnings(Console& console) : console_(console) {}
    void tell(const std::string& photo, const Json& record) {
        const Json* const warnings = record.find("warnings");
        if (!warnings) return;
        for (const Json& warning : warnings->array()) {
            const std::string line = photo + ": " + warning.string();
            const std::lock_guard lock(mutex_);
            if (told_.insert(warning.string()).second)
                console_.note(line);
            else
                console_.detail(line);
        }
    }

  private:
    Console& console_;
    std::mutex mutex_;
    std::set<std::string> told_;
};

// How far a batch is, and when it will be at its end if it goes on as so far.
class Pace {
  public:
    explicit Pace(const std::vector<PhotoPath>& photos) : photos_(photos.size()) {
        for (const PhotoPath& photo : photos) cost_ += photo.cost;
    }
    void finished(const PhotoPath& photo) {
        const std::lock_guard lock(mutex_);
        ++finished_;
        if (photo.cost == 0) return;
        ++worked_;
        worked_cost_ += photo.cost;
    }
    double share() const {
        const std::lock_guard lock(mutex_);
        return cost_ > 0 ? worked_cost_ / cost_ : 0;
    }
    std::string text() const {
        const std::lock_guard lock(mutex_);
        std::string text = format("%zu of %zu", finished_, photos_);
        if (worked_ == 0) return text;
        const double each = seconds() / double(worked_),
                     left = seconds() * (cost_ - worked_cost_) / worked_cost_;
        return text + format(", %.*f s a photo, ", each < 10 ? 2 : 0, each) + duration(left) +
               " left";
    }
    double seconds() const {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    }

  private:
    const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
    mutable std::mutex mutex_;
    size_t photos_, finished_ = 0, worked_ = 0;
    double cost_ = 0, worked_cost_ = 0;
};

}  // namespace

std::vector<PhotoPath> find_photos(const std::vector<std::string>& inputs, bool recursive,
                                   Console& console) {
    std::vector<PhotoPath> photos;
    std::vector<std::string> empty;
    const auto add = [&](const std::string& path) {
        std::error_code ignored;
        if (path == "-" || !fs::is_directory(path, ignored)) {
            photos.push_back({path, fs::path(path).filename().string(), "", cost_of(path)});
            return;
        }
        std::vector<PhotoPath> found = Folder(path, recursive).photos();
        if (found.empty()) empty.push_back(no_photo_in(path, recursive));
        std::move(found.begin(), found.end(), std::back_inserter(photos));
    };
    for (const std::string& input : inputs) {
        std::error_code ignored;
        const bool pattern =
            input.find_first_of("*?[") != input.npos && !fs::exists(input, ignored);
        const std::vector<std::string> found = pattern ? matches(input) : std::vector{input};
        // A pattern that matches nothing stays as it is: opening it then says so, by name.
        for (const std::string& path : found.empty() ? std::vector{input} : found) add(path);
    }
    if (photos.empty()) throw InputError(empty.front());
    for (const std::string& text : empty) console.note(text);
    return photos;
}

Tally for_each_photo(const std::vector<PhotoPath>& photos, int at_a_time, Console& console,
                     Json::Array& records,
                     const std::function<Outcome(size_t i, Json& record)>& work) {
    records.assign(photos.size(), {});
    Tally tally;
    Pace pace(photos);
    std::mutex mutex;  // of the tally
    std::atomic<size_t> next = 0;
    Warnings warnings(console);
    const auto take = [&](size_t i, Json& record) {
        const PhotoPath& photo = photos[i];
        record.set("input", photo.path);
        try {
            if (!photo.problem.empty()) throw InputError(photo.path + ": " + photo.problem);
            const Outcome outcome = work(i, record);
            const std::lock_guard lock(mutex);
            ++(outcome == Outcome::done ? tally.done : tally.skipped);
        } catch (const std::exception& error) {
            const std::string text = message(error);
            // Errors below the codec (memory, the network) do not know the photo.
            const bool named = text.find(photo.path) != text.npos || photo.path == "-";
            console.error(named ? text : photo.path + ": " + text);
            record.set("error", text);
            const std::lock_guard lock(mutex);
            tally.code = photos.size() == 1 ? exit_code(error) : kSomeFailed;
            tally.failed.push_back(photo.path);
        }
    };
    const auto take_photos = [&] {
        for (size_t i; !stop_requested() && (i = next++) < photos.size();) {
            take(i, records[i]);
            warnings.tell(photos[i].path, records[i]);
            pace.finished(photos[i]);
            if (photos.size() > 1) console.progress(pace.share(), pace.text());
            release_cached_storage();  // the next photo has other sizes
        }
    };
    {
        std::vector<std::jthread> others;
        for (int i = 1; i < at_a_time; ++i) others.emplace_back(take_photos);
        take_photos();
    }
    console.clear_progress();
    tally.seconds = pace.seconds();
    const size_t begun = std::min<size_t>(next, photos.size()), left = photos.size() - begun;
    for (size_t i = begun; i < photos.size(); ++i)
        records[i] = Json::Object{{"input", photos[i].path}, {"error", "stopped, not begun"}};
    if (left > 0)
        console.error(format("stopped with %zu of ", left) +
                      counted(static_cast<int64_t>(photos.size()), "photo") + " to go");
    return tally;
}

std::string summary_of(const Tally& tally, const std::string& what_was_done) {
    std::string text = format("%ld ", tally.done) + what_was_done;
    if (tally.skipped > 0) text += format(", %ld skipped", tally.skipped);
    if (!tally.failed.empty()) {
        text += format(", %zu failed (", tally.failed.size());
        for (size_t i = 0; i < std::min(kFailuresNamed, tally.failed.size()); ++i)
            text += (i == 0 ? "" : ", ") + tally.failed[i];
        text += tally.failed.size() > kFailuresNamed ? ", ...)" : ")";
    }
    return text + " in " + duration(tally.seconds);
}

void set_warnings(Json& record, const Image& photo) {
    if (photo.warnings.empty()) return;
    record.set("warnings", Json::Array(photo.warnings.begin(), photo.warnings.end()));
}

Provenance provenance_of(const std::string& weights_sha256) {
    return {"lumachrome " LUMACHROME_VERSION,
            "chroma generated by lumachrome, model sha256 " + weights_sha256};
}

Json scene_json(const std::vector<SceneScore>& scores, int64_t top) {
    Json::Array scene;
    for (const SceneScore& score : scores) {
        if (static_cast<int64_t>(scene.size()) == top) break;
        scene.push_back(Json::Object{{"label", score.label}, {"probability", score.probability}});
    }
    return scene;
}

}  // namespace lumachrome
