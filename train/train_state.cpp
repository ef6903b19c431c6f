#include "train/train_state.hpp"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <vector>

#include "tensor/error.hpp"

namespace lumachrome {
namespace {

// "train_luma_jitter" -> "luma jitter"
std::string setting(std::string key) {
    key.erase(0, key.find('_') + 1);
    std::replace(key.begin(), key.end(), '_', ' ');
    return key;
}

// Every tensor of a state besides the weights, with its name in the file.
void for_each_extra(const TrainState& state,
                    const std::function<void(const std::string&, Tensor&)>& f) {
    for (Optimizer::Slot& slot : state.optimizer.slots()) {
        f("optimizer.first." + slot.name, slot.first);
        if (slot.second.defined()) f("optimizer.second." + slot.name, slot.second);
    }
    if (!state.average) return;
    for (WeightAverage::Entry& entry : state.average->entries())
        f("average." + entry.name, entry.average);
}

// Likewise every number.
void for_each_number(TrainProgress& p, const auto& f) {
    f("step", p.step);
    f("seconds", p.seconds);
    f("window_color_loss", p.window.color_loss);
    f("window_class_loss", p.window.class_loss);
    f("window_gradient_norm", p.window.gradient_norm);
    f("window_steps", p.window.steps);
    f("window_labelled", p.window.labelled);
    f("window_correct", p.window.correct);
    f("best_loss", p.best_loss);
    f("best_step", p.best_step);
    f("validations_since_best", p.validations_since_best);
}

// state-00000500.safetensors
std::string kept_path(const std::string& run, int64_t step) {
    char name[48];
    std::snprintf(name, sizeof name, "/state-%08lld.safetensors", static_cast<long long>(step));
    return run + name;
}

// A file of its own, not a link: whoever goes back copies a kept state over state.safetensors,
// which must not change another. States of later steps belong to what was gone back from: they
// count, but the newest of this course are kept first.
void keep_last(const std::string& run, int64_t step, const TensorFile& state, int64_t keep) {
    namespace fs = std::filesystem;
    std::error_code error;
    const std::string kept = kept_path(run, step);
    write_tensor_file(kept, state, true);
    std::vector<std::string> states;
    for (fs::directory_iterator at(run, error), end; !error && at != end; at.increment(error)) {
        const std::string name = at->path().filename().string();
        if (name.size() == fs::path(kept).filename().string().size() &&
            name.starts_with("state-") && name.ends_with(".safetensors"))
            states.push_back(at->path().string());
    }
    std::sort(states.begin(), states.end());
    std::stable_partition(states.begin(), states.end(),
                          [&](const std::string& path) { return path > kept; });
    for (size_t i = 0; i + static_cast<size_t>(keep) < states.size(); ++i)
        fs::remove(states[i], error);
}

}  // namespace

std::string state_path(const std::string& run) {
    return run + "/state.safetensors";
}
std::string model_path(const std::string& run) {
    return run + "/model.safetensors";
}
std::string best_path(const std::string& run) {
    return run + "/best.safetensors";
}

std::string exact_text(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.17g", value);
    return text;
}

void save_model(const std::string& path, const TrainState& state, const Metadata& extra) {
    const Averaged averaged(state.average);
    write_tensor_file(path, model_file(state.net, extra), true);
}

void save_train_state(const std::string& run, const TrainState& state,
                      const TrainProgress& progress, const Metadata& extra,
                      const Metadata& identity, int64_t keep) {
    TensorFile file = model_file(state.net, extra);
    for (const auto& [key, value] : identity) file.metadata[key] = value;
    TrainProgress numbers = progress;
    for_each_number(numbers, [&](const char* key, auto value) {
        if constexpr (std::is_same_v<decltype(value), double>)
            file.metadata[key] = exact_text(value);
        else
            file.metadata[key] = std::to_string(value);
    });
    for_each_extra(state, [&](const std::string& name, Tensor& tensor) {
        file.tensors[name] = to_file_order(tensor);
    });
    for (const auto& [name, tensor] : file.tensors)
        if (!all_finite(tensor))
            throw Error(state_path(run) + ": not saved, " + name + " is not finite");
    write_tensor_file(state_path(run), file, true);
    save_model(model_path(run), state, extra);
    if (keep > 1) keep_last(run, progress.step, file, keep);
}

TrainProgress load_train_state(const std::string& run, const TrainState& state,
                               const Metadata& identity) {
    const std::string path = state_path(run);
    TensorFile file = read_tensor_file(path);
    for (const auto& [key, value] : identity)
        if (file.metadata[key] != value)
            throw UsageError(path + ": " + setting(key) + " is " + file.metadata[key] +
                             " there and " + value + " here; a run goes on only as it began");
    for_each_extra(state, [&](const std::string& name, Tensor& into) {
        const auto it = file.tensors.find(name);
        if (it == file.tensors.end()) throw ModelError(path + ": tensor " + name + " is missing");
        const Tensor value = to_memory_order(it->second);
        if (value.shape() != into.shape() || value.dtype() != into.dtype())
            throw ModelError(path + ": tensor " + name + " is " + it->second.shape().str());
        into.copy_from(value);
        file.tensors.erase(it);
    });
    load_state(state.net, file, path);
    TrainProgress progress;
    for_each_number(progress, [&](const char* key, auto& out) {
        const std::string& text = file.metadata[key];
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
        const bool number = error == std::errc{} && end == text.data() + text.size() && out >= 0;
        const bool counts = std::string(key) == "step";
        if (!number || (counts && double(out) > double(kMostSteps)))
            throw ModelError(path + ": metadata key " + key + " has the value \"" +
                             text.substr(0, 40) + "\"");
    });
    state.optimizer.set_steps(progress.step);
    return progress;
}

}  // namespace lumachrome
