// One problem per call, so that nothing measured before disturbs it: a warm-up, then the median.
#include <algorithm>

#include "apps/commands/measure.hpp"
#include "model/infer/inference.hpp"
#include "model/state.hpp"
#include "model/summary.hpp"
#include "tensor/choose.hpp"
#include "tensor/cuda.hpp"
#include "tensor/error.hpp"
#include "tensor/file.hpp"
#include "tensor/isa.hpp"
#include "tensor/storage.hpp"
#include "train/step_runner.hpp"

namespace lumachrome {
namespace {

constexpr int64_t kWarmSteps = 2;  // of training, until memory is taken

struct BenchRunOptions : BenchOptions {
    int64_t batch = 8;   // of train
    int64_t photos = 1;  // of infer
    std::string optimizer = "adadelta";
    bool simple_path = false;
    std::string weights, input, output;  // of infer: files instead of random numbers
    int64_t band_rows = 0;
    bool steps = false, overwrite = false;
};

void choose_path(const BenchRunOptions& options) {
    if (options.simple_path) force_implementations(kNaivePath);
}

Json times_json(const BenchRunOptions& options, const Exec& exec, const Times& times,
                int64_t batch) {
    Json json;
    json.set("preset", options.preset);
    json.set("size", options.size);
    json.set("batch", batch);
    json.set("runs", options.runs);
    json.set("median_ms", times.median);
    json.set("min_ms", times.min);
    json.set("max_ms", times.max);
    json.set("peak_rss_mib", peak_rss_mib());
    json.set("device", exec.device.str());
    json.set("threads", exec.threads);
    json.set("path", options.simple_path ? "simple" : "fast");
    return json;
}

// Random, or the tensor of that name in --input.
Tensor input_tensor(const BenchRunOptions& options, const char* name, int64_t side,
                    uint32_t stream) {
    const Shape shape{options.photos, side, side, 1};
    if (options.input.empty()) return random_tensor(shape, stream, -0.5, 0.5);
    const TensorFile file = read_tensor_file(options.input);
    const auto found = file.tensors.find(name);
    if (found == file.tensors.end() || found->second.shape() != shape ||
        found->second.dtype() != DType::f32)
        throw InputError(options.input + ": needs an f32 tensor " + name + " of " + shape.str());
    return found->second;
}

// Where the time of a photo goes: medians of so many runs, step by step.
Json::Array time_steps(const BenchRunOptions& options, const Exec& exec, Runner& runner,
                       const std::vector<Tensor>& in, Console& console) {
    const Ceiling before = measure_ceiling(exec);
    const std::vector<std::unique_ptr<Step>>& steps = runner.plan().steps;
    std::vector<std::vector<double>> times(steps.size());
    for (int64_t i = 0; i < options.runs; ++i) {
        runner.run(in);
        for (size_t s = 0; s < steps.size(); ++s)
            times[s].push_back(runner.step_seconds()[s] * 1e3);
    }
    // A machine that others use is not always as fast: the better of two moments.
    const Ceiling after = measure_ceiling(exec);
    const Ceiling ceiling{std::max(before.gflops, after.gflops),
                          std::max(before.gigabytes_per_second, after.gigabytes_per_second)};
    console.print(format("here and now: %.0f GFLOP/s in registers, %.1f GB/s copied",
                         ceiling.gflops, ceiling.gigabytes_per_second));
    console.print(format("%-24s %-44s %-12s %9s %9s %6s", "step", "problem", "kernel", "median ms",
                         "GFLOP/s", "floor"));
    Json::Array rows;
    for (size_t s = 0; s < steps.size(); ++s) {
        std::sort(times[s].begin(), times[s].end());
        const double median = times[s][times[s].size() / 2];
        const Shape& y = runner.plan().buffers[size_t(steps[s]->output)].shape;
        const double bytes = double(steps[s]->weight_bytes() + y.numel() * int64_t{sizeof(float)});
        const double floor = ceiling.floor(steps[s]->products(), bytes);
        const double gflops = 2 * steps[s]->products() / median / 1e6;
        console.print(format("%-24s %-44s %-12s %9.3f %9.1f %4.0f %%", steps[s]->name.c_str(),
                             steps[s]->problem().c_str(), steps[s]->implementation().c_str(),
                             median, gflops, 100 * floor / median));
        rows.push_back(Json::Object{{"step", steps[s]->name},
                                    {"problem", steps[s]->problem()},
                                    {"implementation", steps[s]->implementation()},
                                    {"median_ms", median},
                                    {"gflops", gflops},
                                    {"floor_ms", floor}});
    }
    return rows;
}

// Steps alone, one after another on a GPU: each started so often that waiting for the last one does
// not count.
Json::Array time_gpu_steps(const BenchRunOptions& options, const Exec& exec, GpuRunner& runner,
                           Console& console) {
    const GpuPlan& plan = runner.plan();
    console.print(format("%-24s %-54s %-14s %9s %9s %9s", "step", "problem", "kernel", "mean us",
                         "GFLOP/s", "GB/s"));
    Json::Array rows;
    for (size_t s = 0; s < plan.steps.size(); ++s) {
        const GpuStep& step = plan.steps[s];
        const auto run = [&] {
            for (int64_t i = 0; i < options.runs; ++i) runner.start_step(s);
            cuda::synchronize(exec.device);
        };
        run();
        const double mean = milliseconds(run) / double(options.runs);
        int64_t bytes = step.weight_bytes + plan.buffers[size_t(step.output)].place.bytes;
        for (int input : step.inputs) bytes += plan.buffers[size_t(input)].place.bytes;
        const double gflops = 2 * step.products / mean / 1e6, rate = double(bytes) / mean / 1e6;
        console.print(format("%-24s %-54s %-14s %9.1f %9.0f %9.0f", step.name.c_str(),
                             step.problem.c_str(), step.implementation.c_str(), mean * 1e3, gflops,
                             rate));
        rows.push_back(Json::Object{{"step", step.name},
                                    {"problem", step.problem},
                                    {"implementation", step.implementation},
                                    {"mean_us", mean * 1e3},
                                    {"gflops", gflops},
                                    {"gigabytes_per_second", rate}});
    }
    return rows;
}

// Replays are timed without the copies to and from the device, and these by themselves.
int run_bench_infer_gpu(const BenchRunOptions& options, const Exec& exec, ColorNet network,
                        Console& console) {
    const double gmacs =
        double(options.photos) * double(summarize(network, options.size, options.size).macs) / 1e9;
    const int64_t side = network.spec.global_size;
    Inference inference(std::move(network), exec, {.classify = false});
    std::vector<Tensor> in{input_tensor(options, "x", options.size, 1)};
    if (inference.takes_copy(options.size, options.size))
        in.push_back(input_tensor(options, "copy", side, 2));
    GpuRunner& runner = inference.on_gpu(options.size, options.size, options.photos);
    const auto wait = [&] { cuda::synchronize(exec.device); };
    runner.run(in);  // takes memory, and then records
    Tensor color = runner.run(in)[0];
    const int64_t taken = storage_counters(exec.device).system_allocations;
    const Times times = measure(options.runs, [&] {
        runner.start();
        wait();
    });
    const Times up = measure(options.runs, [&] {
        runner.upload(in);
        wait();
    });
    const Times down = measure(options.runs, [&] { color = runner.download()[0]; });
    const StorageCounters counters = storage_counters(exec.device);
    if (!options.output.empty()) {
        TensorFile file;
        file.tensors["color"] = color;
        write_tensor_file(options.output, file, options.overwrite);
    }
    const std::string device_name = cuda::properties(exec.device.index).name;
    Json json = times_json(options, exec, times, options.photos);
    json.set("gmacs", gmacs);
    json.set("gmacs_per_second", gmacs / times.median * 1e3);
    json.set("images_per_second", double(options.photos) / times.median * 1e3);
    json.set("upload_ms", up.median);
    json.set("download_ms", down.median);
    json.set("precision", precision_name(exec));
    json.set("device_name", device_name);
    json.set("arena_mib", double(runner.plan().arena_bytes) / (1 << 20));
    json.set("steady_allocations", counters.system_allocations - taken);
    json.set("peak_device_bytes", counters.peak_live_bytes);
    if (options.steps) json.set("steps", time_gpu_steps(options, exec, runner, console));
    console.result(json);
    console.print(
        format("%s, %ld x %ldx%ld on %s in %s: %.3f ms (%.3f .. %.3f), %.1f images/s, %.2f TMAC/s; "
               "copies %.3f ms in, %.3f ms out; %.0f MiB at most",
               options.preset.c_str(), long{options.photos}, long{options.size}, long{options.size},
               device_name.c_str(), precision_name(exec), times.median, times.min, times.max,
               double(options.photos) / times.median * 1e3, gmacs / times.median, up.median,
               down.median, double(counters.peak_live_bytes) / (1 << 20)));
    return 0;
}

int run_bench_infer(const BenchRunOptions& asked, Console& console) {
    BenchRunOptions options = asked;
    check_size(options.size);
    if (!options.output.empty()) check_overwrite(options.output, options.overwrite);
    if (options.steps && options.simple_path)
        throw UsageError("--steps: the simple path has no plan, so no steps");
    const Exec exec = exec_for(options, console);
    const bool gpu = exec.device.kind == Device::cuda;
    if (gpu && options.simple_path)
        throw UsageError("--path simple: bench infer has it on the CPU only; --device cpu");
    if (!gpu && options.photos > 1) throw UsageError("--batch: the CPU takes one photo at a time");
    choose_path(options);
    std::unique_ptr<ColorNet> net =
        options.weights.empty() ? std::make_unique<ColorNet>(preset(options.preset), kBenchSeed)
                                : load_model(options.weights).net;
    options.preset = net->spec.preset;  // of --weights, if there are any
    if (gpu) return run_bench_infer_gpu(options, exec, std::move(*net), console);
    const int64_t side = net->spec.global_size;
    const double gmacs = double(summarize(*net, options.size, options.size).macs) / 1e9;
    std::vector<Tensor> in{input_tensor(options, "x", options.size, 1)};
    if (net->spec.use_global && options.size != side)
        in.push_back(input_tensor(options, "copy", side, 2));

    Tensor color;
    Times times;
    int64_t arena_bytes = 0;
    Json::Array steps;
    if (options.simple_path) {
        times = measure(options.runs, [&] {
            Tape tape(Phase::eval, exec);
            const Var x = tape.input(in[0]);
            color = (*net)(x, in.size() > 1 ? tape.input(in[1]) : x).color.value;
        });
    } else {
        ColorNet network = std::move(*net);
        net.reset();
        Inference inference(std::move(network), exec,
                            {.classify = false, .plan = {.band_rows = options.band_rows}});
        Runner& runner = inference.at(options.size, options.size);
        arena_bytes = runner.plan().arena_bytes;
        times = measure(options.runs, [&] { color = runner.run(in)[0]; });
        if (options.steps) steps = time_steps(options, exec, runner, in, console);
    }
    if (!options.output.empty()) {
        TensorFile file;
        file.tensors["color"] = color;
        write_tensor_file(options.output, file, options.overwrite);
    }
    Json json = times_json(options, exec, times, 1);
    json.set("gmacs", gmacs);
    json.set("gmacs_per_second", gmacs / times.median * 1e3);
    json.set("isa", std::string(name(isa())));
    json.set("arena_mib", double(arena_bytes) / (1 << 20));
    if (options.steps) json.set("steps", std::move(steps));
    console.result(json);
    console.print(format(
        "%s, one photo of %ldx%ld: %.1f ms (%.1f .. %.1f), %.2f GMAC, %.1f GMAC/s, "
        "peak %.0f MiB, %d threads",
        options.preset.c_str(), long{options.size}, long{options.size}, times.median, times.min,
        times.max, gmacs, gmacs / times.median * 1e3, peak_rss_mib(), exec.threads));
    return 0;
}

int run_bench_train(const BenchRunOptions& options, Console& console) {
    check_size(options.size);
    const Exec exec = exec_for(options, console);
    choose_path(options);
    const bool gpu = exec.device.kind == Device::cuda;
    ColorNet net(preset(options.preset), kBenchSeed);
    net.to(exec.device);
    Optimizer optimizer(optimizer_spec(options.optimizer));
    net.visit([&](const std::string& name, Parameter& p) { optimizer.add(name, p); });
    Batch batch;
    batch.luma = random_tensor({options.batch, options.size, options.size, 1}, 1).to(exec.device);
    batch.ab = random_tensor({options.batch, options.size / 2, options.size / 2, 2}, 2, 0.3, 0.7)
                   .to(exec.device);
    for (int64_t n = 0; n < options.batch; ++n) batch.labels.push_back(n % net.spec.classes);
    // Small steps: the time does not depend on them, and the loss stays finite.
    const StepSettings settings{.rate_factor = 1e-3};
    StepRunner runner(net, optimizer, exec);
    int64_t steps = 0, allocations = 0;
    const auto taken = [&] { return storage_counters(exec.device).system_allocations; };
    const auto step = [&] {
        runner.step(batch, settings);  // which ends when the GPU has ended it
        if (++steps == kWarmSteps) allocations = taken();
    };
    // A GPU's third step is recorded; what is timed are the steps after it.
    if (gpu)
        for (int64_t i = 0; i < kWarmSteps; ++i) step();
    const Times times = measure(options.runs, step);
    const int64_t steady_allocations = steps > kWarmSteps ? taken() - allocations : 0;
    const double rate = double(options.batch) / times.median * 1e3;
    Json json = times_json(options, exec, times, options.batch);
    json.set("images_per_second", rate);
    json.set("precision", precision_name(exec));
    json.set("steady_allocations", steady_allocations);
    if (gpu) {
        json.set("device_name", cuda::properties(exec.device.index).name);
        json.set("peak_device_bytes", storage_counters(exec.device).peak_live_bytes);
        console.print(format("%s, %s, %.0f MiB at most, %ld allocations from the third step on",
                             cuda::properties(exec.device.index).name.c_str(), precision_name(exec),
                             double(storage_counters(exec.device).peak_live_bytes) / (1 << 20),
                             long{steady_allocations}));
    }
    json.set("optimizer", options.optimizer);
    console.result(json);
    console.print(
        format("%s, a training step on %ld photos of %ldx%ld: %.1f ms, %.2f images/s, "
               "peak %.0f MiB, %d threads",
               options.preset.c_str(), long{options.batch}, long{options.size}, long{options.size},
               times.median, rate, peak_rss_mib(), exec.threads));
    return 0;
}

}  // namespace

Command bench_infer_command() {
    Command command({
        .name = "bench infer",
        .summary = "time the network on a photo",
        .description = "Times the network without its class head on one photo: one size per call, "
                       "random weights.",
        .examples = "  lumachrome bench infer --size 480 --preset paper --runs 5",
    });
    BenchRunOptions& options = command.runs(run_bench_infer);
    add_bench_options(command, options);
    add_precision_option(command, options);
    command.add("--batch", options.photos, "Photos at once, on a GPU").within(1, 65536);
    add_path_option(command, options.simple_path);
    command.add("--band-rows", options.band_rows, "Rows of the photo at a time; 0 chooses")
        .within(0, 1 << 20);
    command.add("--steps", options.steps,
                "Also step by step: products its kernel makes a second, and the share of the floor "
                "(products, or weights and outputs, at the rates measured then)");
    add_weights_option(command, options.weights);
    command.add("--input", options.input,
                "Tensors x and copy (.safetensors) instead of random ones");
    command.add("--output", options.output, "Where the tensor color goes (.safetensors)");
    command.add("--overwrite", options.overwrite, "Replace the file of --output");
    return command;
}

Command bench_train_command() {
    Command command({
        .name = "bench train",
        .summary = "time a training step",
        .description = "Times a training step: forward, joint loss, backward, optimizer.",
        .examples = "  lumachrome bench train --size 224 --batch 8",
    });
    BenchRunOptions& options = command.runs(run_bench_train);
    add_bench_options(command, options);
    add_precision_option(command, options);
    command.add("--batch", options.batch, "Photos a step").within(2, 65536);
    command.add("--optimizer", options.optimizer, "How gradients change weights")
        .one_of({"adadelta", "adam", "sgd"});
    add_path_option(command, options.simple_path);
    return command;
}

}  // namespace lumachrome
