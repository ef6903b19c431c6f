#include "apps/commands/commands.hpp"
#include "apps/commands/photos.hpp"
#include "apps/commands/targets.hpp"
#include "apps/exit_code.hpp"
#include "image/codec.hpp"
#include "model/default_model.hpp"
#include "tensor/error.hpp"
#include "tensor/file.hpp"

namespace lumachrome {
namespace {

struct StyleCommandOptions : PhotoOptions {
    std::string output;
    bool overwrite = false;
};

int run_style(const StyleCommandOptions& options, Console& console) {
    check_overwrite(options.output, options.overwrite);  // before the work, not after it
    const Exec exec = exec_for(options, console);
    const std::vector<PhotoPath> photos = find_photos(options.inputs, options.recursive, console);
    std::vector<std::string> sources;
    for (const PhotoPath& photo : photos) sources.push_back(photo.path);
    check_sources(sources, {options.output});
    const std::string weights = options.weights.empty() ? default_model_path() : options.weights;
    Colorizer colorizer(weights, exec);
    if (!colorizer.has_styles())
        throw ModelError(weights + ": this model has no global branch, so it knows no styles");

    std::vector<Style> styles;
    Json::Array images;
    const Tally tally = for_each_photo(photos, 1, console, images, [&](size_t i, Json& record) {
        const Image photo = read_image(photos[i].path, {.max_pixels = options.max_pixels}, exec);
        set_warnings(record, photo);
        const GlobalView view = colorizer.global_view(photo);
        record.set("scene", scene_json(view.scene, 1));
        styles.push_back({view.style, 1.0 / double(photos.size())});
        return Outcome::done;
    });
    Json summary;
    if (tally.code == kOk) {
        const Tensor mean = mix(Tensor::zeros(styles[0].features.shape()), styles);
        write_style(options.output, mean, colorizer.weights_sha256(), options.overwrite);
        console.note(counted(static_cast<int64_t>(photos.size()), "photo") + " -> " +
                     options.output);
        summary.set("style", options.output);
    }
    summary.set("images", std::move(images));
    console.result(summary);
    return tally.code;
}

}  // namespace

Command style_command() {
    Command command({
        .name = "style",
        .summary = "the mood of photos, as a small file",
        .description = "Keeps the global features of photos, their mean if there are several, for "
                       "colorize --style.",
        .examples = "  lumachrome style beach1.jpg beach2.jpg -o beach.style",
    });
    StyleCommandOptions& options = command.runs(run_style);
    add_run_options(command, options);
    add_precision_option(command, options);
    add_photo_options(command, options);
    command.add("-o,--output", options.output, "The file").required();
    command.add("--overwrite", options.overwrite, "Replace an existing file");
    return command;
}

}  // namespace lumachrome
