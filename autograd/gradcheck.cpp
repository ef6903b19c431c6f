#include "autograd/gradcheck.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tensor/error.hpp"
#include "tensor/larger_or_nan.hpp"
#include "tensor/random.hpp"

namespace lumachrome {
namespace {

using Duals = std::vector<Dual>;

Tensor random_like(const Shape& shape, Random& random) {
    const Tensor t = Tensor::empty(shape, DType::f64);
    for (int64_t i = 0; i < t.numel(); ++i) t.data<double>()[i] = random.uniform(-1, 1);
    return t;
}

Tensor basis(const Shape& shape, int64_t index) {
    const Tensor t = Tensor::zeros(shape, DType::f64);
    t.data<double>()[index] = 1;
    return t;
}

// In double, where the CPU can read it.
Tensor here(const Tensor& t) {
    return t.to(Device{}).to(DType::f64);
}

Duals duals(const Tensor& value, const Tensor* direction) {
    const Tensor wide = here(value);
    Duals out(static_cast<size_t>(wide.numel()));
    for (size_t i = 0; i < out.size(); ++i)
        out[i] = {wide.data<double>()[i], direction ? direction->data<double>()[i] : 0};
    return out;
}

// An inner product with the magnitude of its terms, the yardstick of its error.
struct Inner {
    double sum = 0, magnitude = 0;
    void add(double term) {
        sum += term;
        magnitude += std::fabs(term);
    }
};

double relative(const Inner& a, const Inner& b) {
    const double scale = larger_or_nan(a.magnitude, b.magnitude);
    return scale == 0 ? 0 : std::fabs(a.sum - b.sum) / scale;
}

Inner inner(const Tensor& a, const Tensor& b) {
    const Tensor wa = here(a), wb = here(b);
    Inner result;
    for (int64_t i = 0; i < wa.numel(); ++i)
        result.add(wa.data<double>()[i] * wb.data<double>()[i]);
    return result;
}

// Largest difference, relative to the largest value.
double max_relative(const Tensor& a, const Tensor& b) {
    const Tensor wa = here(a), wb = here(b);
    double error = 0, scale = 1e-300;
    for (int64_t i = 0; i < wa.numel(); ++i) {
        const double difference = std::fabs(wa.data<double>()[i] - wb.data<double>()[i]);
        error = larger_or_nan(error, difference);
        scale = std::max(scale, std::fabs(wb.data<double>()[i]));
    }
    return error / scale;
}

// One op at one dtype, run forward and backward.
class Trial {
  public:
    Trial(const OpCase& c, const Exec& exec, DType dtype, Random& random) : case_(c), exec_(exec) {
        std::vector<Shape> shapes;
        std::vector<DType> types;
        for (size_t k = 0; k < c.inputs.size(); ++k) {
            const bool wide = dtype == DType::bf16 && k >= c.first_parameter;
            inputs_.push_back(c.inputs[k].to(wide ? DType::f32 : dtype).to(exec.device));
            shapes.push_back(c.inputs[k].shape());
            types.push_back(inputs_.back().dtype());
        }
        output = Tensor::empty(c.op->infer(shapes), c.op->result_type(types), exec.device);
        output.fill(std::numeric_limits<double>::quiet_NaN());
        c.op->forward(exec, inputs_, output, &saved_);
        dout = random_like(output.shape(), random).to(output.dtype()).to(exec.device);
        grads = backward(std::vector<bool>(c.inputs.size(), true), nullptr);
    }

    // Gradients of the wanted inputs: NaN-filled and assigned, or added to `prefill`.
    std::vector<Tensor> backward(std::vector<bool> wanted,
                                 const std::vector<Tensor>* prefill) const {
        std::vector<Tensor> result(inputs_.size());
        std::vector<GradIn> din(inputs_.size());
        for (size_t k = 0; k < inputs_.size(); ++k) {
            if (!case_.differentiable[k] || !wanted[k]) continue;
            if (prefill) {
                result[k] = (*prefill)[k].clone();
            } else {
                result[k] = Tensor::empty(inputs_[k].shape(), inputs_[k].dtype(), exec_.device);
                result[k].fill(std::numeric_limits<double>::quiet_NaN());
            }
            din[k] = {result[k], prefill ? 1.0f : 0.0f};
        }
        case_.op->backward(exec_, dout, saved_, din);
        return result;
    }

    // The definition's output, with the derivative along `direction` of input k (k < 0: none).
    Duals define(int k, const Tensor& direction) const {
        std::vector<Duals> values;
        std::vector<View<const Dual>> views;
        for (size_t i = 0; i < inputs_.size(); ++i)
            values.push_back(duals(inputs_[i], static_cast<int>(i) == k ? &direction : nullptr));
        for (size_t i = 0; i < inputs_.size(); ++i)
            views.push_back({values[i].data(), inputs_[i].shape()});
        Duals out(static_cast<size_t>(output.numel()));
        case_.op->define(views, {out.data(), output.shape()});
        return out;
    }

    // phi(h) = <dout, f(x + h v)> with v along input k.
    double phi(size_t k, const Tensor& v, double h) const {
        std::vector<Tensor> moved = inputs_;
        const Tensor at = inputs_[k].to(Device{}).clone();
        for (int64_t i = 0; i < v.numel(); ++i) at.data<double>()[i] += h * v.data<double>()[i];
        moved[k] = at.to(exec_.device);
        Tensor out = Tensor::empty(output.shape(), output.dtype(), exec_.device);
        case_.op->forward(exec_, moved, out, nullptr);
        return inner(dout, out).sum;
    }

    Tensor output, dout;
    std::vector<Tensor> grads;

  private:
    const OpCase& case_;
    Exec exec_;
    std::vector<Tensor> inputs_;
    Saved saved_;
};

// Sixth-order central difference: the error is O(step^6) + O(rounding / step).
double difference(const std::function<double(double)>& phi, double step) {
    const auto odd = [&](double h) { return phi(h) - phi(-h); };
    return (45 * odd(step) - 9 * odd(2 * step) + odd(3 * step)) / (60 * step);
}

// Batch norm over few channels bends a network much more than any single op.
constexpr double kOpStep = 1e-3, kNetworkStep = 2e-4;

}  // namespace

std::vector<GradCheck> check_op(const OpCase& c, const Exec& exec,
                                const std::string& implementation, uint64_t seed) {
    std::vector<GradCheck> checks;
    std::vector<DType> dtypes = {DType::f64, DType::f32};
    if (exec.device.kind == Device::cuda && c.bf16) dtypes.push_back(DType::bf16);
    for (DType dtype : dtypes) {
        Random random(seed, Random::Purpose::test);
        const std::string type = name(dtype);
        const auto record = [&](const std::string& what, double error, double limit) {
            checks.push_back(
                {c.op->name(), implementation, c.description + ": " + what, error, limit});
        };
        const Trial trial(c, exec, dtype, random);
        const DType result = trial.output.dtype();
        const DType coarser = size_in_bytes(result) < size_in_bytes(dtype) ? result : dtype;
        const double tolerance = coarser == DType::bf16  ? kDualToleranceBf16
                                 : coarser == DType::f32 ? kDualToleranceF32
                                                         : kDualToleranceF64;

        const Duals defined = trial.define(-1, {});
        Tensor expected = Tensor::empty(trial.output.shape(), DType::f64);
        for (size_t i = 0; i < defined.size(); ++i) expected.data<double>()[i] = defined[i].value;
        record("value " + type, max_relative(trial.output, expected), tolerance);

        std::vector<Tensor> prefill(c.inputs.size());
        for (size_t k = 0; k < c.inputs.size(); ++k)
            prefill[k] = random_like(c.inputs[k].shape(), random)
                             .to(trial.grads[k].defined() ? trial.grads[k].dtype() : dtype)
                             .to(exec.device);
        const std::vector<Tensor> accumulated =
            trial.backward(std::vector<bool>(c.inputs.size(), true), &prefill);

        for (size_t k = 0; k < c.inputs.size(); ++k) {
            if (!c.differentiable[k]) continue;
            const std::string input = " x" + std::to_string(k);
            const Shape& shape = c.inputs[k].shape();
            std::vector<std::pair<std::string, Tensor>> directions;
            for (int i = 0; i < 2; ++i)
                directions.emplace_back("direction " + std::to_string(i),
                                        random_like(shape, random));
            for (int64_t i = 0; i < std::min<int64_t>(6, shape.numel()); ++i) {
                const int64_t index = random.below(shape.numel());
                directions.emplace_back("element " + std::to_string(index), basis(shape, index));
            }
            for (const auto& [label, v] : directions) {
                const Inner backward = inner(trial.grads[k], v);
                const Duals jv = trial.define(static_cast<int>(k), v);
                Inner forward;
                const Tensor dout = here(trial.dout);
                for (size_t i = 0; i < jv.size(); ++i)
                    forward.add(dout.data<double>()[i] * jv[i].derivative);
                record("dual " + type + input + " " + label, relative(forward, backward),
                       tolerance);
                if (coarser != DType::f64 || !c.smooth) continue;
                Inner quotient = forward;  // its magnitude is the scale
                quotient.sum = difference(
                    [&, &along = v](double h) { return trial.phi(k, along, h); }, kOpStep);
                record("finite f64" + input + " " + label, relative(quotient, backward),
                       kFiniteTolerance);
            }
            const Tensor sum = here(prefill[k]).clone(), grad = here(trial.grads[k]);
            for (int64_t i = 0; i < sum.numel(); ++i)
                sum.data<double>()[i] += grad.data<double>()[i];
            record("accumulate " + type + input, max_relative(accumulated[k], sum), tolerance);

            std::vector<bool> only(c.inputs.size());
            only[k] = true;
            const Tensor alone = trial.backward(only, nullptr)[k];
            record("alone " + type + input, bit_equal(alone, trial.grads[k]) ? 0 : 1, 0);
        }
    }
    return checks;
}

std::vector<GradCheck> check_network(
    const std::string& network, const Exec& exec, const std::function<Var(Tape&)>& build,
    const std::vector<std::pair<std::string, Parameter*>>& parameters, int directions,
    double dual_tolerance, double finite_tolerance, uint64_t seed) {
    Tape tape(Phase::train, exec);
    const Var root = build(tape);
    std::vector<Shape> shapes;
    for (const Tape::Node& node : tape.nodes()) shapes.push_back(node.value.shape());

    // Forward mode through the recorded ops by their definitions.
    const auto derivative = [&](const Parameter* along, const Tensor& v) {
        std::vector<Duals> values;
        for (size_t i = 0; i < tape.nodes().size(); ++i) {
            const Tape::Node& node = tape.nodes()[i];
            if (!node.op) {
                values.push_back(duals(node.value, node.parameter == along ? &v : nullptr));
                continue;
            }
            std::vector<View<const Dual>> in;
            for (int k : node.inputs)
                in.push_back(
                    {values[static_cast<size_t>(k)].data(), shapes[static_cast<size_t>(k)]});
            Duals out(static_cast<size_t>(shapes[i].numel()));
            node.op->define(in, {out.data(), shapes[i]});
            values.push_back(std::move(out));
        }
        return values[static_cast<size_t>(root.node)][0].derivative;
    };
    const auto loss_at = [&](Parameter& p, const Tensor& v, double h) {
        const Tensor kept = p.value;
        const Tensor at = kept.to(Device{}).clone();
        for (int64_t i = 0; i < v.numel(); ++i) at.data<double>()[i] += h * v.data<double>()[i];
        p.value = at.to(exec.device);
        Tape moved(Phase::train, exec);
        const double loss = build(moved).value.item();
        p.value = kept;
        return loss;
    };

    Random random(seed, Random::Purpose::test, 1);
    struct Pending {
        std::string what;
        Parameter* parameter;
        Tensor v;
        double dual, finite;
    };
    std::vector<Pending> pending;
    for (const auto& [label, p] : parameters)
        for (int i = 0; i < directions; ++i) {
            const bool dense = i % 2 == 0;
            const Shape& shape = p->value.shape();
            Pending next{
                label + (dense ? " direction" : " element"), p,
                dense ? random_like(shape, random) : basis(shape, random.below(shape.numel())), 0,
                0};
            next.dual = derivative(p, next.v);
            if (finite_tolerance > 0)
                next.finite = difference(
                    [&, parameter = p](double h) { return loss_at(*parameter, next.v, h); },
                    kNetworkStep);
            pending.push_back(std::move(next));
        }
    tape.backward({{root, 1.0}});
    std::vector<GradCheck> checks;
    for (const Pending& next : pending) {
        const Inner backward = inner(next.parameter->grad, next.v);
        // A gradient whose true value is 0 (a bias in front of batch norm) is compared absolutely.
        const double floor = next.parameter->value.dtype() == DType::f32 ? 1e-3 : 1e-4;
        const auto error = [&](double reference) {
            const double scale = std::max({backward.magnitude, std::fabs(reference), floor});
            return std::fabs(reference - backward.sum) / scale;
        };
        const std::string type = name(next.parameter->value.dtype());
        checks.push_back({network, type, "dual " + next.what, error(next.dual), dual_tolerance});
        if (finite_tolerance > 0)
            checks.push_back(
                {network, type, "finite " + next.what, error(next.finite), finite_tolerance});
    }
    return checks;
}

}  // namespace lumachrome
