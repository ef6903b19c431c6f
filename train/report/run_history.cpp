#include "train/report/run_history.hpp"

#include <cmath>
#include <filesystem>
#include <string_view>

#include "tensor/error.hpp"
#include "tensor/file.hpp"
#include "tensor/json.hpp"
#include "train/run_log.hpp"

namespace lumachrome {
namespace {

constexpr int64_t kMostBytes = int64_t{256} << 20;
constexpr size_t kMostLines = 4'000'000;  // short lines take more memory here than in the file
constexpr size_t kMostRows = 4096;        // classes, layers

// NaN when absent or null; null is what a log writes for NaN.
double figure(const Json& line, const char* key) {
    const Json* value = line.find(key);
    return value && value->dump() != "null" ? value->number() : RunHistory::kNone;
}

RunHistory::Training training_line(const Json& line) {
    RunHistory::Training t;
    t.step = line.at("step").integer();
    t.epoch = figure(line, "epoch");
    t.seconds = figure(line, "seconds");
    t.color_loss = figure(line, "color_loss");
    t.class_loss = figure(line, "class_loss");
    t.top1 = figure(line, "top1");
    t.learning_rate = figure(line, "learning_rate");
    t.gradient_norm = figure(line, "gradient_norm");
    t.images_per_second = figure(line, "images_per_second");
    return t;
}

RunHistory::Validation validation_line(const Json& line, const Json& figures) {
    RunHistory::Validation v;
    v.step = line.at("step").integer();
    v.final = line.find("final") != nullptr;
    v.epoch = figure(line, "epoch");
    v.seconds = figure(line, "seconds");
    v.images = figure(figures, "images");
    v.color_loss = figure(figures, "color_loss");
    v.class_loss = figure(figures, "class_loss");
    v.top1 = figure(figures, "top1");
    v.rmse_ab = figure(figures, "rmse_ab");
    v.gray_rmse_ab = figure(figures, "gray_rmse_ab");
    v.psnr_rgb = figure(figures, "psnr_rgb");
    v.delta_e2000_mean = figure(figures, "delta_e2000_mean");
    v.near_gray_fraction = figure(figures, "near_gray_fraction");
    v.colorfulness = figure(figures, "colorfulness");
    v.colorfulness_truth = figure(figures, "colorfulness_truth");
    return v;
}

// The entries of an array of objects; none when it is absent.
template <class Row, class Read>
std::vector<Row> rows(const Json& owner, const char* key, Read read) {
    std::vector<Row> result;
    const Json* list = owner.find(key);
    if (!list || !list->is_array()) return result;
    for (const Json& entry : list->array()) {
        if (result.size() == kMostRows) break;
        result.push_back(read(entry));
    }
    return result;
}

void add_line(RunHistory& log, std::string_view text) {
    const Json line = Json::parse(text);
    const Json* figures = line.find("validation");
    if (!figures) {
        log.training.push_back(training_line(line));
        return;
    }
    log.validation.push_back(validation_line(line, *figures));
    log.classes = rows<RunHistory::Class>(*figures, "classes", [](const Json& entry) {
        return RunHistory::Class{entry.at("label").string(), figure(entry, "images"),
                                 figure(entry, "top1")};
    });
    log.layers = rows<RunHistory::Layer>(line, "layers", [](const Json& entry) {
        return RunHistory::Layer{entry.at("name").string(),       figure(entry, "activation_mean"),
                                 figure(entry, "activation_std"), figure(entry, "activation_zero"),
                                 figure(entry, "weight_rms"),     figure(entry, "gradient_rms")};
    });
}

}  // namespace

RunHistory::Position RunHistory::position() const {
    Position at;
    const auto see = [&](const auto& line) {
        if (double(line.step) >= at.step) at = {double(line.step), line.epoch, line.seconds};
    };
    if (!training.empty()) see(training.back());
    if (!validation.empty()) see(validation.back());
    return at;
}

const RunHistory::Validation* RunHistory::best() const {
    const Validation* best = nullptr;
    for (const Validation& v : validation) {
        if (!std::isfinite(v.color_loss)) continue;
        if (!best || (best->final && !v.final) ||
            (best->final == v.final && v.color_loss < best->color_loss))
            best = &v;
    }
    return best;
}

RunHistory read_run_history(const std::string& run) {
    const std::string path = metrics_path(run);
    std::error_code error;
    if (!std::filesystem::exists(path, error))
        throw InputError(run + ": holds no metrics.jsonl; name the folder of a training run");
    const std::vector<uint8_t> bytes = read_file(path, kMostBytes);
    std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    RunHistory log;
    for (size_t number = 1; !text.empty(); ++number) {
        const size_t end = text.find('\n');
        if (end == std::string_view::npos) break;  // cut off
        if (number > kMostLines)
            throw InputError(path + ": more than " + std::to_string(kMostLines) + " lines");
        try {
            add_line(log, text.substr(0, end));
        } catch (const InputError& e) {
            throw InputError(path + ": line " + std::to_string(number) + ": " + e.what());
        }
        text.remove_prefix(end + 1);
    }
    return log;
}

}  // namespace lumachrome
