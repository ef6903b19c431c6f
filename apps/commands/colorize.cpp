#include <unistd.h>

#include <charconv>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <map>

#include "apps/commands/commands.hpp"
#include "apps/commands/photos.hpp"
#include "apps/exit_code.hpp"
#include "apps/stop.hpp"
#include "image/codec.hpp"
#include "model/default_model.hpp"
#include "tensor/error.hpp"
#include "tensor/file.hpp"

namespace lumachrome {
namespace {

struct ColorizeOptions : PhotoOptions {
    std::string output;  // empty: beside the input
    std::string format;  // png, jpeg; empty: by the output's name, else png
    ColorizeSettings settings;
    int quality = 95;
    bool overwrite = false, skip_existing = false;
};

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr int64_t kScenesShown = 5;
constexpr int64_t kLargestJpegSide = 65500;  // libjpeg's JPEG_MAX_DIMENSION

struct Target {
    std::string path;  // "-" is standard output
    Format format = Format::png;
};

double milliseconds_since(Clock::time_point start) {
    return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

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

// Where every photo goes. Throws UsageError before anything starts when the wishes contradict each
// other.
std::vector<Target> plan_targets(const std::vector<PhotoPath>& photos,
                                 const ColorizeOptions& options, const Console& console) {
    const std::string& output = options.output;
    std::error_code ignored;
    const bool into_folder =
        output.ends_with('/') || (output != "-" && fs::is_directory(output, ignored));
    if (photos.size() > 1 && !output.empty() && !into_folder)
        throw UsageError(format("%zu photos cannot go into one file; -o ", photos.size()) + output +
                         "/ makes a folder");
    std::vector<Target> targets;
    std::map<fs::path, std::string> sources, owners;
    for (const PhotoPath& photo : photos)
        if (photo.path != "-") sources[fs::weakly_canonical(photo.path, ignored)] = photo.path;
    for (const PhotoPath& photo : photos) {
        const Target target = target_of(photo, options, into_folder);
        targets.push_back(target);
        if (target.path == "-") {
            if (console.options.json)
                throw UsageError("--json and the photo cannot share standard output");
            if (isatty(STDOUT_FILENO))
                throw UsageError("standard output is a terminal; -o FILE names a file");
            continue;
        }
        const fs::path place = fs::weakly_canonical(target.path, ignored);
        if (sources.count(place))
            throw UsageError(target.path + ": would replace the photo it is made from");
        const auto [owner, fresh] = owners.try_emplace(place, photo.path);
        if (!fresh)
            throw UsageError(target.path + ": both " + owner->second + " and " + photo.path +
                             " would be written there");
    }
    if (into_folder) fs::create_directories(output, ignored);
    return targets;
}

bool exists(const std::string& path) {
    std::error_code ignored;
    return fs::exists(fs::symlink_status(path, ignored));
}

// All that can be known before the network runs; the write itself checks again.
void check_target(const Target& target, const ColorizeOptions& options) {
    if (target.path == "-") return;
    if (!options.overwrite && exists(target.path))
        throw UsageError(target.path + ": exists already; --overwrite replaces it");
    fs::path folder = fs::path(target.path).parent_path();
    if (folder.empty()) folder = ".";
    std::error_code error;
    if (!options.output.empty() && folder.string().starts_with(options.output))
        fs::create_directories(folder, error);
    if (!fs::is_directory(folder, error))
        throw UsageError(target.path + ": there is no folder " + folder.string());
    if (access(folder.c_str(), W_OK) != 0)
        throw ResourceError(target.path + ": the folder is not writable");
}

void check_fits(const Image& photo, const Target& target, const std::string& name) {
    if (target.format != Format::jpeg) return;
    if (photo.has_alpha())
        throw UsageError(name + ": has transparency, which JPEG cannot hold; write a .png");
    if (std::max(photo.width, photo.height) > kLargestJpegSide)
        throw UsageError(name + ": is larger than JPEG can hold; write a .png");
}

void write_stdout(std::span<const uint8_t> bytes) {
    if (std::fwrite(bytes.data(), 1, bytes.size(), stdout) != bytes.size())
        throw ResourceError("standard output: cannot write");
}

// The half-written file goes away with the exception.
void check_not_stopped() {
    if (stop_requested()) throw Error("stopped, nothing written");
}

// Row by row into the file, which appears once it is whole; standard output gets it at the end, so
// that an error in between leaves nothing there either.
Colorization color_file(Colorizer& colorizer, const Image& photo, const Target& target,
                        const ColorizeOptions& options, double& encode_milliseconds) {
    std::optional<AtomicFile> file;
    std::vector<uint8_t> piped;
    if (target.path != "-") file.emplace(target.path, options.overwrite);
    const auto encoder = make_encoder(merged(photo), target.format, options.quality,
                                      [&](std::span<const uint8_t> bytes) {
                                          if (file)
                                              file->write(bytes);
                                          else
                                              piped.insert(piped.end(), bytes.begin(), bytes.end());
                                      });
    Colorization result =
        colorizer.colorize(photo, options.settings, [&](const uint8_t* rows, int64_t count) {
            check_not_stopped();
            const Clock::time_point start = Clock::now();
            encoder->write(rows, count);
            encode_milliseconds += milliseconds_since(start);
        });
    const Clock::time_point start = Clock::now();
    encoder->finish();
    if (file) {
        file->commit();
    } else {
        write_stdout(piped);
        if (std::fflush(stdout) != 0) throw ResourceError("standard output: cannot write");
    }
    encode_milliseconds += milliseconds_since(start);
    return result;
}

// The colorizer knows its weights, not their file.
Colorization colored(Colorizer& colorizer, const Image& photo, const Target& target,
                     const ColorizeOptions& options, const std::string& weights,
                     double& encode_milliseconds) {
    try {
        return color_file(colorizer, photo, target, options, encode_milliseconds);
    } catch (const ModelError& error) {
        throw ModelError(weights + ": " + error.what());
    }
}

int run_colorize(const ColorizeOptions& options, Console& console) {
    const Exec exec = exec_for(options, console);
    std::vector<PhotoPath> photos = find_photos(options.inputs, options.recursive);
    std::vector<Target> targets = plan_targets(photos, options, console);
    const std::string weights = options.weights.empty() ? default_model_path() : options.weights;
    Colorizer colorizer(weights, exec);
    console.detail("weights: " + weights);

    stop_on_signals();
    Json::Array images;
    size_t next = 0;
    const int code =
        for_each_photo(photos, console, images, [&](const PhotoPath& photo, Json& record) {
            check_not_stopped();
            const Target& target = targets[next++];
            record.set("output", target.path);
            if (options.skip_existing && target.path != "-" && exists(target.path)) {
                record.set("skipped", true);
                return console.note(target.path + ": exists already, skipped");
            }
            check_target(target, options);
            const Clock::time_point start = Clock::now();
            const Image image = read_image(photo.path, {.max_pixels = options.max_pixels});
            const double decode_milliseconds = milliseconds_since(start);
            record.set("width", image.width);
            record.set("height", image.height);
            check_fits(image, target, photo.path);

            double encode_milliseconds = 0;
            const Colorization result =
                colored(colorizer, image, target, options, weights, encode_milliseconds);
            const double total_milliseconds = milliseconds_since(start);

            record.set("network_width", result.network_width);
            record.set("network_height", result.network_height);
            record.set("scene", scene_json(result.scene, kScenesShown));
            record.set("milliseconds", Json::Object{{"decode", decode_milliseconds},
                                                    {"network", result.network_milliseconds},
                                                    {"encode", encode_milliseconds},
                                                    {"total", total_milliseconds}});
            std::string line = photo.path + " -> " + target.path +
                               format(" (%ldx%ld, %.2f s", long{image.width}, long{image.height},
                                      total_milliseconds / 1000);
            if (!result.scene.empty())
                line += format(", %s %.0f %%", result.scene[0].label.c_str(),
                               100 * result.scene[0].probability);
            console.note(line + ")");
        });

    Json summary;
    summary.set("images", std::move(images));
    summary.set("device", exec.device.str());
    summary.set("threads", exec.threads);
    summary.set("weights", weights);
    summary.set("peak_rss_mib", peak_rss_mib());
    console.result(summary);
    return stop_requested() ? kStoppedEarly : code;
}

}  // namespace

Command colorize_command() {
    Command command({
        .name = "colorize",
        .summary = "photos in, colour photos out",
        .description = "Colours photos; the photo's own luminance is kept at full resolution.",
        .examples = "  lumachrome colorize grandma.jpg                     writes "
                    "grandma-color.png beside it\n"
                    "  lumachrome colorize grandma.jpg -o colour.jpg       names the output\n"
                    "  lumachrome colorize album/ -r -o coloured/          a folder of photos\n"
                    "  lumachrome colorize - < in.png > out.png            in a pipe",
    });
    ColorizeOptions& options = command.runs(run_colorize);
    add_run_options(command, options);
    add_photo_options(command, options);
    command.add("-o,--output", options.output,
                "File, folder/ or - for stdout; else beside the photo");
    command.add("--format", options.format, "png or jpeg; else by the output's name, or png")
        .one_of({"png", "jpeg"});
    add_size_option(command, options.settings);
    command.add("--saturation", options.settings.saturation, "Factor on the predicted chroma")
        .within(0, 10);
    command.add("--quality", options.quality, "Of JPEG").within(1, 100);
    add_path_option(command, options.settings.naive);
    const auto set_memory = [&options](const std::string& word) {
        int64_t mib = 0;
        const char* end = word.data() + word.size();
        if (std::from_chars(word.data(), end, mib).ptr != end || mib < 16 || mib > (1 << 24))
            throw UsageError(word + " must be a number of MiB, 16..16777216");
        options.settings.max_memory = mib << 20;
    };
    command
        .add("--max-memory", Setter(set_memory),
             "MiB that the process may take: large photos go through the network in bands")
        .shown_as("MiB");
    command.add("--overwrite", options.overwrite, "Replace existing outputs");
    command.add("--skip-existing", options.skip_existing, "Pass over photos that have an output")
        .excludes({"--overwrite"});
    return command;
}

}  // namespace lumachrome
