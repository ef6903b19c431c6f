#include <filesystem>
#include <string_view>
#include <unordered_map>

#include "apps/commands/commands.hpp"
#include "image/codec.hpp"
#include "tensor/error.hpp"
#include "train/augment.hpp"
#include "train/dataset.hpp"
#include "train/scenes.hpp"

namespace lumachrome {
namespace {

struct DataOptions : RunOptions {
    std::vector<std::string> sources;  // scan
    std::string out;                   // scenes
    int64_t count = 100, size = 128;
    uint64_t seed = 1;
};

constexpr int64_t kScanSize = 64;  // near-gray is judged on the photo shrunk to this

struct Rejected {
    int64_t corrupt = 0, near_gray = 0, duplicate = 0;
};

int run_data_scan(const DataOptions& options, Console& console) {
    const auto data = open_dataset(options.sources, options.seed);
    Rejected rejected;
    // By the hash of the decoded pixels: the same photo saved twice under two names.
    std::unordered_map<size_t, std::string> seen;
    Json::Array photos;
    const auto reject = [&](const std::string& name, const std::string& reason, int64_t& count) {
        ++count;
        console.print(name + ": " + reason);
        photos.push_back(Json::Object{{"name", name}, {"reason", reason}});
    };
    for (int64_t i = 0; i < data->size(); ++i) {
        console.progress(double(i) / double(data->size()),
                         format("%ld/%ld photos", long{i}, long{data->size()}));
        try {
            const Photo photo = data->read(i);
            const auto& bytes = photo.image.bytes;
            const size_t hash = std::hash<std::string_view>{}(
                {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
            const auto [first, fresh] = seen.try_emplace(hash, photo.name);
            if (!fresh)
                reject(photo.name, "duplicate of " + first->second, rejected.duplicate);
            else if (centre_crop(photo, kScanSize).near_gray)
                reject(photo.name, "near gray", rejected.near_gray);
        } catch (const InputError& error) {
            reject(data->name(i), std::string("corrupt: ") + error.what(), rejected.corrupt);
        }
    }
    const int64_t total = rejected.corrupt + rejected.near_gray + rejected.duplicate;
    console.print(
        format("%ld photos of %zu scenes, %ld to reject: %ld corrupt, %ld near gray, %ld "
               "duplicates",
               long{data->size()}, data->classes().size(), long{total}, long{rejected.corrupt},
               long{rejected.near_gray}, long{rejected.duplicate}));
    Json json;
    json.set("images", data->size());
    json.set("rejected", total);
    json.set("reasons", Json::Object{{"corrupt", rejected.corrupt},
                                     {"near_gray", rejected.near_gray},
                                     {"duplicate", rejected.duplicate}});
    json.set("photos", std::move(photos));
    console.result(json);
    return 0;
}

int run_data_scenes(const DataOptions& options, Console& console) {
    namespace fs = std::filesystem;
    const std::vector<std::string>& names = scene_names();
    const auto classes = static_cast<int64_t>(names.size());
    for (int64_t i = 0; i < options.count; ++i) {
        console.progress(double(i) / double(options.count),
                         format("%ld/%ld photos", long{i}, long{options.count}));
        const fs::path folder = fs::path(options.out) / names[static_cast<size_t>(i % classes)];
        std::error_code error;
        fs::create_directories(folder, error);
        if (error) throw ResourceError(folder.string() + ": cannot create: " + error.message());
        const auto index = static_cast<uint32_t>(i / classes);
        write_image((folder / format("%06u.png", index)).string(),
                    render_scene(i % classes, options.size, options.seed, index), false);
    }
    console.note(format("%ld photos of %ld scenes in ", long{options.count}, long{classes}) +
                 options.out);
    console.result(Json::Object{{"images", options.count},
                                {"rejected", 0},
                                {"reasons", Json(Json::Object{})},
                                {"scenes", classes},
                                {"out", options.out}});
    return 0;
}

}  // namespace

Command data_scan_command() {
    Command command({
        .name = "data scan",
        .summary = "find photos not worth training on",
        .description = "Reports corrupt, near-gray and duplicate photos.",
        .examples = "  lumachrome data scan photos/\n"
                    "  lumachrome data scan train.tar --json",
    });
    DataOptions& options = command.runs(run_data_scan);
    add_run_options(command, options);
    command.add("DATA", options.sources, "As for train").required();
    return command;
}

Command data_scenes_command() {
    Command command({
        .name = "data scenes",
        .summary = "write procedural photos",
        .description = "Writes procedural photos, a folder per scene.",
        .examples = "  lumachrome data scenes made/ --count 200 --size 256",
    });
    DataOptions& options = command.runs(run_data_scenes);
    add_run_options(command, options);
    command.add("DIR", options.out, "Folder to fill").required();
    command.add("--count", options.count, "Photos in all").at_least(1);
    command.add("--size", options.size, "Side").within(16, 4096);
    command.add("--seed", options.seed, "Another seed, other photos");
    return command;
}

}  // namespace lumachrome
