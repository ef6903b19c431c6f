#include "apps/commands/commands.hpp"
#include "apps/commands/photos.hpp"
#include "image/codec.hpp"
#include "model/default_model.hpp"
#include "tensor/error.hpp"

namespace lumachrome {
namespace {

struct ClassifyOptions : PhotoOptions {
    int64_t top = 5;
};

int run_classify(const ClassifyOptions& options, Console& console) {
    const Exec exec = exec_for(options, console);
    const std::vector<PhotoPath> photos = find_photos(options.inputs, options.recursive, console);
    const std::string weights = options.weights.empty() ? default_model_path() : options.weights;
    Colorizer colorizer(weights, exec);
    if (!colorizer.spec().has_class_head())
        throw ModelError(weights + ": this model has no class head");

    Json::Array images;
    const Tally tally = for_each_photo(photos, 1, console, images, [&](size_t photo, Json& record) {
        const Image image =
            read_image(photos[photo].path, {.max_pixels = options.max_pixels}, exec);
        set_warnings(record, image);
        const auto scores = colorizer.classify(image);
        record.set("scene", scene_json(scores, options.top));
        console.print(photos[photo].path);
        for (size_t i = 0; i < scores.size() && static_cast<int64_t>(i) < options.top; ++i)
            console.print(format("  %5.1f %%  ", 100 * scores[i].probability) + scores[i].label);
        return Outcome::done;
    });
    Json summary;
    summary.set("images", std::move(images));
    summary.set("device", exec.device.str());
    console.result(summary);
    return tally.code;
}

}  // namespace

Command classify_command() {
    Command command({
        .name = "classify",
        .summary = "the scene of photos",
        .description = "Names the scene of photos.",
        .examples = "  lumachrome classify beach.jpg\n"
                    "  lumachrome classify album/ --top 3 --json",
    });
    ClassifyOptions& options = command.runs(run_classify);
    add_run_options(command, options);
    add_precision_option(command, options);
    add_photo_options(command, options);
    command.add("--top", options.top, "Scenes to name").within(1, 1000);
    return command;
}

}  // namespace lumachrome
