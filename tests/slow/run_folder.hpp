// What tests compare of run folders: everything but what the clock decides.
#pragma once
#include <fstream>
#include <string>

#include "tensor/error.hpp"
#include "tensor/json.hpp"
#include "tensor/tensor_file.hpp"
#include "train/run_log.hpp"
#include "train/train_state.hpp"

namespace lumachrome {

inline TensorFile timeless(const std::string& path) {
    TensorFile file = read_tensor_file(path);
    file.metadata.erase("seconds");
    return file;
}

inline std::string timeless_log(const std::string& run) {
    std::string text, line;
    std::ifstream in(metrics_path(run));
    while (std::getline(in, line)) {
        Json json = Json::parse(line);
        json.set("seconds", 0);
        if (json.find("images_per_second")) json.set("images_per_second", 0);
        // Holds gradients of the last step, if this process took one.
        if (json.find("final")) json.set("layers", 0);
        text += json.dump() + "\n";
    }
    return text;
}

// "" or the first name in which they differ.
inline std::string same(const TensorFile& a, const TensorFile& b) {
    if (a.metadata != b.metadata) return "metadata";
    if (a.tensors.size() != b.tensors.size()) return "number of tensors";
    for (const auto& [name, tensor] : a.tensors)
        if (!b.tensors.contains(name) || !bit_equal(tensor, b.tensors.at(name))) return name;
    return "";
}

// Whether all tensors of `part` are those of `whole`.
inline bool part_of(const TensorFile& part, const TensorFile& whole) {
    for (const auto& [name, tensor] : part.tensors)
        if (!whole.tensors.contains(name) || !bit_equal(tensor, whole.tensors.at(name)))
            return false;
    return !part.tensors.empty();
}

}  // namespace lumachrome
