#include "apps/commands/photos.hpp"

#include <glob.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <filesystem>
#include <thread>

#include "apps/exit_code.hpp"
#include "apps/stop.hpp"
#include "model/colorizer.hpp"
#include "tensor/error.hpp"
#include "tensor/storage.hpp"

namespace lumachrome {
namespace {

namespace fs = std::filesystem;

bool is_photo(const fs::path& path) {
    std::string extension = path.extension().string();
    for (char& c : extension) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    const bool known = extension == ".png" || extension == ".jpg" || extension == ".jpeg";
    return known && !path.filename().string().starts_with('.') &&
           !path.stem().string().ends_with("-color");
}

void add_folder(const fs::path& folder, bool recursive, std::vector<PhotoPath>& photos) {
    const size_t before = photos.size();
    const auto consider = [&](const fs::directory_entry& entry) {
        if (is_photo(entry.path()) && !entry.is_directory())
            photos.push_back(
                {entry.path().string(), entry.path().lexically_relative(folder).string()});
    };
    try {
        if (recursive)
            for (const auto& entry : fs::recursive_directory_iterator(folder)) consider(entry);
        else
            for (const auto& entry : fs::directory_iterator(folder)) consider(entry);
    } catch (const fs::filesystem_error& error) {
        throw InputError(folder.string() + ": cannot list: " + error.code().message());
    }
    if (photos.size() == before)
        throw InputError(folder.string() + ": the folder holds no photo (.png, .jpg, .jpeg)" +
                         (recursive ? "" : "; -r looks into its folders"));
    std::sort(photos.begin() + static_cast<std::ptrdiff_t>(before), photos.end(),
              [](const PhotoPath& a, const PhotoPath& b) { return a.path < b.path; });
}

std::vector<std::string> matches(const std::string& pattern) {
    glob_t found{};
    std::vector<std::string> paths;
    if (glob(pattern.c_str(), 0, nullptr, &found) == 0)
        paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
    globfree(&found);
    return paths;
}

}  // namespace

std::vector<PhotoPath> find_photos(const std::vector<std::string>& inputs, bool recursive) {
    std::vector<PhotoPath> photos;
    const auto add = [&](const std::string& path) {
        std::error_code ignored;
        if (path != "-" && fs::is_directory(path, ignored))
            add_folder(path, recursive, photos);
        else
            photos.push_back({path, fs::path(path).filename().string()});
    };
    for (const std::string& input : inputs) {
        std::error_code ignored;
        const bool pattern =
            input.find_first_of("*?[") != input.npos && !fs::exists(input, ignored);
        const std::vector<std::string> found = pattern ? matches(input) : std::vector{input};
        // A pattern that matches nothing stays as it is: opening it then says so, by name.
        for (const std::string& path : found.empty() ? std::vector{input} : found) add(path);
    }
    return photos;
}

int for_each_photo(const std::vector<PhotoPath>& photos, int at_a_time, Console& console,
                   Json::Array& records, const std::function<void(size_t i, Json& record)>& work) {
    records.assign(photos.size(), {});
    std::atomic<size_t> next = 0;
    std::atomic<int> failed = 0, code = kOk;
    const auto take_photos = [&] {
        for (size_t i; !stop_requested() && (i = next++) < photos.size();) {
            if (photos.size() > 1)
                console.progress(double(i) / double(photos.size()),
                                 format("%zu/%zu ", i, photos.size()) + photos[i].path);
            Json record;
            record.set("input", photos[i].path);
            try {
                work(i, record);
            } catch (const std::exception& error) {
                const std::string text = message(error);
                // Errors below the codec (memory, the network) do not know the photo.
                const bool named = text.find(photos[i].path) != text.npos || photos[i].path == "-";
                console.error(named ? text : photos[i].path + ": " + text);
                record.set("error", text);
                code = exit_code(error);
                ++failed;
            }
            records[i] = std::move(record);
            release_cached_storage();  // the next photo has other sizes
        }
    };
    {
        std::vector<std::jthread> others;
        for (int i = 1; i < at_a_time; ++i) others.emplace_back(take_photos);
        take_photos();
    }
    console.clear_progress();
    const size_t begun = std::min<size_t>(next, photos.size()), left = photos.size() - begun;
    for (size_t i = begun; i < photos.size(); ++i)
        records[i] = Json::Object{{"input", photos[i].path}, {"error", "stopped, not begun"}};
    if (left > 0)
        console.error(format("stopped with %zu of %zu photos to go", left, photos.size()));
    return failed == 0 || photos.size() == 1 ? code.load() : kSomeFailed;
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
