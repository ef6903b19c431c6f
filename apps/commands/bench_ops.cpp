// Every op of the network at its real shapes, with every implementation; and the floor under each.
#include <algorithm>
#include <numeric>
#include <set>

#include "apps/commands/measure.hpp"
#include "layers/op_cases.hpp"
#include "model/infer/inference.hpp"
#include "tensor/choose.hpp"
#include "tensor/cuda.hpp"
#include "tensor/isa.hpp"

namespace lumachrome {
namespace {

struct BenchOpsOptions : BenchOptions {
    std::string filter;
};

constexpr double kLongestMeasurement = 2000;  // ms; slower ops are measured once

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

class OpsTable {
  public:
    OpsTable(const BenchOpsOptions& options, const Exec& exec, Console& console)
        : options_(options), exec_(exec), console_(console) {
        if (on_gpu()) {
            ceiling_ = {0, copied_on_gpu()};
            console_.print(
                format("here and now: %.0f GB/s copied\n", ceiling_.gigabytes_per_second));
            console_.print(format("%-84s %-12s %11s %9s %9s", "problem", "kernel", "mean us",
                                  "GFLOP/s", "GB/s"));
            return;
        }
        ceiling_ = measure_ceiling(exec);
        console_.print(format("here and now: %.0f GFLOP/s in registers, %.1f GB/s copied\n",
                              ceiling_.gflops, ceiling_.gigabytes_per_second));
        console_.print(format("%-72s %-12s %11s %9s %6s", "problem", "kernel", "median us",
                              "GFLOP/s", "floor"));
    }
    bool on_gpu() const { return exec_.device.kind == Device::cuda; }
    const BenchOpsOptions& options() const { return options_; }
    const Exec& exec() const { return exec_; }
    const Ceiling& ceiling() const { return ceiling_; }
    bool wants(const std::string& problem) const {
        return problem.find(options_.filter) != std::string::npos;
    }
    // `gflop` of the definition; `products` is the share of them that the kernel multiplies.
    void add(const std::string& problem, const std::string& implementation, double gflop,
             double products, double bytes, const std::function<void()>& run) {
        if (on_gpu()) return add_gpu(problem, implementation, gflop, bytes, run);
        const double first = milliseconds(run);
        const double median =
            first > kLongestMeasurement ? first : measure(options_.runs, run).median;
        const double rate = gflop / median * 1e3;
        const double floor = ceiling_.floor(gflop * products / 2 * 1e9, bytes);
        console_.print(format("%-72s %-12s %11.1f %9.2f %4.0f %%", problem.c_str(),
                              implementation.c_str(), median * 1e3, rate, 100 * floor / median));
        rows_.push_back(Json::Object{{"problem", problem},
                                     {"implementation", implementation},
                                     {"median_us", median * 1e3},
                                     {"gflops", rate},
                                     {"floor_us", floor * 1e3}});
    }
    Json::Array take_rows() { return std::move(rows_); }

  private:
    // The GPU works through a queue: what counts is the time from one end to the other.
    double mean_on_gpu(const std::function<void()>& run) const {
        const auto all = [&] {
            for (int64_t i = 0; i < options_.runs; ++i) run();
            cuda::synchronize(exec_.device);
        };
        run();
        cuda::synchronize(exec_.device);
        return milliseconds(all) / double(options_.runs);
    }
    double copied_on_gpu() const {
        const Tensor from = Tensor::empty({64, 1 << 20}, DType::f32, exec_.device);
        const Tensor to = Tensor::empty(from.shape(), DType::f32, exec_.device);
        return 2 * double(from.bytes()) / mean_on_gpu([&] { to.copy_from(from); }) / 1e6;
    }
    void add_gpu(const std::string& problem, const std::string& implementation, double gflop,
                 double bytes, const std::function<void()>& run) {
        const double mean = mean_on_gpu(run), rate = gflop / mean * 1e3, moved = bytes / mean / 1e6;
        console_.print(format("%-84s %-12s %11.1f %9.0f %9.0f", problem.c_str(),
                              implementation.c_str(), mean * 1e3, rate, moved));
        rows_.push_back(Json::Object{{"problem", problem},
                                     {"implementation", implementation},
                                     {"mean_us", mean * 1e3},
                                     {"gflops", rate},
                                     {"gigabytes_per_second", moved}});
    }

    const BenchOpsOptions& options_;
    const Exec& exec_;
    Console& console_;
    Ceiling ceiling_{};
    Json::Array rows_;
};

// Convolutions as inference runs them. The definition, in double, is left out.
void add_prepared(OpsTable& table, ColorNet& net) {
    const Exec& exec = table.exec();
    Inference inference(net, exec, {.plan = {.band_rows = table.options().size}});
    std::set<std::string> seen;
    for (const auto& step : inference.at(table.options().size, table.options().size).plan().steps) {
        const PreparedConv2dProblem* p = step->convolution();
        const std::string problem = "prepared " + step->problem();
        if (!p || !table.wants(problem) || !seen.insert(problem).second) continue;
        const Tensor x = random_tensor({p->H, p->W, p->C}, 1),
                     w = random_tensor({p->K, p->spec.kernel, p->spec.kernel, p->C}, 2, -1, 1),
                     b = random_tensor({16, p->K}, 3), y = Tensor::empty({p->P, p->Q, p->K});
        for (const PreparedConv2dImpl& implementation : conv2d_prepared_cpu()) {
            if (implementation.reject(*p) || implementation.name == std::string("naive")) continue;
            const PreparedConv2dKernel& kernel = implementation.kernel;
            const Tensor packed = kernel.pack(exec, *p, w);
            const double macs = double(y.numel()) * double(w.numel() / p->K);
            table.add(problem, implementation.name, 2 * macs / 1e9, kernel.products,
                      double(x.bytes() + y.bytes() + packed.bytes()), [&] {
                          kernel.run(exec, *p, packed, b.data<float>(),
                                     {x.data<float>(), {0, p->H}}, {y.data<float>(), {0, p->P}});
                      });
        }
    }
}

// The same on a GPU.
void add_prepared_gpu(OpsTable& table, ColorNet& net) {
    const Exec& exec = table.exec();
    Inference inference(net, exec);
    std::set<std::string> seen;
    for (const GpuStep& step :
         inference.on_gpu(table.options().size, table.options().size).plan().steps) {
        const std::string problem = "prepared " + step.problem;
        if (!step.convolution || !table.wants(problem) || !seen.insert(problem).second) continue;
        const PreparedConv2dGpuProblem& p = *step.convolution;
        const Tensor w = random_tensor({p.K, p.spec.kernel, p.spec.kernel, p.C}, 2, -1, 1);
        const Tensor x = random_tensor({p.N, p.H, p.W, p.C}, 1).to(p.in).to(exec.device),
                     b = random_tensor({p.N, 16 * p.K}, 3).to(exec.device),
                     y = Tensor::empty({p.N, p.P, p.Q, p.K}, p.out, exec.device);
        for (const PreparedConv2dGpuImpl& implementation : conv2d_prepared_cuda()) {
            if (implementation.reject(p)) continue;
            const Tensor packed = implementation.kernel.pack(exec, p, w);
            const double macs = double(y.numel()) * double(w.numel() / p.K);
            table.add(problem, implementation.name, 2 * macs / 1e9, implementation.kernel.products,
                      double(x.bytes() + y.bytes() + packed.bytes()),
                      [&] { implementation.kernel.run(exec, p, x, packed, b, y); });
        }
    }
}

// Ops as training runs them, forward.
void add_eager(OpsTable& table, ColorNet& net) {
    const Exec& exec = table.exec();
    net.to(exec.device);
    const std::vector<OpFamily> families = op_families(exec.device);
    for (const NetworkOp& op : network_ops(net, table.options().size)) {
        const OpFamily* family = family_of(families, op.op->name());
        if (!family || !table.wants(op.problem)) continue;
        std::vector<Tensor> inputs;
        double bytes = 0;
        for (const Shape& shape : op.inputs) {
            const bool parameter = inputs.size() >= family->cases[0].first_parameter;
            inputs.push_back(random_tensor(shape, static_cast<uint32_t>(inputs.size()))
                                 .to(parameter ? DType::f32 : exec.maps)
                                 .to(exec.device));
            bytes += double(inputs.back().bytes());
        }
        Tensor out = Tensor::empty(op.op->infer(op.inputs), exec.maps, exec.device);
        bytes += double(out.bytes());
        const double gflop = 2 * double(op.op->macs(op.inputs)) / 1e9;
        for (const std::string& implementation : family->implementations) {
            const ForcedImplementations forced(family->name + ":" + implementation);
            table.add(op.problem, implementation, gflop, implementation == "winograd" ? 0.25 : 1,
                      bytes, [&] { op.op->forward(table.exec(), inputs, out, nullptr); });
        }
    }
}

int run_bench_ops(const BenchOpsOptions& options, Console& console) {
    check_size(options.size);
    const Exec exec = exec_for(options, console);
    ColorNet net(preset(options.preset), kBenchSeed);
    OpsTable table(options, exec, console);
    if (exec.device.kind == Device::cuda)
        add_prepared_gpu(table, net);
    else
        add_prepared(table, net);
    add_eager(table, net);
    Json json;
    json.set("preset", options.preset);
    json.set("size", options.size);
    json.set("device", exec.device.str());
    json.set("threads", exec.threads);
    json.set("isa", std::string(name(isa())));
    if (exec.device.kind == Device::cuda)
        json.set("precision", precision_name(exec));
    else
        json.set("peak_gflops", table.ceiling().gflops);
    json.set("copy_gigabytes_per_second", table.ceiling().gigabytes_per_second);
    json.set("ops", table.take_rows());
    console.result(json);
    return 0;
}

}  // namespace

Command bench_ops_command() {
    Command command({
        .name = "bench ops",
        .summary = "time every op",
        .description =
            "Times every op of the network at its real shapes, with every implementation. "
            "The last column is the share of the floor: products or bytes at the rates measured "
            "first; of a GPU the bytes it moved.",
        .examples = "  lumachrome bench ops --filter conv2d",
    });
    BenchOpsOptions& options = command.runs(run_bench_ops);
    add_bench_options(command, options);
    add_precision_option(command, options);
    command.add("--filter", options.filter, "Only problems that contain this text");
    return command;
}

}  // namespace lumachrome
