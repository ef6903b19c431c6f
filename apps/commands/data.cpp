#include <filesystem>

#include "apps/commands/commands.hpp"
#include "image/codec.hpp"
#include "tensor/error.hpp"
#include "train/dataset.hpp"
#include "train/pack.hpp"
#include "train/scenes.hpp"

namespace lumachrome {
namespace {

struct DataOptions : RunOptions {
    std::vector<std::string> sources;  // scan
    std::string out;                   // scenes
    int64_t count = 100, size = 128;
    bool overwrite = false;
    uint64_t seed = 1;
};

struct DataPackOptions : RunOptions {
    std::vector<std::string> sources;
    std::string out;
    int64_t size = 160, shard_mib = 512;
    uint64_t seed = 1;  // of scenes:N
};

// What happens to each photo, on the console and for --json.
struct Report {
    Report(const Dataset& data, Console& console) {
        listener.progress = [&](int64_t done) {
            console.progress(double(done) / double(data.size()),
                             format("%ld/%ld photos", long{done}, long{data.size()}));
        };
        listener.rejected = [&](const std::string& name, const std::string& reason) {
            console.print(name + ": " + reason);
            photos.push_back(Json::Object{{"name", name}, {"reason", reason}});
        };
    }
    Report(const Report&) = delete;  // the listener refers to it
    Report& operator=(const Report&) = delete;

    ScanListener listener;
    Json::Array photos;
};

Json scan_json(const ScanCounts& counts) {
    Json json;
    json.set("images", counts.images);
    json.set("rejected", counts.rejected());
    json.set("reasons", Json::Object{{"corrupt", counts.corrupt},
                                     {"near_gray", counts.near_gray},
                                     {"duplicate", counts.duplicate}});
    return json;
}

std::string scan_text(const Dataset& data, const ScanCounts& counts) {
    return format(
        "%ld photos of %zu scenes, %ld to reject: %ld corrupt, %ld near gray, %ld "
        "duplicates",
        long{counts.images}, data.classes().size(), long{counts.rejected()}, long{counts.corrupt},
        long{counts.near_gray}, long{counts.duplicate});
}

int run_data_scan(const DataOptions& options, Console& console) {
    const auto data = open_dataset(options.sources, options.seed);
    Report report(*data, console);
    const ScanCounts counts = scan(*data, exec_for(options, console), report.listener);
    console.print(scan_text(*data, counts));
    Json json = scan_json(counts);
    json.set("photos", std::move(report.photos));
    console.result(json);
    return 0;
}

int run_data_pack(const DataPackOptions& options, Console& console) {
    const auto data = open_dataset(options.sources, options.seed);
    Report report(*data, console);
    const PackOptions wanted{options.out, options.size, options.shard_mib << 20};
    const PackReport packed = pack(*data, wanted, exec_for(options, console), report.listener);
    console.print(scan_text(*data, packed.scan));
    console.note(format("%ld photos in %ld shards of together %.1f MiB in ", long{packed.packed},
                        long{packed.shards}, double(packed.bytes) / (1 << 20)) +
                 options.out);
    Json json = scan_json(packed.scan);
    json.set("packed", packed.packed);
    json.set("shards", packed.shards);
    json.set("bytes", packed.bytes);
    json.set("out", options.out);
    json.set("photos", std::move(report.photos));
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
                    render_scene(i % classes, options.size, options.seed, index),
                    options.overwrite);
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

Command data_pack_command() {
    Command command({
        .name = "data pack",
        .summary = "write photos as shards that need no decoding",
        .description = "Writes the usable photos, decoded and shrunk, as tar shards to train on.",
        .examples = "  lumachrome data pack photos/ --out packed/     then: train packed/",
    });
    DataPackOptions& options = command.runs(run_data_pack);
    add_run_options(command, options);
    command.add("DATA", options.sources, "As for train").required();
    command.add("--out", options.out, "Folder for the shards and labels.txt; must hold neither")
        .required();
    command.add("--size", options.size, "Shorter side; smaller photos stay as they are")
        .within(16, 4096);
    command.add("--shard-mib", options.shard_mib, "Largest shard").within(1, 1 << 20);
    command.add("--seed", options.seed, "Of scenes:N");
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
    command.add("--overwrite", options.overwrite, "Replace existing photos");
    return command;
}

}  // namespace lumachrome
