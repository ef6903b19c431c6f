#include "train/evaluate.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "apps/commands/commands.hpp"
#include "apps/exit_code.hpp"
#include "image/codec.hpp"
#include "model/default_model.hpp"
#include "tensor/error.hpp"
#include "train/sample_sheet.hpp"

namespace lumachrome {
namespace {

struct EvaluateOptions : RunOptions {
    std::vector<std::string> data;
    std::string weights;
    ColorizeSettings settings;
    int64_t limit = 0;  // 0: all
    uint64_t seed = 2;  // of scenes:N; not train's default, whose photos are no test
    std::optional<double> max_rmse_ab;
    std::string samples;  // picture to write; empty: none
    bool overwrite = false;
};

constexpr int64_t kSamples = 24, kSampleColumns = 3, kSampleSide = 128;

// Photos whose scenes the model does not know: their colours can be judged, their labels cannot.
class WithoutLabels : public Dataset {
  public:
    explicit WithoutLabels(std::shared_ptr<const Dataset> data) : data_(std::move(data)) {}
    int64_t size() const override { return data_->size(); }
    Photo read(int64_t index) const override {
        Photo photo = data_->read(index);
        photo.label = -1;
        return photo;
    }
    std::string name(int64_t index) const override { return data_->name(index); }
    int64_t label(int64_t) const override { return -1; }

  private:
    std::shared_ptr<const Dataset> data_;
};

std::shared_ptr<const Dataset> open_for(const Spec& spec, const EvaluateOptions& options,
                                        Console& console) {
    auto data = open_dataset(options.data, options.seed);
    const auto& known = spec.class_names;
    const bool all_known =
        std::all_of(data->classes().begin(), data->classes().end(), [&](const std::string& name) {
            return std::find(known.begin(), known.end(), name) != known.end();
        });
    if (data->classes().empty()) return data;
    if (all_known) return open_dataset(options.data, options.seed, known);
    console.note("the model was trained on other scenes: top1 and top5 are left out");
    return std::make_shared<WithoutLabels>(std::move(data));
}

void set_quality(Json& json, const ColorQuality& quality) {
    json.set("psnr_rgb", quality.psnr_rgb);
    json.set("rmse_ab", quality.rmse_ab);
    json.set("delta_e2000_mean", quality.delta_e2000_mean);
    json.set("colorfulness", quality.colorfulness);
    json.set("near_gray_fraction", quality.near_gray_fraction);
}

std::string percent(double share) {
    return std::isnan(share) ? "-" : format("%.1f %%", 100 * share);
}

int run_evaluate(const EvaluateOptions& options, Console& console) {
    const Exec exec = exec_for(options, console);
    const std::string weights = options.weights.empty() ? default_model_path() : options.weights;
    Colorizer colorizer(weights, exec);
    const auto data = open_for(colorizer.spec(), options, console);
    if (!options.samples.empty()) {
        format_of_path(options.samples);  // before the work, not after it
        if (!options.overwrite && std::filesystem::exists(options.samples))
            throw UsageError(options.samples + ": exists already; --overwrite replaces it");
    }
    const Evaluation result = evaluate(
        colorizer, *data, options.limit, options.settings, [&](int64_t done, int64_t total) {
            console.progress(double(done) / double(total),
                             format("%ld/%ld photos", long{done}, long{total}));
        });

    if (!options.samples.empty()) {
        const Image sheet = sample_sheet(colorizer, *data, options.limit, kSamples, kSampleColumns,
                                         kSampleSide, options.settings);
        write_image(options.samples, sheet, options.overwrite);
    }

    Json json;
    json.set("images", result.images);
    set_quality(json, result);
    json.set("colorfulness_truth", result.colorfulness_truth);
    json.set("top1", result.top1);
    json.set("top5", result.top5);
    Json baseline;
    set_quality(baseline, result.gray_baseline);
    json.set("gray_baseline", std::move(baseline));
    json.set("weights", weights);
    json.set("device", exec.device.str());
    console.result(json);

    const ColorQuality& gray = result.gray_baseline;
    console.print(format("%ld photos              coloured      gray", long{result.images}));
    const auto row = [&](const char* name, double ours, double theirs) {
        console.print(format("  %-20s %9.3f %9.3f", name, ours, theirs));
    };
    row("psnr_rgb (dB)", result.psnr_rgb, gray.psnr_rgb);
    row("rmse_ab", result.rmse_ab, gray.rmse_ab);
    row("delta_e2000_mean", result.delta_e2000_mean, gray.delta_e2000_mean);
    row("colorfulness", result.colorfulness, gray.colorfulness);
    row("near_gray_fraction", result.near_gray_fraction, gray.near_gray_fraction);
    console.print(format("  colorfulness of the truth %.3f, scene top1 %s, top5 %s",
                         result.colorfulness_truth, percent(result.top1).c_str(),
                         percent(result.top5).c_str()));
    if (options.max_rmse_ab && !(result.rmse_ab <= *options.max_rmse_ab)) {
        console.error(
            format("rmse_ab %.3f exceeds --max-rmse-ab %g", result.rmse_ab, *options.max_rmse_ab));
        return kCheckFailed;
    }
    return kOk;
}

}  // namespace

Command evaluate_command() {
    Command command({
        .name = "evaluate",
        .summary = "measure a model on held-out photos",
        .description = "Measures a model on held-out colour photos, by a fixed protocol.",
        .examples =
            "  lumachrome evaluate val.tar\n"
            "  lumachrome evaluate photos/ --weights run/model.safetensors --limit 100 --json\n"
            "  lumachrome evaluate val.tar --samples sheet.png     a picture: gray, ours, truth",
    });
    EvaluateOptions& options = command.runs(run_evaluate);
    add_run_options(command, options);
    command.add("DATA", options.data, "As for train").required();
    add_weights_option(command, options.weights);
    add_size_option(command, options.settings);
    add_path_option(command, options.settings.naive);
    command.add("--limit", options.limit, "Only the first N photos; 0: all").at_least(0);
    command.add("--seed", options.seed, "Of scenes:N");
    command.add("--samples", options.samples,
                "Also write a picture of 24 photos: gray, ours, truth");
    command.add("--overwrite", options.overwrite, "Replace the picture if it exists");
    command.add("--max-rmse-ab", options.max_rmse_ab, "Exit with 6 when the error is larger")
        .at_least(0);
    return command;
}

}  // namespace lumachrome
