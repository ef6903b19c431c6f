#include <unistd.h>

#include <charconv>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <map>
#include <mutex>
#include <shared_mutex>

#include "apps/commands/commands.hpp"
#include "apps/commands/photos.hpp"
#include "apps/commands/styles.hpp"
#include "apps/exit_code.hpp"
#include "apps/stop.hpp"
#include "image/codec.hpp"
#include "image/tone.hpp"
#include "model/default_model.hpp"
#include "tensor/error.hpp"
#include "tensor/file.hpp"

namespace lumachrome {
namespace {

struct ColorizeOptions : PhotoOptions, StyleOptions {
    std::string output;  // empty: beside the input
    std::string format;  // png, jpeg; empty: by the output's name, else png
    std::string if_color = "recolor";
    bool strip_metadata = false;
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

// Colours photos, several at a time: while the network, with all threads, works on one, others are
// decoded and encoded, each by one thread.
class Batch {
  public:
    Batch(Colorizer& colorizer, const ColorizeOptions& options, const ColorizeSettings& settings,
          size_t photos, int threads)
        : colorizer_(colorizer), options_(options), settings_(settings) {
        constexpr size_t kMost = 4;
        if (options.settings.max_memory == 0)
            at_a_time_ = static_cast<int>(std::min({photos, size_t(threads), kMost}));
    }
    int at_a_time() const { return at_a_time_; }

    struct Times {  // milliseconds
        double decode = 0, encode = 0, total = 0;
    };
    // Nothing: the photo is in colour, and such are to be skipped.
    std::optional<Colorization> color_file(const PhotoPath& photo, const Target& target,
                                           Json& record, Times& times) {
        // A large photo has the memory for itself.
        std::shared_lock among_others(alone_, std::defer_lock);
        std::unique_lock by_itself(alone_, std::defer_lock);
        std::error_code ignored;
        const bool large =
            at_a_time_ == 1 || photo.path == "-" || fs::file_size(photo.path, ignored) > kLargeFile;
        if (large)
            by_itself.lock();
        else
            among_others.lock();
        check_not_stopped();

        const Clock::time_point start = Clock::now();
        Image image = read_image(photo.path, {.max_pixels = options_.max_pixels});
        if (options_.strip_metadata) image.metadata = {};
        times.decode = milliseconds_since(start);
        record.set("width", image.width);
        record.set("height", image.height);
        const Tone tone = tone_of(image);
        record.set("tone", name(tone));
        if (tone == Tone::color && options_.if_color == "error")
            throw InputError(photo.path + ": is in colour already (--if-color recolor takes it)");
        if (tone == Tone::color && options_.if_color == "skip") return {};
        check_fits(image, target, photo.path);
        const bool row_by_row = large || image.bytes.size() > kLargeImage;
        Colorization result = write_colored(image, target, row_by_row, times.encode);
        times.total = milliseconds_since(start);
        return result;
    }

  private:
    static constexpr uintmax_t kLargeFile = 8 << 20;
    static constexpr size_t kLargeImage = 64 << 20;  // bytes; its result is not kept as well
    static constexpr int64_t kEncodedRows = 64;      // at a time

    // Into a file that appears once it is whole; standard output gets it at the end, so that an
    // error in between leaves nothing there either.
    Colorization write_colored(const Image& photo, const Target& target, bool row_by_row,
                               double& encode_milliseconds) {
        std::optional<AtomicFile> file;
        std::vector<uint8_t> piped;
        if (target.path != "-") file.emplace(target.path, options_.overwrite);
        const auto encoder = make_encoder(
            merged(photo), target.format, options_.quality, [&](std::span<const uint8_t> bytes) {
                if (file)
                    file->write(bytes);
                else
                    piped.insert(piped.end(), bytes.begin(), bytes.end());
            });
        const auto encode = [&](const uint8_t* rows, int64_t count) {
            check_not_stopped();
            const Clock::time_point start = Clock::now();
            encoder->write(rows, count);
            encode_milliseconds += milliseconds_since(start);
        };
        Colorization result;
        if (row_by_row) {
            const std::lock_guard lock(network_);
            result = colorizer_.colorize(photo, settings_, encode);
        } else {
            Colorized colored = [&] {
                const std::lock_guard lock(network_);
                return colorizer_.colorize(photo, settings_);
            }();
            const Image& image = colored.image;
            for (int64_t row = 0; row < image.height; row += kEncodedRows)
                encode(image.bytes.data() + row * image.row_bytes(),
                       std::min(kEncodedRows, image.height - row));
            result = std::move(colored);
        }
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

    Colorizer& colorizer_;
    const ColorizeOptions& options_;
    const ColorizeSettings& settings_;  // with the styles
    int at_a_time_ = 1;
    std::mutex network_;       // one photo at a time
    std::shared_mutex alone_;  // held by all; by a large photo alone
};

int run_colorize(const ColorizeOptions& options, Console& console) {
    const Exec exec = exec_for(options, console);
    std::vector<PhotoPath> photos = find_photos(options.inputs, options.recursive);
    std::vector<Target> targets = plan_targets(photos, options, console);
    const std::string weights = options.weights.empty() ? default_model_path() : options.weights;
    Colorizer colorizer(weights, exec);
    console.detail("weights: " + weights);
    ColorizeSettings settings = options.settings;
    set_styles(settings, options, colorizer, options.max_pixels);

    stop_on_signals();
    Json::Array images;
    Batch batch(colorizer, options, settings, photos.size(), exec.threads);
    const int code =
        for_each_photo(photos, batch.at_a_time(), console, images, [&](size_t i, Json& record) {
            check_not_stopped();
            const Target& target = targets[i];
            record.set("output", target.path);
            if (options.skip_existing && target.path != "-" && exists(target.path)) {
                record.set("skipped", true);
                return console.note(target.path + ": exists already, skipped");
            }
            check_target(target, options);
            Batch::Times times;
            std::optional<Colorization> colored;
            try {
                colored = batch.color_file(photos[i], target, record, times);
            } catch (const ModelError& error) {  // the colorizer does not know its file
                throw ModelError(weights + ": " + error.what());
            }
            if (!colored) {
                record.set("skipped", true);
                return console.note(photos[i].path + ": is in colour already, skipped");
            }
            const Colorization& result = *colored;
            record.set("network_width", result.network_width);
            record.set("network_height", result.network_height);
            record.set("scene", scene_json(result.scene, kScenesShown));
            record.set("milliseconds", Json::Object{{"decode", times.decode},
                                                    {"network", result.network_milliseconds},
                                                    {"encode", times.encode},
                                                    {"total", times.total}});
            std::string line = photos[i].path + " -> " + target.path +
                               format(" (%ldx%ld, %.2f s", record.at("width").integer(),
                                      record.at("height").integer(), times.total / 1000);
            if (!result.scene.empty())
                line += format(", %s %.0f %%", result.scene[0].label.c_str(),
                               100 * result.scene[0].probability);
            console.note(line + ")");
        });

    Json summary;
    summary.set("images", std::move(images));
    summary.set("device", exec.device.str());
    summary.set("precision", precision_name(exec));
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
    add_precision_option(command, options);
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
    add_style_options(command, options);
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
    command.add("--if-color", options.if_color, "What to do with a photo that has colours")
        .one_of({"recolor", "skip", "error"});
    command.add("--strip-metadata", options.strip_metadata,
                "Leave out Exif, XMP, IPTC and comments; else they are kept");
    command.add("--overwrite", options.overwrite, "Replace existing outputs");
    command.add("--skip-existing", options.skip_existing, "Pass over photos that have an output")
        .excludes({"--overwrite"});
    return command;
}

}  // namespace lumachrome
