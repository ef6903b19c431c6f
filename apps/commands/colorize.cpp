#include <algorithm>
#include <charconv>
#include <future>
#include <optional>

#include "apps/commands/batch.hpp"
#include "apps/commands/colorize.hpp"
#include "apps/commands/manifest.hpp"
#include "apps/exit_code.hpp"
#include "apps/stop.hpp"
#include "model/default_model.hpp"
#include "tensor/error.hpp"
#include "tensor/file.hpp"
#include "tensor/sha256.hpp"

namespace lumachrome {
namespace {

constexpr int64_t kScenesShown = 5;

// What a record says of a photo that was coloured, and the line for people.
std::string describe(const Colorization& result, const PhotoBatch::Times& times, Json& record) {
    record.set("network_width", result.network_width);
    record.set("network_height", result.network_height);
    record.set("scene", scene_json(result.scene, kScenesShown));
    record.set("milliseconds", Json::Object{{"decode", times.decode},
                                            {"network", result.network_milliseconds},
                                            {"encode", times.encode},
                                            {"total", times.total}});
    std::string line = record.at("input").string() + " -> " + record.at("output").string() +
                       format(" (%ldx%ld, %.2f s", record.at("width").integer(),
                              record.at("height").integer(), times.total / 1000);
    if (!result.scene.empty())
        line += format(", %s %.0f %%", result.scene[0].label.c_str(),
                       100 * result.scene[0].probability);
    return line + ")";
}

// Photos on their way to their targets, with what the folder of results remembers.
class Album {
  public:
    Album(const ColorizeOptions& options, const std::string& weights,
          std::shared_future<std::string> weights_sha256, Console& console)
        : options_(options),
          weights_(weights),
          weights_sha256_(std::move(weights_sha256)),
          console_(console),
          photos_(find_photos(options.inputs, options.recursive, console)),
          targets_(plan_targets(photos_, options, console)),
          existing_(photos_.size(), "") {
        clear_abandoned(targets_);
        if (targets_.in_folder) look_for_done();
    }

    Tally color(Colorizer& colorizer, const ColorizeSettings& settings, Json::Array& records) {
        PhotoBatch batch(colorizer, options_, settings, weights_sha256_,
                         size_t(std::count_if(existing_.begin(), existing_.end(),
                                              [](const auto& e) { return !!e; })));
        Tally tally =
            for_each_photo(photos_, batch.at_a_time(), console_, records,
                           [&](size_t i, Json& record) { return color(batch, i, record); });
        if (photos_.size() > 1) console_.note(summary_of(tally, "coloured"));
        return tally;
    }

  private:
    void look_for_done() {
        manifest_.emplace(options_.output, *options_.decided, weights_sha256_.get());
        int64_t done = 0;
        for (size_t i = 0; i < photos_.size(); ++i) {
            const std::string& output = targets_.of_photos[i].path;
            if (is_there(output)) existing_[i] = manifest_->difference(photos_[i], output);
            if (existing_[i]) continue;
            photos_[i].cost = 0;
            ++done;
        }
        if (done > 0)
            console_.note(format("%ld of ", done) +
                          counted(static_cast<int64_t>(photos_.size()), "photo") + " done already");
    }

    // Why not, if there is a reason; people are told of all but the first one by one.
    std::string reason_to_skip(size_t i) const {
        const std::string& output = targets_.of_photos[i].path;
        if (!existing_[i]) return "done already";
        if (options_.skip_existing && output != "-" && is_there(output)) return "exists already";
        return "";
    }

    Outcome color(PhotoBatch& batch, size_t i, Json& record) {
        const PhotoPath& photo = photos_[i];
        const Target& target = targets_.of_photos[i];
        record.set("output", target.path);
        const auto skip = [&](const std::string& path, const std::string& reason) {
            record.set("skipped", true);
            record.set("reason", reason);
            if (existing_[i]) console_.note(path + ": " + reason + ", skipped");
            return Outcome::skipped;
        };
        const std::string reason = reason_to_skip(i);
        if (!reason.empty()) return skip(target.path, reason);
        check_target(target, options_, *existing_[i]);

        const std::optional<FileStamp> stamp = stamp_of(photo.path);
        const auto remember = [&](int64_t written) {
            if (manifest_ && stamp) manifest_->add(photo, *stamp, target.path, written);
        };
        PhotoBatch::Times times;
        std::optional<Colorization> result;
        try {
            result = batch.color_file(photo, target, record, times, remember);
        } catch (const ModelError& error) {  // the colorizer does not know its file
            throw ModelError(weights_ + ": " + error.what());
        }
        if (!result) return skip(photo.path, "is in colour already");
        console_.note(describe(*result, times, record));
        return Outcome::done;
    }

    const ColorizeOptions& options_;
    const std::string& weights_;
    std::shared_future<std::string> weights_sha256_;
    Console& console_;
    std::vector<PhotoPath> photos_;
    Targets targets_;
    std::optional<Manifest> manifest_;
    // By photo: how an output that is there differs from what would be made; nothing: not at all.
    std::vector<std::optional<std::string>> existing_;
};

int run_colorize(const ColorizeOptions& options, Console& console) {
    check_settings(options.settings);
    const Exec exec = exec_for(options, console);
    const std::string weights = options.weights.empty() ? default_model_path() : options.weights;
    // Takes as long as decoding a photo or two.
    const std::shared_future<std::string> weights_sha256 =
        std::async(std::launch::async, [weights] { return sha256(read_file(weights)); });
    Colorizer colorizer(weights, exec);
    if (!options.styles.empty() && !colorizer.has_styles())
        throw ModelError(weights + ": this model has no global branch, so it knows no styles");
    if (options.settings.max_memory > 0 && exec.device.kind == Device::cuda)
        console.note("--max-memory: limits what the network takes on a CPU, and has no effect on " +
                     exec.device.str());
    Album album(options, weights, weights_sha256, console);
    console.detail("weights: " + weights);
    ColorizeSettings settings = options.settings;
    set_styles(settings, options, colorizer, options.max_pixels);

    stop_on_signals();
    Json::Array images;
    const Tally tally = album.color(colorizer, settings, images);
    Json summary;
    summary.set("images", std::move(images));
    summary.set("done", tally.done);
    summary.set("skipped", tally.skipped);
    summary.set("failed", static_cast<int64_t>(tally.failed.size()));
    summary.set("seconds", tally.seconds);
    summary.set("device", exec.device.str());
    summary.set("precision", precision_name(exec));
    summary.set("threads", exec.threads);
    summary.set("weights", weights);
    summary.set("peak_rss_mib", peak_rss_mib());
    console.result(summary);
    return stop_requested() ? kStoppedEarly : tally.code;
}

}  // namespace

Command colorize_command() {
    Command command({
        .name = "colorize",
        .summary = "photos in, colour photos out",
        .description =
            "Colours photos; the photo's own luminance is kept at full resolution.\n\n"
            "A folder named by -o remembers how its results were made, in\n" +
            std::string(Manifest::kName) +
            ". The same command again passes over what is done\n"
            "and finishes the rest. What was made from another version of a photo, with other\n"
            "options or another model stays, and is named, unless --overwrite makes it anew.",
        .examples = "  lumachrome colorize grandma.jpg                     writes "
                    "grandma-color.png beside it\n"
                    "  lumachrome colorize grandma.jpg -o colour.jpg       names the output\n"
                    "  lumachrome colorize album/ -r -o coloured/          a folder of photos\n"
                    "  lumachrome colorize - < in.png > out.png            in a pipe",
    });
    ColorizeOptions& options = command.runs(run_colorize);
    options.decided = command.decided;
    add_run_options(command, options);
    add_precision_option(command, options);
    add_photo_options(command, options);
    // Where results go and which are made is not what they hold: same_result(). An option without
    // that word makes results that differ, and the manifest keeps its value.
    command
        .add("-o,--output", options.output, "File, folder/ or - for stdout; else beside the photo")
        .same_result();
    command.add("--format", options.format, "png or jpeg; else by the output's name, or png")
        .one_of({"png", "jpeg"})
        .same_result();
    add_size_option(command, options.settings);
    add_chroma_options(command, options.settings);
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
        .shown_as("MiB")
        .same_result();
    command.add("--if-color", options.if_color, "What to do with a photo that has colours")
        .one_of({"recolor", "skip", "error"})
        .same_result();
    command.add("--strip-metadata", options.strip_metadata,
                "Leave out Exif, XMP, IPTC and comments; else they are kept");
    command.add("--no-mark", options.no_mark,
                "Leave out that the colours are generated, and by which model");
    command
        .add("--overwrite", options.overwrite,
             "Replace existing outputs; not those that would come out the same")
        .same_result();
    command
        .add("--skip-existing", options.skip_existing,
             "Pass over photos that have an output, however it was made")
        .same_result()
        .excludes({"--overwrite"});
    return command;
}

}  // namespace lumachrome
