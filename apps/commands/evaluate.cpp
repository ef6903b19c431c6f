#include "train/evaluate.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "apps/commands/commands.hpp"
#include "apps/commands/targets.hpp"
#include "apps/exit_code.hpp"
#include "image/codec.hpp"
#include "model/default_model.hpp"
#include "tensor/error.hpp"
#include "tensor/file.hpp"
#include "train/sample_sheet.hpp"

namespace lumachrome {
namespace {

struct EvaluateOptions : RunOptions {
    std::vector<std::string> data;
    std::string weights;
    std::vector<std::string> compare;  // two checkpoints instead of `weights`; empty: none
    ColorizeSettings settings;
    int64_t limit = 0;  // 0: all
    // Of scenes:N: photos that no training with a small seed has seen, or validated on.
    uint64_t seed = 1'000'003;
    std::optional<double> max_rmse_ab;
    bool classes = false;  // print every scene, not only the best and worst
    std::string samples;   // picture to write; empty: none
    bool overwrite = false;
};

constexpr int64_t kSamples = 24, kSampleRows = 8, kSampleSide = 128;
constexpr size_t kExtremes = 3;  // scenes shown from either end without --classes

// Columns of the text tables.
std::string number(const std::string& figure, double value) {
    if (std::isnan(value)) return "-";
    return figure == "top1" || figure == "top5" ? format("%.1f %%", 100 * value)
                                                : format("%.3f", value);
}

std::string range(const std::string& figure, const Interval& interval) {
    if (std::isnan(interval.low)) return "-";
    return "[" + number(figure, interval.low) + ", " + number(figure, interval.high) + "]";
}

std::string share(double value) {
    return std::isnan(value) ? "-" : format("%.1f %%", 100 * value);
}

Json json_of(const Interval& interval) {
    return Json::Array{interval.low, interval.high};
}

void set_figures(Json& json, const std::vector<Estimate>& figures) {
    Json intervals;
    for (const Estimate& estimate : figures) {
        json.set(estimate.figure, estimate.value);
        intervals.set(estimate.figure, json_of(estimate.interval));
    }
    json.set("intervals", std::move(intervals));
}

void set_group(Json& json, const GroupQuality& group) {
    json.set("images", group.images);
    set_figures(json, group.figures);
    Json baseline;
    set_figures(baseline, group.gray_figures);
    json.set("gray_baseline", std::move(baseline));
}

Json json_of(const Evaluation& result, const std::string& weights) {
    Json json;
    set_group(json, result);
    Json::Array classes;
    for (const ClassQuality& scene : result.classes) {
        Json one;
        one.set("label", scene.label);
        set_group(one, scene);
        classes.push_back(std::move(one));
    }
    json.set("classes", std::move(classes));
    json.set("weights", weights);
    return json;
}

Json json_of(const std::vector<Difference>& differences) {
    Json json;
    for (const Difference& difference : differences) {
        Json one;
        one.set("mean", difference.mean);
        one.set("interval", json_of(difference.interval));
        one.set("better", difference.better == Better::a   ? "a"
                          : difference.better == Better::b ? "b"
                                                           : "neither");
        json.set(difference.figure, std::move(one));
    }
    return json;
}

void print_figures(const Evaluation& result, Console& console) {
    console.print(format("%-23s %9s %9s   %s", format("%ld photos", long{result.images}).c_str(),
                         "gray", "coloured", "95 % interval"));
    for (const Estimate& estimate : result.figures) {
        const std::string& figure = estimate.figure;
        const auto gray =
            std::find_if(result.gray_figures.begin(), result.gray_figures.end(),
                         [&](const Estimate& other) { return other.figure == figure; });
        const bool none = gray == result.gray_figures.end();
        console.print(format(
            "  %-21s %9s %9s   %s", figure.c_str(), none ? "" : number(figure, gray->value).c_str(),
            number(figure, estimate.value).c_str(), range(figure, estimate.interval).c_str()));
    }
}

// Scenes by their share of gray's error, the best first.
void print_classes(const Evaluation& result, bool all, Console& console) {
    if (result.classes.empty()) return;
    std::vector<const ClassQuality*> scenes;
    for (const ClassQuality& scene : result.classes) scenes.push_back(&scene);
    // A scene of gray photos has no share, and comes last.
    const auto key = [](const ClassQuality* scene) {
        return std::isnan(scene->rmse_ab_share) ? INFINITY : scene->rmse_ab_share;
    };
    std::stable_sort(scenes.begin(), scenes.end(),
                     [&](const auto* x, const auto* y) { return key(x) < key(y); });
    console.print(format("%-23s %6s %8s %9s %-16s %9s %9s %8s %8s", "scene", "photos", "rmse_ab",
                         "of gray's", "", "colorful", "of truth", "top1", "top5"));
    for (size_t i = 0; i < scenes.size(); ++i) {
        if (!all && scenes.size() > 2 * kExtremes && i == kExtremes) {
            const size_t hidden = scenes.size() - 2 * kExtremes;
            console.print(format("  ... %zu more with --classes", hidden));
            i += hidden;
        }
        const ClassQuality& scene = *scenes[i];
        const auto interval =
            std::find_if(scene.figures.begin(), scene.figures.end(), [](const Estimate& e) {
                return e.figure == "rmse_ab_share";
            })->interval;
        const std::string between =
            std::isnan(interval.low)
                ? "-"
                : format("[%.0f %%, %.0f %%]", 100 * interval.low, 100 * interval.high);
        console.print(format("  %-21s %6ld %8.3f %9s %-16s %9.3f %9s %8s %8s", scene.label.c_str(),
                             long{scene.images}, scene.rmse_ab, share(scene.rmse_ab_share).c_str(),
                             between.c_str(), scene.colorfulness,
                             share(scene.colorfulness_share).c_str(), share(scene.top1).c_str(),
                             share(scene.top5).c_str()));
    }
}

void print_comparison(const Evaluation& a, const Evaluation& b,
                      const std::vector<Difference>& differences, Console& console) {
    console.print(format("%-23s %9s %9s %10s   %s", format("%ld photos", long{a.images}).c_str(),
                         "a", "b", "b - a", "95 % interval"));
    for (const Difference& difference : differences) {
        const std::string& figure = difference.figure;
        const auto value = [&](const Evaluation& of) {
            return number(figure,
                          std::find_if(of.figures.begin(), of.figures.end(), [&](const auto& e) {
                              return e.figure == figure;
                          })->value);
        };
        const char* verdict = difference.better == Better::a   ? "a is better"
                              : difference.better == Better::b ? "b is better"
                                                               : "neither";
        console.print(format("  %-21s %9s %9s %10s   %-20s %s", figure.c_str(), value(a).c_str(),
                             value(b).c_str(), number(figure, difference.mean).c_str(),
                             range(figure, difference.interval).c_str(), verdict));
    }
}

std::vector<int64_t> measured(const Evaluation& result) {
    std::vector<int64_t> indices;
    for (const PhotoQuality& photo : result.photos) indices.push_back(photo.index);
    return indices;
}

void write_samples(const EvaluateOptions& options, std::vector<Colorizer>& models,
                   const Dataset& data) {
    std::vector<Colorizer*> shown;
    for (Colorizer& model : models) shown.push_back(&model);
    const Image sheet = sample_sheet(shown, data, 0, kSamples, kSamples / kSampleRows, kSampleSide,
                                     options.settings);
    write_image(options.samples, sheet, options.overwrite);
}

int run_evaluate(const EvaluateOptions& options, Console& console) {
    const bool comparing = !options.compare.empty();
    if (comparing && options.compare.size() != 2)
        throw UsageError("--compare needs two checkpoints, A and B");
    if (comparing && (!options.weights.empty() || options.max_rmse_ab))
        throw UsageError("--compare takes its checkpoints itself and only measures: leave out " +
                         std::string(options.max_rmse_ab ? "--max-rmse-ab" : "--weights"));
    check_settings(options.settings);
    if (!options.samples.empty()) {
        format_of_path(options.samples);  // before the work, not after it
        check_overwrite(options.samples, options.overwrite);
        check_folder(options.samples);
    }
    const Exec exec = exec_for(options, console);
    const std::vector<std::string> weights = comparing ? options.compare
                                             : options.weights.empty()
                                                 ? std::vector<std::string>{default_model_path()}
                                                 : std::vector<std::string>{options.weights};
    std::vector<Colorizer> models;
    for (const std::string& file : weights) models.emplace_back(file, exec);
    auto data = open_dataset(options.data, options.seed);
    int64_t limit = options.limit;

    std::vector<Evaluation> results;
    for (size_t m = 0; m < models.size(); ++m) {
        const std::string who = comparing ? (m == 0 ? "a: " : "b: ") : "";
        if (!judges_scenes(models[m].spec(), *data))
            console.note(who + "the model was trained on other scenes: top1 and top5 are left out");
        results.push_back(
            evaluate(models[m], *data, limit, options.settings, [&](int64_t done, int64_t total) {
                console.progress((double(m) + double(done) / double(total)) / double(models.size()),
                                 who + format("%ld/%ld photos", long{done}, long{total}));
            }));
        if (m > 0) continue;
        // From here on, the other model and the picture, the photos that could be measured.
        for (const std::string& reason : results[0].skipped) console.error(reason + ", skipped");
        data = subset(data, measured(results[0]));
        limit = 0;
    }
    console.clear_progress();
    const auto skipped = static_cast<int64_t>(results[0].skipped.size());

    int code = skipped > 0 ? kSomeFailed : kOk;
    if (comparing) {
        const auto differences = paired_differences(results[0], results[1], exec);
        Json json;
        json.set("a", json_of(results[0], weights[0]));
        json.set("b", json_of(results[1], weights[1]));
        json.set("difference", json_of(differences));
        json.set("skipped", skipped);
        json.set("device", exec.device.str());
        console.result(json);
        console.print("a: " + weights[0] + "\nb: " + weights[1]);
        print_comparison(results[0], results[1], differences, console);
        if (options.classes)
            for (size_t m = 0; m < results.size(); ++m) {
                console.print(m == 0 ? "\na" : "\nb");
                print_classes(results[m], true, console);
            }
    } else {
        const Evaluation& result = results.front();
        Json json = json_of(result, weights.front());
        json.set("skipped", skipped);
        json.set("device", exec.device.str());
        json.set("precision", precision_name(exec));
        console.result(json);
        print_figures(result, console);
        print_classes(result, options.classes, console);
        if (options.max_rmse_ab && !(result.rmse_ab <= *options.max_rmse_ab)) {
            console.error(format("rmse_ab %.3f exceeds --max-rmse-ab %g", result.rmse_ab,
                                 *options.max_rmse_ab));
            code = kCheckFailed;
        }
    }
    // Last: should the disk be full, the figures are out.
    if (!options.samples.empty()) write_samples(options, models, *data);
    return code;
}

}  // namespace

Command evaluate_command() {
    Command command({
        .name = "evaluate",
        .summary = "measure a model on held-out photos",
        .description = "Measures a model on held-out colour photos, by a fixed protocol. Photos "
                       "that are gray or\ncannot be read are named and left out; the exit code is "
                       "then 5.",
        .examples =
            "  lumachrome evaluate val.tar\n"
            "  lumachrome evaluate photos/ --weights run/model.safetensors --limit 100 --json\n"
            "  lumachrome evaluate val.tar --samples sheet.png     a picture: gray, ours, truth\n"
            "  lumachrome evaluate val.tar --compare old.safetensors new.safetensors",
    });
    EvaluateOptions& options = command.runs(run_evaluate);
    add_run_options(command, options);
    add_precision_option(command, options);
    command.add("DATA", options.data, "As for train").required();
    add_weights_option(command, options.weights);
    command.add("--compare", options.compare, "Two checkpoints: which is better, and is that sure?")
        .takes(2)
        .shown_as("A B")
        .excludes({"--weights", "--max-rmse-ab"});
    command.add("--classes", options.classes, "Print every scene, not only the best and the worst");
    add_size_option(command, options.settings);
    add_chroma_options(command, options.settings);
    add_path_option(command, options.settings.naive);
    command.add("--limit", options.limit, "Only the first N photos; 0: all").at_least(0);
    command.add("--seed", options.seed, "Of scenes:N");
    command.add("--samples", options.samples,
                "Also write a picture of 24 photos: gray, ours (A, B), truth");
    command.add("--overwrite", options.overwrite, "Replace the picture if it exists");
    command.add("--max-rmse-ab", options.max_rmse_ab, "Exit with 6 when the error is larger")
        .at_least(0);
    return command;
}

}  // namespace lumachrome
