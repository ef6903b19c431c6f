#include "model/spec.hpp"

#include <charconv>

#include "tensor/error.hpp"
#include "tensor/json.hpp"

namespace lumachrome {
namespace {

constexpr size_t kMaxNameBytes = 512 << 10;  // of all classes: they must fit into a file's header
constexpr int64_t kMaxClasses = 100'000, kMaxGlobalSize = 1024, kNarrowest = 32;

std::string format(double value) {
    char text[40];
    return {text, std::to_chars(text, text + sizeof text, value).ptr};
}

}  // namespace

int64_t Spec::global_map() const {
    int64_t side = (global_size + kStride - 1) / kStride;
    for (const ConvRow& row : kGlobal) side = (side + row.stride - 1) / row.stride;
    return side;
}

void Spec::check() const {
    const auto require = [](bool holds, const std::string& rule) {
        if (!holds) throw UsageError("network: " + rule);
    };
    require(width_divisor >= 1 && kNarrowest % width_divisor == 0,
            "width_divisor " + std::to_string(width_divisor) + " must divide 32");
    require(global_size >= kStride && global_size <= kMaxGlobalSize && global_size % kStride == 0,
            "global_size " + std::to_string(global_size) + " must be a multiple of 8 in 8..1024");
    require(fusion_kernel == 1 || fusion_kernel == 3,
            "fusion_kernel " + std::to_string(fusion_kernel) + " must be 1 or 3");
    require(classes >= 0 && classes <= kMaxClasses,
            "classes " + std::to_string(classes) + " must be in 0..100000");
    require(class_names.empty() || static_cast<int64_t>(class_names.size()) == classes,
            std::to_string(class_names.size()) + " class names for " + std::to_string(classes) +
                " classes");
    size_t name_bytes = 0;
    for (const std::string& name : class_names) name_bytes += name.size() + 6;  // with quotes
    require(name_bytes <= kMaxNameBytes, "the names of " + std::to_string(classes) +
                                             " classes take more than 512 KiB; shorten them");
    require(dropout >= 0 && dropout < 1, "dropout " + format(dropout) + " must be in [0, 1)");
    require(luma_mean >= 0 && luma_mean <= 1,
            "luma_mean " + format(luma_mean) + " must be in [0, 1]");
    require(ab_scale > 0 && ab_scale <= 1000,
            "ab_scale " + format(ab_scale) + " must be in (0, 1000]");
}

Spec preset(const std::string& name) {
    Spec spec;
    spec.preset = name;
    if (name == "paper") return spec;
    if (name == "compact") {
        spec.width_divisor = 2;
        spec.global_size = 112;
        return spec;
    }
    if (name == "tiny") {
        spec.width_divisor = 8;
        spec.global_size = 64;
        return spec;
    }
    throw UsageError("preset \"" + name + "\" is not one of paper, compact, tiny");
}

std::map<std::string, std::string> to_metadata(const Spec& spec) {
    Json::Array names;
    for (const std::string& name : spec.class_names) names.push_back(name);
    return {{"format", "lumachrome 1"},
            {"preset", spec.preset},
            {"width_divisor", std::to_string(spec.width_divisor)},
            {"global_size", std::to_string(spec.global_size)},
            {"fusion_kernel", std::to_string(spec.fusion_kernel)},
            {"activation", name(spec.activation)},
            {"use_global", spec.use_global ? "true" : "false"},
            {"batch_norm", spec.batch_norm ? "true" : "false"},
            {"classes", std::to_string(spec.classes)},
            {"class_names", Json(names).dump()},
            {"dropout", format(spec.dropout)},
            {"luma_mean", format(spec.luma_mean)},
            {"ab_scale", format(spec.ab_scale)}};
}

Spec from_metadata(const std::map<std::string, std::string>& metadata) {
    const auto text = [&](const char* key) -> const std::string& {
        const auto it = metadata.find(key);
        if (it == metadata.end())
            throw ModelError(std::string("metadata key ") + key + " is missing");
        return it->second;
    };
    const auto fail = [&](const char* key) {
        return ModelError(std::string("metadata key ") + key + " has the value \"" +
                          text(key).substr(0, 40) + "\"");
    };
    const auto number = [&](const char* key, auto& out) {
        const std::string& t = text(key);
        const auto [end, error] = std::from_chars(t.data(), t.data() + t.size(), out);
        if (error != std::errc{} || end != t.data() + t.size()) throw fail(key);
    };
    const auto flag = [&](const char* key) {
        if (text(key) != "true" && text(key) != "false") throw fail(key);
        return text(key) == "true";
    };
    if (text("format") != "lumachrome 1") throw fail("format");
    Spec spec;
    spec.preset = text("preset");
    number("width_divisor", spec.width_divisor);
    number("global_size", spec.global_size);
    number("fusion_kernel", spec.fusion_kernel);
    if (text("activation") != "relu" && text("activation") != "sigmoid") throw fail("activation");
    spec.activation = text("activation") == "relu" ? Activation::relu : Activation::sigmoid;
    spec.use_global = flag("use_global");
    spec.batch_norm = flag("batch_norm");
    number("classes", spec.classes);
    number("dropout", spec.dropout);
    number("luma_mean", spec.luma_mean);
    number("ab_scale", spec.ab_scale);
    try {
        const Json class_names = Json::parse(text("class_names"));
        for (const Json& name : class_names.array()) spec.class_names.push_back(name.string());
        spec.check();
    } catch (const Error& error) {
        throw ModelError(error.what());
    }
    return spec;
}

}  // namespace lumachrome
