#include "model/gradcheck_suite.hpp"

#include <algorithm>
#include <cmath>

#include "layers/cross_entropy.hpp"
#include "layers/mse_loss.hpp"
#include "layers/op_cases.hpp"
#include "model/colornet.hpp"
#include "tensor/error.hpp"
#include "tensor/larger_or_nan.hpp"
#include "tensor/random.hpp"

namespace lumachrome {
namespace {

constexpr uint64_t kSeed = 11;
// A derivative of the whole network in f32 gathers the rounding of some 60 layers of backward.
constexpr double kNetworkToleranceF64 = 1e-9, kNetworkToleranceF32 = 5e-3;

void add(GradcheckReport& report, const std::vector<GradCheck>& checks) {
    for (const GradCheck& check : checks) {
        auto verdict = std::find_if(report.ops.begin(), report.ops.end(), [&](const OpVerdict& v) {
            return v.name == check.op && v.implementation == check.implementation;
        });
        if (verdict == report.ops.end())
            verdict =
                report.ops.insert(report.ops.end(), {check.op, check.implementation, 0, 0, 0});
        const bool passed = check.passed();
        ++verdict->checks;
        ++report.checks;
        verdict->failed += !passed;
        report.failed += !passed;
        for (double* worst : {&verdict->worst_relative_error, &report.worst_relative_error})
            *worst = larger_or_nan(*worst, check.relative_error);
        if (!passed) report.failures.push_back(check);
    }
}

Tensor random_tensor(Shape shape, uint32_t stream, DType dtype) {
    Random random(kSeed, Random::Purpose::test, stream);
    const Tensor t = Tensor::empty(shape, dtype);
    dispatch_float(dtype, [&](auto v) {
        using T = decltype(v);
        for (int64_t i = 0; i < t.numel(); ++i) t.data<T>()[i] = static_cast<T>(random.uniform());
    });
    return t;
}

struct NetworkCase {
    std::string name;
    Spec spec;
    bool one_pass;  // photo and copy are the same: one low-level pass
};

std::vector<NetworkCase> network_cases() {
    Spec base = preset("tiny");
    base.width_divisor = 32;
    base.global_size = 16;
    base.classes = 3;
    std::vector<NetworkCase> cases;
    for (Activation activation : {Activation::relu, Activation::sigmoid})
        for (int64_t kernel : {1, 3}) {
            Spec spec = base;
            spec.activation = activation;
            spec.fusion_kernel = kernel;
            const std::string name = std::string("network ") + lumachrome::name(activation) +
                                     " fusion " + std::to_string(kernel);
            cases.push_back({name + " two passes", spec, false});
            cases.push_back({name + " one pass", spec, true});
        }
    Spec spec = base;
    spec.use_global = false;
    cases.push_back({"network without global branch", spec, false});
    spec = base;
    spec.dropout = 0.3;
    cases.push_back({"network with dropout", spec, false});
    spec = base;
    spec.batch_norm = false;
    spec.activation = Activation::sigmoid;
    cases.push_back({"network without batch norm", spec, false});
    return cases;
}

// The joint loss as one root. Its alpha is large here, so that neither term hides the other.
struct WeightedSum : Op {
    static constexpr double kAlpha = 0.1;
    std::string name() const override { return "weighted_sum"; }
    Shape infer(std::span<const Shape>) const override { return {}; }
    void forward(const Exec&, std::span<const Tensor> in, Tensor& out, Saved*) const override {
        out.fill(in[0].item() + kAlpha * in[1].item());  // waits, which a check may
    }
    void backward(const Exec&, const Tensor& dout, const Saved&,
                  std::span<const GradIn> din) const override {
        if (din[0]) din[0].grad.fill(dout.item());
        if (din[1]) din[1].grad.fill(kAlpha * dout.item());
    }
    void define(std::span<const View<const Dual>> in, View<Dual> out) const override {
        out.data[0] = in[0].data[0] + Dual(kAlpha) * in[1].data[0];
    }
};

std::vector<GradCheck> check(const NetworkCase& c, const Exec& exec, DType dtype) {
    ColorNet net(c.spec, kSeed);
    net.cast(dtype);
    net.to(exec.device);
    const int64_t N = 4, S = c.spec.global_size;
    const Tensor x = random_tensor({N, S, c.one_pass ? S : S + 8, 1}, 1, dtype);
    const Tensor copy = random_tensor({N, S, S, 1}, 2, dtype);
    const Tensor target = random_tensor({N, S / 2, x.shape()[2] / 2, 2}, 3, dtype);
    const Labels labels{1, -1, 2, 0};
    const auto build = [&](Tape& tape) {
        const Var vx = tape.input(x.to(exec.device));
        const Var vcopy = c.one_pass ? vx : tape.input(copy.to(exec.device));
        const ColorNet::Output output = net(vx, vcopy);
        const Var color = mse_loss(output.color, tape.input(target.to(exec.device)));
        if (!output.logits) return color;
        return tape.apply(std::make_shared<WeightedSum>(),
                          {color, cross_entropy(*output.logits, labels)});
    };
    std::vector<std::pair<std::string, Parameter*>> parameters;
    net.visit([&](const std::string& name, Parameter& p) {
        if (p.trainable) parameters.emplace_back(name, &p);
    });
    // A difference quotient steps over the kinks of ReLU; the dual numbers do not.
    const bool smooth = c.spec.activation == Activation::sigmoid;
    const double finite = dtype == DType::f64 && smooth ? kFiniteTolerance : 0;
    const double dual = dtype == DType::f64 ? kNetworkToleranceF64 : kNetworkToleranceF32;
    return check_network(c.name, exec, build, parameters, 2, dual, finite, kSeed);
}

}  // namespace

GradcheckReport run_gradcheck(const Exec& exec, const GradcheckOptions& options) {
    const auto bugs = derivative_bugs();
    const auto bug = std::find_if(bugs.begin(), bugs.end(),
                                  [&](const DerivativeBug& b) { return b.name == options.bug; });
    if (!options.bug.empty() && bug == bugs.end())
        throw UsageError("--break " + options.bug + ": no such bug; --break list names them");
    GradcheckReport report;
    bool known = options.op.empty() || options.op == "network";
    for (const OpFamily& family : op_families(exec.device)) {
        if (!options.op.empty() && options.op != family.name) continue;
        known = true;
        if (bug != bugs.end() && bug->family != family.name) continue;
        const auto cases = bug != bugs.end() ? broken(family.cases, *bug) : family.cases;
        for (const std::string& implementation : family.implementations) {
            const ForcedImplementations forced(family.name + ":" + implementation);
            for (const OpCase& c : cases) {
                auto checks = check_op(c, exec, implementation, kSeed);
                for (GradCheck& check : checks) check.op = family.name;
                add(report, checks);
            }
        }
    }
    if (!known) throw UsageError("--op " + options.op + ": no such op");
    if ((options.op.empty() || options.op == "network") && options.bug.empty())
        for (const NetworkCase& c : network_cases())
            for (DType dtype : {DType::f64, DType::f32}) add(report, check(c, exec, dtype));
    return report;
}

std::vector<BugVerdict> run_derivative_bugs(const Exec& exec) {
    std::vector<BugVerdict> verdicts;
    for (const DerivativeBug& bug : derivative_bugs()) {
        const GradcheckReport report = run_gradcheck(exec, {"", bug.name});
        verdicts.push_back({bug.name, bug.explanation, report.failed > 0});
    }
    return verdicts;
}

}  // namespace lumachrome
