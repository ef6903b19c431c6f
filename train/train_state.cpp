#include "train/train_state.hpp"

#include <charconv>

#include "tensor/error.hpp"

namespace lumachrome {
namespace {

const char* kFirst = "optimizer.first.";
const char* kSecond = "optimizer.second.";

}  // namespace

std::string state_path(const std::string& run) {
    return run + "/state.safetensors";
}
std::string model_path(const std::string& run) {
    return run + "/model.safetensors";
}

void save_train_state(const std::string& run, ColorNet& net, Optimizer& optimizer,
                      const TrainProgress& progress, const Metadata& extra,
                      const Metadata& identity) {
    TensorFile file = model_file(net, extra);
    const TensorFile model = file;
    for (const auto& [key, value] : identity) file.metadata[key] = value;
    file.metadata["step"] = std::to_string(progress.step);
    file.metadata["seconds"] = std::to_string(progress.seconds);
    for (Optimizer::Slot& slot : optimizer.slots()) {
        file.tensors[kFirst + slot.name] = to_file_order(slot.first);
        file.tensors[kSecond + slot.name] = to_file_order(slot.second);
    }
    write_tensor_file(state_path(run), file, true);
    write_tensor_file(model_path(run), model, true);
}

TrainProgress load_train_state(const std::string& run, ColorNet& net, Optimizer& optimizer,
                               const Metadata& identity) {
    const std::string path = state_path(run);
    TensorFile file = read_tensor_file(path);
    const auto take = [&](const std::string& name, Tensor& into) {
        const auto it = file.tensors.find(name);
        if (it == file.tensors.end()) throw ModelError(path + ": tensor " + name + " is missing");
        const Tensor value = to_memory_order(it->second);
        if (value.shape() != into.shape() || value.dtype() != into.dtype())
            throw ModelError(path + ": tensor " + name + " is " + it->second.shape().str());
        into = value.clone();
        file.tensors.erase(it);
    };
    for (const auto& [key, value] : identity)
        if (file.metadata[key] != value)
            throw UsageError(path + ": " + key + " is " + file.metadata[key] + " there and " +
                             value + " here; a run goes on only as it began");
    for (Optimizer::Slot& slot : optimizer.slots()) {
        take(kFirst + slot.name, slot.first);
        take(kSecond + slot.name, slot.second);
    }
    load_state(net, file, path);
    TrainProgress progress;
    const auto number = [&](const char* key, auto& out) {
        const std::string& text = file.metadata[key];
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
        if (error != std::errc{} || end != text.data() + text.size() || out < 0 ||
            !(double(out) <= double(kMostSteps)))
            throw ModelError(path + ": metadata key " + key + " has the value \"" +
                             text.substr(0, 40) + "\"");
    };
    number("step", progress.step);
    number("seconds", progress.seconds);
    optimizer.set_steps(progress.step);
    return progress;
}

}  // namespace lumachrome
