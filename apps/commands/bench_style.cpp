// What another style of a photo costs once its features are there.
#include "apps/commands/measure.hpp"
#include "model/infer/inference.hpp"
#include "tensor/error.hpp"

namespace lumachrome {
namespace {

int run_bench_style(const BenchOptions& options, Console& console) {
    check_size(options.size);
    const Exec exec = exec_for(options, console);
    Inference inference(ColorNet(preset(options.preset), kBenchSeed), exec);
    const int64_t side = preset(options.preset).global_size;
    const auto photo = random_tensor({1, options.size, options.size, 1}, 1, -0.5, 0.5);
    const auto copy = random_tensor({1, side, side, 1}, 2, -0.5, 0.5);
    const auto run = [&](Part part, const std::vector<Tensor>& in) {
        return inference.run(part, options.size, options.size, in);
    };
    std::vector<Tensor> whole{photo};
    if (inference.takes_copy(options.size, options.size)) whole.push_back(copy);
    const Tensor style = run(Part::global, {copy})[0], middle = run(Part::middle, {photo})[0];
    const Times all = measure(options.runs, [&] { run(Part::whole, whole); });
    const Times tail = measure(options.runs, [&] { run(Part::tail, {middle, style}); });
    Json json;
    json.set("preset", options.preset);
    json.set("size", options.size);
    json.set("whole_ms", all.median);
    json.set("style_ms", tail.median);
    json.set("ratio", tail.median / all.median);
    json.set("device", exec.device.str());
    json.set("threads", exec.threads);
    console.result(json);
    console.print(format("%s at %ldx%ld: the whole network %.1f ms, another style %.1f ms: %.1f %%",
                         options.preset.c_str(), long{options.size}, long{options.size}, all.median,
                         tail.median, 100 * tail.median / all.median));
    return 0;
}

}  // namespace

Command bench_style_command() {
    Command command({
        .name = "bench style",
        .summary = "time another style of a photo",
        .description = "Times the network, and what of it a change of style runs again.",
        .examples = "  lumachrome bench style --size 1024 --preset paper",
    });
    BenchOptions& options = command.runs(run_bench_style);
    add_bench_options(command, options);
    add_precision_option(command, options);
    return command;
}

}  // namespace lumachrome
