#include <charconv>

#include "apps/commands/commands.hpp"
#include "tensor/error.hpp"

namespace lumachrome {

void add_run_options(OptionTable& table, RunOptions& options) {
    const auto set_device = [&options](const std::string& word) {
        check_device(word);  // here, for the commands that run on no device
        options.device = word;
    };
    // The same up to rounding.
    table.add("--device", Setter(set_device), "auto, cpu, cuda or cuda:N")
        .by_default(options.device)
        .same_result();
    table.add("--threads", options.threads, "Threads; 0: as many as cores")
        .within(0, 1024)
        .same_result();
}

void add_precision_option(OptionTable& table, RunOptions& options) {
    table
        .add("--precision", options.precision,
             "Of a GPU: f32, tf32 (factors of products rounded), bf16 (activations too); auto is "
             "bf16 there and f32 on the CPU")
        .one_of({"auto", "f32", "tf32", "bf16"});
}

void add_photo_options(OptionTable& table, PhotoOptions& options) {
    table.add("INPUT", options.inputs, "Photos, folders, quoted patterns, - for stdin")
        .required()
        .same_result();
    table.add("-r,--recursive", options.recursive, "Look into folders of folders").same_result();
    add_weights_option(table, options.weights);
    table.add("--max-pixels", options.max_pixels, "Refuse larger photos by their header")
        .at_least(1)
        .same_result();
}

void add_network_options(OptionTable& table, NetworkOptions& options) {
    table.add("--preset", options.preset, "Network: paper, compact or tiny")
        .one_of({"paper", "compact", "tiny"});
    table.add("--activation", options.activation, "Of the hidden layers")
        .one_of({"relu", "sigmoid"});
    table
        .add("--fusion-kernel", options.fusion_kernel,
             "1 (the paper's formula) or 3 (the published weights)")
        .one_of({"1", "3"});
    table.add("--no-global", options.no_global, "The paper's baseline: no global branch");
}

Spec fresh_spec(const NetworkOptions& options) {
    Spec spec = preset(options.preset.value_or("compact"));
    if (options.activation)
        spec.activation = *options.activation == "relu" ? Activation::relu : Activation::sigmoid;
    spec.fusion_kernel = options.fusion_kernel.value_or(spec.fusion_kernel);
    spec.use_global = !options.no_global;
    return spec;
}

void add_weights_option(OptionTable& table, std::string& path) {
    // The file's contents decide, whatever its name.
    table.add("--weights", path, "Checkpoint (.safetensors) instead of the default model")
        .same_result();
}

void add_size_option(OptionTable& table, ColorizeSettings& settings) {
    const auto set = [&settings](const std::string& word) {
        settings.full = word == "full";
        settings.size = 0;
        if (word == "auto" || word == "full") return;
        const char* end = word.data() + word.size();
        if (std::from_chars(word.data(), end, settings.size).ptr != end || settings.size < 8 ||
            settings.size > 8192)
            throw UsageError(word + " must be auto, full or 8..8192");
    };
    table
        .add("--size", Setter(set),
             "Shorter side of what the network sees: N, auto (176 at most) or full")
        .shown_as("N|auto|full")
        .by_default("auto");
}

void add_chroma_options(OptionTable& table, ColorizeSettings& settings) {
    table.add("--saturation", settings.saturation, "Factor on the predicted chroma").within(0, 10);
    table
        .add(
            "--chroma-upsampling",
            [&settings](const std::string& word) {
                settings.upsampling =
                    word == "bilinear" ? ChromaUpsampling::bilinear : ChromaUpsampling::edge_aware;
            },
            "edge-aware: colours keep to the photo's edges (default); or bilinear")
        .one_of({"edge-aware", "bilinear"})
        .by_default("edge-aware");
    table.add("--two-scale", settings.two_scale,
              "With a large --size: details from there, tint from a pass at the automatic size");
}

void check_settings(const ColorizeSettings& settings) {
    if (settings.naive && settings.max_memory > 0)
        throw UsageError(
            "--path simple keeps whole maps, so it takes no --max-memory; leave out one of them");
    if (settings.two_scale && settings.size == 0 && !settings.full)
        throw UsageError(
            "--two-scale takes its details from a larger pass than the automatic one; add --size N "
            "or --size full");
}

void add_path_option(OptionTable& table, bool& simple) {
    table
        .add(
            "--path", [&simple](const std::string& word) { simple = word == "simple"; },
            "fast, or simple: the definitions' own loops, to check the fast ones against")
        .one_of({"fast", "simple"})
        .by_default("fast");
}

}  // namespace lumachrome
