#include <charconv>

#include "apps/commands/commands.hpp"
#include "model/summary.hpp"
#include "tensor/error.hpp"

namespace lumachrome {
namespace {

struct InspectOptions : RunOptions {
    std::string file;
    NetworkOptions network;
    std::optional<int64_t> classes;
    int64_t height = 224, width = 224;
};

Spec spec_of(const InspectOptions& options) {
    Spec spec = preset(*options.network.preset);
    if (options.network.activation)
        spec.activation =
            *options.network.activation == "relu" ? Activation::relu : Activation::sigmoid;
    spec.fusion_kernel = options.network.fusion_kernel.value_or(spec.fusion_kernel);
    spec.classes = options.classes.value_or(spec.classes);
    spec.use_global = !options.network.no_global;
    return spec;
}

Json layer_json(const LayerSummary& layer) {
    Json::Array output;
    for (int axis = 0; axis < layer.output.rank(); ++axis) output.push_back(layer.output[axis]);
    return Json::Object{{"name", layer.name},
                        {"op", layer.op},
                        {"output", std::move(output)},
                        {"parameters", layer.parameters},
                        {"macs", layer.macs}};
}

int run_inspect(const InspectOptions& options, Console& console) {
    if (options.file.empty() == !options.network.preset)
        throw UsageError("inspect: a checkpoint FILE or --preset NAME, one of the two");
    if (options.height % kStride || options.width % kStride)
        throw UsageError(format("--size %ldx%ld: both must be multiples of 8", long{options.height},
                                long{options.width}));
    LoadedModel model;
    if (options.file.empty()) {
        model.net = std::make_unique<ColorNet>(spec_of(options));
        model.metadata = to_metadata(model.net->spec);
    } else {
        model = load_model(options.file);
    }
    ColorNet& net = *model.net;
    const Summary summary = summarize(net, options.height, options.width);

    Json json, metadata{Json::Object{}};
    if (!options.file.empty()) json.set("file", options.file);
    json.set("preset", net.spec.preset);
    json.set("parameters", summary.parameters);
    json.set("parameters_without_norm_and_classifier",
             summary.parameters_without_norm_and_classifier);
    json.set("bytes_f32", 4 * summary.parameters);
    json.set("height", options.height);
    json.set("width", options.width);
    json.set("macs", summary.macs);
    json.set("macs_per_pixel", summary.macs_per_pixel);
    json.set("receptive_field", summary.receptive_field);
    for (const auto& [key, value] : model.metadata) metadata.set(key, value);
    json.set("metadata", std::move(metadata));
    Json::Array layers;
    for (const LayerSummary& layer : summary.layers) layers.push_back(layer_json(layer));
    json.set("layers", std::move(layers));
    console.result(json);

    console.print(
        format("%-24s %-16s %-18s %12s %10s", "layer", "op", "output NHWC", "parameters", "MMAC"));
    for (const LayerSummary& layer : summary.layers)
        console.print(format("%-24s %-16s %-18s %12ld %10.2f", layer.name.c_str(), layer.op.c_str(),
                             layer.output.str().c_str(), long{layer.parameters},
                             double(layer.macs) / 1e6));
    console.print(
        format("\n%ld parameters (%.1f MiB as f32), %ld without batch norm and class head",
               long{summary.parameters}, double(summary.parameters) * 4 / (1 << 20),
               long{summary.parameters_without_norm_and_classifier}));
    console.print(
        format("%.3f GMAC for a photo of %ldx%ld, %.0f MAC per pixel on the full-resolution path",
               double(summary.macs) / 1e9, long{options.height}, long{options.width},
               summary.macs_per_pixel));
    console.print(format("receptive field %ld pixels", long{summary.receptive_field}));
    if (!options.file.empty()) console.print("");
    for (const auto& [key, value] : model.metadata)
        if (!options.file.empty()) console.print(format("%-16s ", key.c_str()) + value);
    return 0;
}

// "N" or "HxW".
void set_size(InspectOptions& options, const std::string& word) {
    const char *at = word.data(), *end = at + word.size();
    auto parsed = std::from_chars(at, end, options.height);
    options.width = options.height;
    if (parsed.ptr != end && *parsed.ptr == 'x')
        parsed = std::from_chars(parsed.ptr + 1, end, options.width);
    const auto right = [](int64_t side) { return side >= 8 && side <= 65536; };
    if (parsed.ptr != end || !right(options.height) || !right(options.width))
        throw UsageError(word + " must be N or HxW, 8..65536");
}

}  // namespace

Command inspect_command() {
    Command command({
        .name = "inspect",
        .summary = "layers and metadata of a network",
        .description =
            "Shows a network: layers, shapes, parameters, work, receptive field, metadata.",
        .examples = "  lumachrome inspect run/model.safetensors\n"
                    "  lumachrome inspect --preset paper --size 480x640",
    });
    InspectOptions& options = command.runs(run_inspect);
    add_run_options(command, options);
    command.add("FILE", options.file, "A checkpoint")
        .excludes({"--preset", "--activation", "--fusion-kernel", "--no-global"});
    add_network_options(command, options.network);
    command.add("--classes", options.classes, "Scenes of the class head").within(1, 100'000);
    command
        .add(
            "--size", [&options](const std::string& word) { set_size(options, word); },
            "Photo the figures are for; 224 unless told")
        .shown_as("N|HxW");
    return command;
}

}  // namespace lumachrome
