// One problem per call, so that nothing measured before disturbs it: a warm-up, then the median.
#include <algorithm>
#include <chrono>
#include <set>

#include "apps/commands/commands.hpp"
#include "layers/op_cases.hpp"
#include "model/infer/inference.hpp"
#include "model/state.hpp"
#include "model/summary.hpp"
#include "tensor/choose.hpp"
#include "tensor/error.hpp"
#include "tensor/isa.hpp"
#include "tensor/random.hpp"
#include "train/train_step.hpp"

namespace lumachrome {
namespace {

struct BenchOptions : RunOptions {
    std::string preset = "paper";
    int64_t size = 224, batch = 8, runs = 10;
    std::string optimizer = "adadelta";
    std::string filter;
    bool simple_path = false;
    std::string weights, input, output;  // of infer: files instead of random numbers
    int64_t band_rows = 0;
};

constexpr uint64_t kSeed = 1;
constexpr double kLongestMeasurement = 2000;  // ms; slower ops are measured once

struct Times {  // milliseconds
    double median, min, max;
};

double milliseconds(const std::function<void()>& work) {
    const auto start = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
        .count();
}

Times measure(int64_t runs, const std::function<void()>& work) {
    work();
    std::vector<double> times;
    for (int64_t i = 0; i < runs; ++i) times.push_back(milliseconds(work));
    std::sort(times.begin(), times.end());
    return {times[times.size() / 2], times.front(), times.back()};
}

Tensor random_tensor(const Shape& shape, uint32_t stream, double low = 0, double high = 1) {
    Random random(kSeed, Random::Purpose::test, stream);
    const Tensor t = Tensor::empty(shape);
    for (int64_t i = 0; i < t.numel(); ++i)
        t.data<float>()[i] = static_cast<float>(random.uniform(low, high));
    return t;
}

void check_size(int64_t size) {
    if (size % kStride != 0)
        throw UsageError(format("--size %ld: must be a multiple of 8", long{size}));
}

void choose_path(const BenchOptions& options) {
    if (options.simple_path) force_implementations(kNaivePath);
}

Json times_json(const BenchOptions& options, const Exec& exec, const Times& times, int64_t batch) {
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

// An op of the network with the shapes it has there.
struct NetworkOp {
    std::string problem;
    std::shared_ptr<const Op> op;
    std::vector<Shape> inputs;
};

std::vector<NetworkOp> network_ops(ColorNet& net, int64_t size) {
    Tape tape(Phase::trace, {});
    const auto photo = [&](int64_t side) {
        return tape.input(Tensor::empty({1, side, side, 1}, DType::f32, {Device::meta}));
    };
    const Var x = photo(size);
    net(x, size == net.spec.global_size ? x : photo(net.spec.global_size));
    std::vector<NetworkOp> ops;
    std::set<std::string> seen;
    for (const Tape::Node& node : tape.nodes()) {
        if (!node.op) continue;
        NetworkOp op{node.op->name(), node.op, {}};
        for (int k : node.inputs)
            op.inputs.push_back(tape.nodes()[static_cast<size_t>(k)].value.shape());
        // The first two inputs tell problems apart; the rest are biases and scales.
        for (size_t i = 0; i < std::min<size_t>(2, op.inputs.size()); ++i)
            op.problem += " " + op.inputs[i].str();
        op.problem += " -> " + node.value.shape().str();
        if (seen.insert(op.problem).second) ops.push_back(std::move(op));
    }
    return ops;
}

// The list an op chooses from, by its name.
const OpFamily* family_of(const std::vector<OpFamily>& families, std::string_view op) {
    if (op == "relu" || op == "sigmoid") op = "activation";
    if (op == "batch_norm_eval") op = "batch_norm";
    const auto found = std::find_if(families.begin(), families.end(),
                                    [&](const OpFamily& family) { return family.name == op; });
    return found == families.end() ? nullptr : &*found;
}

// Random, or the tensor of that name in --input.
Tensor input_tensor(const BenchOptions& options, const char* name, int64_t side, uint32_t stream) {
    const Shape shape{1, side, side, 1};
    if (options.input.empty()) return random_tensor(shape, stream, -0.5, 0.5);
    const TensorFile file = read_tensor_file(options.input);
    const auto found = file.tensors.find(name);
    if (found == file.tensors.end() || found->second.shape() != shape ||
        found->second.dtype() != DType::f32)
        throw InputError(options.input + ": needs an f32 tensor " + name + " of " + shape.str());
    return found->second;
}

int run_bench_infer(const BenchOptions& options, Console& console) {
    check_size(options.size);
    const Exec exec = exec_for(options, console);
    choose_path(options);
    std::unique_ptr<ColorNet> net = options.weights.empty()
                                        ? std::make_unique<ColorNet>(preset(options.preset), kSeed)
                                        : load_model(options.weights).net;
    const int64_t side = net->spec.global_size;
    const double gmacs = double(summarize(*net, options.size, options.size).macs) / 1e9;
    std::vector<Tensor> in{input_tensor(options, "x", options.size, 1)};
    if (net->spec.use_global && options.size != side)
        in.push_back(input_tensor(options, "copy", side, 2));

    Tensor color;
    Times times;
    int64_t arena_bytes = 0;
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
    }
    if (!options.output.empty()) {
        TensorFile file;
        file.tensors["color"] = color;
        write_tensor_file(options.output, file, true);
    }
    Json json = times_json(options, exec, times, 1);
    json.set("gmacs", gmacs);
    json.set("gmacs_per_second", gmacs / times.median * 1e3);
    json.set("isa", std::string(name(isa())));
    json.set("arena_mib", double(arena_bytes) / (1 << 20));
    console.result(json);
    console.print(format(
        "%s, one photo of %ldx%ld: %.1f ms (%.1f .. %.1f), %.2f GMAC, %.1f GMAC/s, "
        "peak %.0f MiB, %d threads",
        options.preset.c_str(), long{options.size}, long{options.size}, times.median, times.min,
        times.max, gmacs, gmacs / times.median * 1e3, peak_rss_mib(), exec.threads));
    return 0;
}

int run_bench_train(const BenchOptions& options, Console& console) {
    check_size(options.size);
    const Exec exec = exec_for(options, console);
    choose_path(options);
    ColorNet net(preset(options.preset), kSeed);
    Optimizer optimizer(optimizer_spec(options.optimizer));
    net.visit([&](const std::string& name, Parameter& p) { optimizer.add(name, p); });
    Batch batch;
    batch.luma = random_tensor({options.batch, options.size, options.size, 1}, 1);
    batch.ab = random_tensor({options.batch, options.size / 2, options.size / 2, 2}, 2, 0.3, 0.7);
    for (int64_t n = 0; n < options.batch; ++n) batch.labels.push_back(n % net.spec.classes);
    // Small steps: the time does not depend on them, and the loss stays finite.
    const StepSettings settings{.rate_factor = 1e-3};
    const Times times =
        measure(options.runs, [&] { train_step(net, optimizer, exec, batch, settings); });
    const double rate = double(options.batch) / times.median * 1e3;
    Json json = times_json(options, exec, times, options.batch);
    json.set("images_per_second", rate);
    json.set("precision", "f32");
    json.set("optimizer", options.optimizer);
    console.result(json);
    console.print(
        format("%s, a training step on %ld photos of %ldx%ld: %.1f ms, %.2f images/s, "
               "peak %.0f MiB, %d threads",
               options.preset.c_str(), long{options.batch}, long{options.size}, long{options.size},
               times.median, rate, peak_rss_mib(), exec.threads));
    return 0;
}

int run_bench_ops(const BenchOptions& options, Console& console) {
    check_size(options.size);
    const Exec exec = exec_for(options, console);
    ColorNet net(preset(options.preset), kSeed);
    const std::vector<OpFamily> families = op_families();
    Json::Array rows;
    console.print(
        format("%-64s %-14s %12s %9s", "problem", "implementation", "median us", "GFLOP/s"));
    for (const NetworkOp& op : network_ops(net, options.size)) {
        if (op.problem.find(options.filter) == std::string::npos) continue;
        const OpFamily* family = family_of(families, op.op->name());
        if (!family) continue;
        std::vector<Tensor> inputs;
        for (const Shape& shape : op.inputs)
            inputs.push_back(random_tensor(shape, static_cast<uint32_t>(inputs.size())));
        Tensor out = Tensor::empty(op.op->infer(op.inputs));
        const auto run = [&] { op.op->forward(exec, inputs, out, nullptr); };
        const double gflop = 2 * double(op.op->macs(op.inputs)) / 1e9;
        for (const std::string& implementation : family->implementations) {
            force_implementations(family->name + ":" + implementation);
            const double first = milliseconds(run);
            const double median =
                first > kLongestMeasurement ? first : measure(options.runs, run).median;
            const double rate = gflop / median * 1e3;
            console.print(format("%-64s %-14s %12.1f %9.2f", op.problem.c_str(),
                                 implementation.c_str(), median * 1e3, rate));
            rows.push_back(Json::Object{{"problem", op.problem},
                                        {"implementation", implementation},
                                        {"median_us", median * 1e3},
                                        {"gflops", rate}});
        }
    }
    force_implementations("");
    Json json;
    json.set("preset", options.preset);
    json.set("size", options.size);
    json.set("device", exec.device.str());
    json.set("threads", exec.threads);
    json.set("ops", std::move(rows));
    console.result(json);
    return 0;
}

void add_bench_options(Command& command, BenchOptions& options) {
    add_run_options(command, options);
    command.add("--preset", options.preset, "Network").one_of({"paper", "compact", "tiny"});
    command.add("--size", options.size, "Side of the square photo").within(8, 8192);
    command.add("--runs", options.runs, "Timed runs after the warm-up").within(1, 10'000);
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
    BenchOptions& options = command.runs(run_bench_infer);
    add_bench_options(command, options);
    add_path_option(command, options.simple_path);
    command.add("--band-rows", options.band_rows, "Rows of the photo at a time; 0 chooses")
        .within(0, 1 << 20);
    add_weights_option(command, options.weights);
    command.add("--input", options.input,
                "Tensors x and copy (.safetensors) instead of random ones");
    command.add("--output", options.output, "Where the tensor color goes (.safetensors)");
    return command;
}

Command bench_train_command() {
    Command command({
        .name = "bench train",
        .summary = "time a training step",
        .description = "Times a training step: forward, joint loss, backward, optimizer.",
        .examples = "  lumachrome bench train --size 224 --batch 8",
    });
    BenchOptions& options = command.runs(run_bench_train);
    add_bench_options(command, options);
    command.add("--batch", options.batch, "Photos a step").within(2, 65536);
    command.add("--optimizer", options.optimizer, "How gradients change weights")
        .one_of({"adadelta", "adam", "sgd"});
    add_path_option(command, options.simple_path);
    return command;
}

Command bench_ops_command() {
    Command command({
        .name = "bench ops",
        .summary = "time every op",
        .description =
            "Times every op of the network at its real shapes, with every implementation.",
        .examples = "  lumachrome bench ops --filter conv2d",
    });
    BenchOptions& options = command.runs(run_bench_ops);
    add_bench_options(command, options);
    command.add("--filter", options.filter, "Only problems that contain this text");
    return command;
}

}  // namespace lumachrome
