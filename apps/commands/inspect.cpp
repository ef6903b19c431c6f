#include <charconv>

#include "apps/commands/commands.hpp"
#include "model/infer/inference.hpp"
#include "model/summary.hpp"
#include "tensor/error.hpp"
#include "tensor/isa.hpp"

namespace lumachrome {
namespace {

struct InspectOptions : RunOptions {
    std::string file;
    NetworkOptions network;
    std::optional<int64_t> classes;
    int64_t height = 224, width = 224;
    bool plan = false;
    int64_t band_rows = 0;
};

Json layer_json(const LayerSummary& layer) {
    Json::Array output;
    for (int axis = 0; axis < layer.output.rank(); ++axis) output.push_back(layer.output[axis]);
    return Json::Object{{"name", layer.name},
                        {"op", layer.op},
                        {"output", std::move(output)},
                        {"parameters", layer.parameters},
                        {"macs", layer.macs}};
}

double mib(int64_t bytes) {
    return double(bytes) / (1 << 20);
}

// The same on a GPU: steps, kernels, maps and weights.
int run_inspect_gpu_plan(const InspectOptions& options, const Exec& exec, ColorNet& net,
                         Console& console) {
    Inference inference(net, exec);
    const GpuPlan& plan = inference.on_gpu(options.height, options.width).plan();
    Json::Array steps;
    console.print(format("%-24s %-54s %-14s %9s %12s", "step", "problem", "kernel", "map MiB",
                         "weights MiB"));
    for (const GpuStep& step : plan.steps) {
        const GpuPlan::Buffer& buffer = plan.buffers[size_t(step.output)];
        console.print(format("%-24s %-54s %-14s %9.2f %12.2f", step.name.c_str(),
                             step.problem.c_str(), step.implementation.c_str(),
                             mib(buffer.place.bytes), mib(step.weight_bytes)));
        steps.push_back(Json::Object{{"name", step.name},
                                     {"problem", step.problem},
                                     {"kernel", step.implementation},
                                     {"offset", buffer.place.offset},
                                     {"bytes", buffer.place.bytes},
                                     {"weight_bytes", step.weight_bytes}});
    }
    console.print(format("\n%zu steps on %s in %s; maps %.1f MiB, packed weights %.1f MiB",
                         plan.steps.size(), exec.device.str().c_str(), precision_name(exec),
                         mib(plan.arena_bytes), mib(inference.weights().bytes())));
    Json json;
    json.set("height", options.height);
    json.set("width", options.width);
    json.set("device", exec.device.str());
    json.set("precision", precision_name(exec));
    json.set("arena_bytes", plan.arena_bytes);
    json.set("packed_bytes", inference.weights().bytes());
    json.set("steps", std::move(steps));
    console.result(json);
    return 0;
}

// How inference goes about a photo of that size: each step, the kernel it took, its rows and
// weights.
int run_inspect_plan(const InspectOptions& options, ColorNet& net, Console& console) {
    const Exec exec = exec_for(options, console);
    if (exec.device.kind == Device::cuda) return run_inspect_gpu_plan(options, exec, net, console);
    Inference inference(net, exec, {.plan = {.band_rows = options.band_rows}});
    const Plan& plan = inference.at(options.height, options.width).plan();
    Json::Array steps;
    console.print(format("%-24s %-44s %-12s %6s %9s %9s %10s", "step", "problem", "kernel", "rows",
                         "held", "map MiB", "weights MiB"));
    for (size_t i = 0; i < plan.steps.size(); ++i) {
        const Step& step = *plan.steps[i];
        const Plan::Buffer& buffer = plan.buffers[size_t(step.output)];
        console.print(format("%-24s %-44s %-12s %6ld %9ld %9.2f %10.2f", step.name.c_str(),
                             step.problem().c_str(), step.implementation().c_str(),
                             long{plan.chunks[i]}, long{buffer.rows}, mib(buffer.bytes()),
                             mib(step.weight_bytes())));
        steps.push_back(Json::Object{{"name", step.name},
                                     {"problem", step.problem()},
                                     {"kernel", step.implementation()},
                                     {"rows", plan.chunks[i]},
                                     {"rows_held", buffer.rows},
                                     {"offset", buffer.offset},
                                     {"bytes", buffer.bytes()},
                                     {"weight_bytes", step.weight_bytes()}});
    }
    console.print(
        format("\n%zu tasks, bands of %ld rows of the photo; maps %.1f MiB, packed weights "
               "%.1f MiB; instruction set %s",
               plan.tasks.size(), long{plan.band_rows}, mib(plan.arena_bytes),
               mib(inference.weights().bytes()), std::string(name(isa())).c_str()));
    Json json;
    json.set("height", options.height);
    json.set("width", options.width);
    json.set("band_rows", plan.band_rows);
    json.set("tasks", static_cast<int64_t>(plan.tasks.size()));
    json.set("arena_bytes", plan.arena_bytes);
    json.set("packed_bytes", inference.weights().bytes());
    json.set("isa", std::string(name(isa())));
    json.set("steps", std::move(steps));
    console.result(json);
    return 0;
}

int run_inspect(const InspectOptions& options, Console& console) {
    if (options.file.empty() == !options.network.preset)
        throw UsageError("inspect: a checkpoint FILE or --preset NAME, one of the two");
    if (options.height % kStride || options.width % kStride)
        throw UsageError(format("--size %ldx%ld: both must be multiples of 8", long{options.height},
                                long{options.width}));
    LoadedModel model;
    if (options.file.empty()) {
        Spec spec = fresh_spec(options.network);
        spec.classes = options.classes.value_or(spec.classes);
        model.net = std::make_unique<ColorNet>(spec);
        model.metadata = to_metadata(model.net->spec);
    } else {
        model = load_model(options.file);
    }
    ColorNet& net = *model.net;
    if (options.plan) return run_inspect_plan(options, net, console);
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
    options.height = options.width = 0;  // and so they stay when a number is none, or too large
    auto parsed = std::from_chars(at, end, options.height);
    if (parsed.ptr != end && *parsed.ptr == 'x')
        parsed = std::from_chars(parsed.ptr + 1, end, options.width);
    else
        options.width = options.height;
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
                    "  lumachrome inspect --preset paper --size 480x640\n"
                    "  lumachrome inspect --preset compact --plan 1024",
    });
    InspectOptions& options = command.runs(run_inspect);
    add_run_options(command, options);
    add_precision_option(command, options);
    command.add("FILE", options.file, "A checkpoint")
        .excludes({"--preset", "--activation", "--fusion-kernel", "--no-global", "--classes"});
    add_network_options(command, options.network);
    command.add("--classes", options.classes, "Scenes of the class head").within(1, 100'000);
    command
        .add(
            "--size", [&options](const std::string& word) { set_size(options, word); },
            "Photo the figures are for; 224 unless told")
        .shown_as("N|HxW");
    command
        .add(
            "--plan",
            [&options](const std::string& word) {
                set_size(options, word);
                options.plan = true;
            },
            "How inference goes about a photo of this size: steps, kernels, bands, memory")
        .shown_as("N|HxW");
    command
        .add("--band-rows", options.band_rows,
             "Of the plan: rows of the photo at a time; 0 chooses")
        .within(0, 1 << 20);
    return command;
}

}  // namespace lumachrome
