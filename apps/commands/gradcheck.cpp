#include <algorithm>
#include <cmath>
#include <utility>

#include "apps/commands/commands.hpp"
#include "apps/exit_code.hpp"
#include "layers/op_cases.hpp"
#include "model/gradcheck_suite.hpp"
#include "tensor/cuda.hpp"
#include "tensor/error.hpp"
#include "tensor/larger_or_nan.hpp"
#include "tensor/random.hpp"

namespace lumachrome {
namespace {

struct GradcheckCommandOptions : RunOptions {
    std::string op;   // empty: all
    std::string bug;  // a name, "list", "all"; empty: none
    bool explain = false;
};

constexpr size_t kFailuresShown = 10;

int list_bugs(Console& console) {
    Json::Array bugs;
    for (const DerivativeBug& bug : derivative_bugs()) {
        const std::string name = bug.name;
        console.print(format("%-40s ", name.c_str()) + bug.explanation);
        bugs.push_back(Json::Object{{"name", name}, {"explanation", bug.explanation}});
    }
    console.result(Json::Object{{"bugs", std::move(bugs)}});
    return kOk;
}

// The one asked for; else all that can be used.
std::vector<Exec> execs_for(const RunOptions& options, Console& console) {
    RunOptions one = options;
    one.precision = "f32";  // what the tolerances are for; bf16 is checked as a type
    if (options.device != "auto") return {exec_for(one, console)};
    std::vector<Exec> execs;
    one.device = "cpu";
    execs.push_back(exec_for(one, console));
    for (int index = 0; index < cuda::device_count(); ++index) {
        one.device = Device{Device::cuda, index}.str();
        if (cuda::unavailable().empty()) execs.push_back(exec_for(one, console));
    }
    return execs;
}

int try_all_bugs(const std::vector<Exec>& execs, Console& console) {
    Json::Array bugs;
    int64_t caught = 0, total = 0;
    for (const Exec& exec : execs)
        for (const BugVerdict& bug : run_derivative_bugs(exec)) {
            ++total;
            caught += bug.caught;
            console.print(format("%-7s %-7s %-40s ", bug.caught ? "caught" : "MISSED",
                                 exec.device.str().c_str(), bug.name.c_str()) +
                          bug.explanation);
            bugs.push_back(Json::Object{{"name", bug.name},
                                        {"device", exec.device.str()},
                                        {"explanation", bug.explanation},
                                        {"caught", bug.caught}});
        }
    console.print(format("caught %ld of %ld", long{caught}, long{total}));
    console.result(Json::Object{{"caught", caught}, {"total", total}, {"bugs", std::move(bugs)}});
    return caught == total ? kOk : kCheckFailed;
}

double dot(const Tensor& a, const Tensor& b) {
    double sum = 0;
    for (int64_t i = 0; i < a.numel(); ++i) sum += a.item(i) * b.item(i);
    return sum;
}

// phi(h) = <dy, f(x0 + h v)>: its slope at 0 by central differences of step h against the analytic
// one. Large steps err by h^2 (the curve's own bend), small ones by rounding / h: a V.
class StepSizes {
  public:
    StepSizes(const OpCase& c, const Exec& exec) : case_(c), exec_(exec) {
        Random random(3, Random::Purpose::test);
        std::vector<Shape> shapes;
        for (const Tensor& input : c.inputs) shapes.push_back(input.shape());
        const auto fill = [&](const Tensor& t) {
            for (int64_t i = 0; i < t.numel(); ++i) t.data<double>()[i] = random.uniform(-1, 1);
            return t;
        };
        v_ = fill(Tensor::empty(shapes[0], DType::f64));
        dy_ = fill(Tensor::empty(c.op->infer(shapes), DType::f64));

        Tensor y = Tensor::empty(dy_.shape(), DType::f64);
        Saved saved;
        c.op->forward(exec, c.inputs, y, &saved);
        std::vector<GradIn> din(c.inputs.size());
        din[0].grad = Tensor::empty(shapes[0], DType::f64);
        c.op->backward(exec, dy_, saved, din);
        analytic_ = dot(din[0].grad, v_);
    }

    double relative_error(double h, DType dtype) const {
        const double slope = (phi(h, dtype) - phi(-h, dtype)) / (2 * h);
        return std::fabs(slope - analytic_) / std::max(std::fabs(analytic_), 1e-300);
    }

  private:
    double phi(double h, DType dtype) const {
        std::vector<Tensor> in;
        for (const Tensor& input : case_.inputs) in.push_back(input.to(dtype).clone());
        const Tensor moved = case_.inputs[0].clone();
        for (int64_t i = 0; i < moved.numel(); ++i)
            moved.data<double>()[i] += h * v_.data<double>()[i];
        in[0] = moved.to(dtype);
        Tensor y = Tensor::empty(dy_.shape(), dtype);
        case_.op->forward(exec_, in, y, nullptr);
        return dot(dy_, y);
    }

    const OpCase& case_;
    Exec exec_;
    Tensor v_, dy_;
    double analytic_ = 0;
};

// 1e-16 .. 1 as a bar.
std::string bar(double error) {
    constexpr double kCellsPerDecade = 2;
    const double decades = std::clamp(16 + std::log10(std::max(error, 1e-16)), 0.0, 17.0);
    return std::string(static_cast<size_t>(std::lround(decades * kCellsPerDecade)), '#');
}

int explain(const std::string& wanted, const Exec& exec, Console& console) {
    // A linear op's differences are exact for every step; a curved one shows the whole V.
    const std::string name = wanted.empty() ? "batch_norm" : wanted;
    const std::vector<OpFamily> families = op_families();
    const auto family = std::find_if(families.begin(), families.end(),
                                     [&](const OpFamily& f) { return f.name == name; });
    if (family == families.end()) throw UsageError("--op " + name + ": no such op");
    // Of the activations, the sigmoid: ReLU has no curve.
    auto chosen = std::find_if(family->cases.begin(), family->cases.end(), [](const OpCase& c) {
        return c.smooth && c.differentiable[0] && c.op->name() != "relu";
    });
    if (chosen == family->cases.end()) chosen = family->cases.begin();
    const StepSizes steps(*chosen, exec);

    console.print(name + " (" + chosen->description + "), slope along a random direction of x0:");
    console.print("relative error of central differences against the backward pass, by step size");
    console.print("  step      f32       f64     f64 from 1e-16 to 1");
    Json::Array curve;
    for (int exponent = 1; exponent <= 12; ++exponent) {
        const double h = std::pow(10.0, -exponent);
        const double f32 = steps.relative_error(h, DType::f32);
        const double f64 = steps.relative_error(h, DType::f64);
        console.print(format("  1e-%02d  %.1e  %.1e  ", exponent, f32, f64) + bar(f64));
        curve.push_back(Json::Object{{"step", h}, {"error_f32", f32}, {"error_f64", f64}});
    }
    console.print(
        "Large steps see the curve bend (error ~ step^2), small ones the rounding of the "
        "difference\n(error ~ precision / step); in f32 even the best step is poor. The suite "
        "therefore differences\nin f64 and checks f32 by dual numbers, which have no step.");
    console.result(
        Json::Object{{"op", name}, {"case", chosen->description}, {"steps", std::move(curve)}});
    return kOk;
}

int run_gradcheck_command(const GradcheckCommandOptions& options, Console& console) {
    const std::vector<Exec> execs = execs_for(options, console);
    if (options.bug == "list") return list_bugs(console);
    if (options.bug == "all") return try_all_bugs(execs, console);
    // The shape of the curve is a matter of the op, not of who computes it.
    if (options.explain) return explain(options.op, {.threads = execs[0].threads}, console);

    GradcheckReport report;
    Json::Array ops, devices;
    bool first = true;
    const auto head = [&] {  // after the first device: a wrong name has been refused by then
        if (!std::exchange(first, false)) return;
        console.print(format("%-8s %-34s %-14s %7s %7s %12s", "device", "op", "implementation",
                             "checks", "failed", "worst error"));
    };
    for (const Exec& exec : execs) {
        const std::string device = exec.device.str();
        devices.push_back(device);
        const GradcheckReport part = run_gradcheck(exec, {options.op, options.bug});
        head();
        for (const OpVerdict& op : part.ops) {
            console.print(format("%-8s %-34s %-14s %7ld %7ld %12.2e", device.c_str(),
                                 op.name.c_str(), op.implementation.c_str(), long{op.checks},
                                 long{op.failed}, op.worst_relative_error));
            ops.push_back(Json::Object{{"name", op.name},
                                       {"device", device},
                                       {"implementation", op.implementation},
                                       {"checks", op.checks},
                                       {"failed", op.failed},
                                       {"worst_relative_error", op.worst_relative_error}});
        }
        report.checks += part.checks;
        report.failed += part.failed;
        report.worst_relative_error =
            larger_or_nan(report.worst_relative_error, part.worst_relative_error);
        report.failures.insert(report.failures.end(), part.failures.begin(), part.failures.end());
    }
    Json::Array failures;
    for (const GradCheck& check : report.failures) {
        const bool shown = failures.size() < kFailuresShown;
        failures.push_back(Json::Object{{"op", check.op},
                                        {"implementation", check.implementation},
                                        {"what", check.what},
                                        {"relative_error", check.relative_error},
                                        {"tolerance", check.tolerance}});
        if (shown)
            console.print(format("FAILED %s (%s), %s: error %.2e, tolerance %.2e", check.op.c_str(),
                                 check.implementation.c_str(), check.what.c_str(),
                                 check.relative_error, check.tolerance));
    }
    if (failures.size() > kFailuresShown)
        console.print(format("... and %zu more", failures.size() - kFailuresShown));
    console.print(format("%ld checks, %ld failed, worst relative error %.2e", long{report.checks},
                         long{report.failed}, report.worst_relative_error));
    Json json;
    json.set("checks", report.checks);
    json.set("failed", report.failed);
    json.set("worst_relative_error", report.worst_relative_error);
    json.set("devices", std::move(devices));
    json.set("ops", std::move(ops));
    json.set("failures", std::move(failures));
    if (!options.bug.empty()) json.set("broken", options.bug);
    console.result(json);
    if (!options.bug.empty() && report.failed == 0)
        console.error("--break " + options.bug + ": no check noticed");
    return report.failed > 0 || !options.bug.empty() ? kCheckFailed : kOk;
}

}  // namespace

Command gradcheck_command() {
    Command command({
        .name = "gradcheck",
        .summary = "check every derivative",
        .description = "Checks every derivative: by dual numbers and by finite differences.",
        .examples =
            "  lumachrome gradcheck\n"
            "  lumachrome gradcheck --op conv2d\n"
            "  lumachrome gradcheck --op batch_norm --explain      error against step size\n"
            "  lumachrome gradcheck --break all                    do the checks see known bugs?",
    });
    GradcheckCommandOptions& options = command.runs(run_gradcheck_command);
    add_run_options(command, options);
    command.add("--op", options.op, "Only this op family, or network");
    command.add("--break", options.bug, "Inject a known bug: a name, list or all");
    command.add("--explain", options.explain, "Error against step size for one op")
        .excludes({"--break"});
    return command;
}

}  // namespace lumachrome
