#include "apps/commands/targets.hpp"

#include <unistd.h>

#include <filesystem>
#include <map>
#include <set>

#include "apps/commands/colorize.hpp"
#include "tensor/error.hpp"
#include "tensor/file.hpp"

namespace lumachrome {
namespace {

namespace fs = std::filesystem;

Format format_of(const ColorizeOptions& options, const std::string& output) {
    std::optional<Format> wanted;
    if (!options.format.empty()) wanted = options.format == "png" ? Format::png : Format::jpeg;
    if (output.empty() || output == "-") return wanted.value_or(Format::png);
    const Format named = format_of_path(output);
    if (wanted && *wanted != named)
        throw UsageError("--format " + options.format + " contradicts the name " + output);
    return named;
}

Target target_of(const PhotoPath& photo, const ColorizeOptions& options, bool into_folder) {
    const std::string& output = options.output;
    if (!output.empty() && !into_folder) return {output, format_of(options, output)};
    const Format format = format_of(options, "");
    if (photo.path == "-" && output.empty()) return {"-", format};
    const fs::path relative = photo.path == "-" ? "stdin" : photo.relative;
    const std::string name =
        relative.stem().string() + "-color" + (format == Format::png ? ".png" : ".jpg");
    const fs::path folder = into_folder ? fs::path(output) / relative.parent_path()
                                        : fs::path(photo.path).parent_path();
    return {(folder / name).string(), format};
}

fs::path folder_of(const std::string& file) {
    const fs::path path = file;
    return path.has_parent_path() ? path.parent_path() : ".";
}

}  // namespace

void check_folder(const std::string& target) {
    const fs::path folder = folder_of(target);
    std::error_code ignored;
    if (!fs::is_directory(folder, ignored))
        throw UsageError(target + ": there is no folder " + folder.string());
    if (access(folder.c_str(), W_OK) != 0)
        throw ResourceError(target + ": the folder is not writable");
}

void check_sources(const std::vector<std::string>& sources,
                   const std::vector<std::string>& targets) {
    std::error_code ignored;
    std::set<fs::path> places;
    for (const std::string& source : sources)
        if (source != "-") places.insert(fs::weakly_canonical(source, ignored));
    for (const std::string& target : targets)
        if (target != "-" && places.contains(fs::weakly_canonical(target, ignored)))
            throw UsageError(target + ": would replace the photo it is made from");
}

Targets plan_targets(const std::vector<PhotoPath>& photos, const ColorizeOptions& options,
                     const Console& console) {
    const std::string& output = options.output;
    std::error_code ignored;
    Targets targets;
    targets.in_folder =
        output.ends_with('/') || (output != "-" && fs::is_directory(output, ignored));
    if (photos.size() > 1 && !output.empty() && !targets.in_folder)
        throw UsageError(format("%zu photos cannot go into one file; -o ", photos.size()) + output +
                         "/ makes a folder");
    std::vector<std::string> sources, places;
    for (const PhotoPath& photo : photos) {
        targets.of_photos.push_back(target_of(photo, options, targets.in_folder));
        sources.push_back(photo.path);
        places.push_back(targets.of_photos.back().path);
    }
    check_sources(sources, places);
    std::map<fs::path, std::string> owners;
    for (size_t i = 0; i < photos.size(); ++i) {
        const PhotoPath& photo = photos[i];
        const Target& target = targets.of_photos[i];
        if (target.path == "-") {
            if (console.options.json)
                throw UsageError("--json and the photo cannot share standard output");
            if (isatty(STDOUT_FILENO))
                throw UsageError("standard output is a terminal; -o FILE names a file");
            continue;
        }
        const fs::path place = fs::weakly_canonical(target.path, ignored);
        const auto [owner, fresh] = owners.try_emplace(place, photo.path);
        if (!fresh)
            throw UsageError(target.path + ": both " + owner->second + " and " + photo.path +
                             " would be written there");
    }
    std::error_code error;
    if (targets.in_folder) fs::create_directories(output, error);
    if (error) throw ResourceError(output + ": cannot create the folder: " + error.message());
    return targets;
}

bool is_there(const std::string& path) {
    std::error_code ignored;
    return fs::exists(fs::symlink_status(path, ignored));
}

void check_target(const Target& target, const ColorizeOptions& options,
                  const std::string& existing) {
    if (target.path == "-") return;
    if (!options.overwrite && is_there(target.path))
        throw UsageError(target.path + ": exists already" +
                         (existing.empty() ? "" : ", " + existing) + "; --overwrite replaces it");
    const fs::path folder = folder_of(target.path);
    std::error_code ignored;
    if (!options.output.empty() && folder.string().starts_with(options.output))
        fs::create_directories(folder, ignored);
    check_folder(target.path);
}

void clear_abandoned(const Targets& targets) {
    std::map<fs::path, std::set<std::string>> names;
    for (const Target& target : targets.of_photos) {
        const fs::path path = target.path;
        if (target.path != "-")
            names[path.has_parent_path() ? path.parent_path() : "."].insert(path.filename());
    }
    for (const auto& [folder, files] : names) remove_abandoned(folder.string(), files);
}

}  // namespace lumachrome
