#include "train/optimizers.hpp"

#include <cmath>

#include "tensor/error.hpp"

namespace lumachrome {

OptimizerSpec optimizer_spec(const std::string& rule) {
    OptimizerSpec spec;
    if (rule == "adadelta") return spec;
    if (rule == "adam" || rule == "adamw") {
        spec.rule = OptimizerSpec::adam;
        spec.learning_rate = 1e-3;
        spec.epsilon = 1e-8;
        spec.weight_decay = rule == "adamw" ? 0.01 : 0;
        return spec;
    }
    if (rule == "sgd") {
        spec.rule = OptimizerSpec::sgd;
        spec.learning_rate = 0.01;
        return spec;
    }
    throw UsageError("optimizer \"" + rule + "\" is not one of adadelta, adam, adamw, sgd");
}

const char* name(OptimizerSpec::Rule rule) {
    constexpr const char* kNames[] = {"adadelta", "adam", "sgd"};
    return kNames[rule];
}

void Optimizer::add(const std::string& name, Parameter& p) {
    if (!p.trainable) return;
    Slot slot{name, &p, Tensor::zeros(p.value.shape(), p.value.dtype()), {}};
    if (spec_.rule != OptimizerSpec::sgd) slot.second = slot.first.clone();
    slots_.push_back(std::move(slot));
}

void Optimizer::step(const Exec& exec, double rate_factor, double gradient_factor) {
    ++steps_;
    const double rate = spec_.learning_rate * rate_factor;
    const double correction1 = 1 - std::pow(spec_.beta1, double(steps_));
    const double correction2 = 1 - std::pow(spec_.beta2, double(steps_));
    for (Slot& slot : slots_) {
        Parameter& p = *slot.parameter;
        if (!p.grad.defined()) continue;
        ++p.version;
        dispatch_float(p.value.dtype(), [&](auto t) {
            using T = decltype(t);
            T *w = p.value.data<T>(), *s1 = slot.first.data<T>();
            T* s2 = slot.second.defined() ? slot.second.data<T>() : nullptr;
            const T* grad = p.grad.data<T>();
            const T scale = T(gradient_factor);
            const T lr = T(rate), eps = T(spec_.epsilon), decay = T(rate * spec_.weight_decay);
            const T rho = T(spec_.rho), b1 = T(spec_.beta1), b2 = T(spec_.beta2);
            const T momentum = T(spec_.momentum), step_size = T(rate / correction1);
            const T root2 = T(std::sqrt(correction2));
            parallel_chunks(exec, p.value.numel(), [&](int64_t begin, int64_t end) {
                switch (spec_.rule) {
                    case OptimizerSpec::adadelta:
                        for (int64_t i = begin; i < end; ++i) {
                            const T g = scale * grad[i];
                            s1[i] = rho * s1[i] + (1 - rho) * g * g;
                            const T delta = g * std::sqrt(s2[i] + eps) / std::sqrt(s1[i] + eps);
                            s2[i] = rho * s2[i] + (1 - rho) * delta * delta;
                            w[i] -= lr * delta + decay * w[i];
                        }
                        break;
                    case OptimizerSpec::adam:
                        for (int64_t i = begin; i < end; ++i) {
                            const T g = scale * grad[i];
                            s1[i] = b1 * s1[i] + (1 - b1) * g;
                            s2[i] = b2 * s2[i] + (1 - b2) * g * g;
                            w[i] -=
                                step_size * s1[i] / (std::sqrt(s2[i]) / root2 + eps) + decay * w[i];
                        }
                        break;
                    case OptimizerSpec::sgd:
                        for (int64_t i = begin; i < end; ++i) {
                            const T g = scale * grad[i];
                            s1[i] = momentum * s1[i] + g;
                            w[i] -= lr * s1[i] + decay * w[i];
                        }
                        break;
                }
            });
        });
    }
}

}  // namespace lumachrome
