#include "train/optimizers.hpp"

#include <atomic>
#include <cmath>

#include "tensor/error.hpp"
#include "train/device_step.hpp"

namespace lumachrome {

namespace {

// What the rules multiply with, in the type of the weights.
template <class T>
struct Factors {
    T scale, rate, epsilon, decay, rho, beta1, beta2, momentum, adam_rate, root2;
};

// Each rule on `count` weights; the arrays do not overlap, which the compiler must be told before
// it uses vectors. Returns 0, or NaN if a new weight is not finite: looking at them again would be
// another pass over memory.
template <class T>
T adadelta(const Factors<T> f, int64_t count, const T* grad, T* w, T* s1, T* s2) {
    T bad = 0;
#pragma omp simd reduction(+ : bad)
    for (int64_t i = 0; i < count; ++i) {
        const T g = f.scale * grad[i];
        s1[i] = f.rho * s1[i] + (1 - f.rho) * g * g;
        const T delta = g * std::sqrt(s2[i] + f.epsilon) / std::sqrt(s1[i] + f.epsilon);
        s2[i] = f.rho * s2[i] + (1 - f.rho) * delta * delta;
        w[i] -= f.rate * delta + f.decay * w[i];
        bad += 0 * w[i];
    }
    return bad;
}

template <class T>
T adam(const Factors<T> f, int64_t count, const T* grad, T* w, T* s1, T* s2) {
    T bad = 0;
#pragma omp simd reduction(+ : bad)
    for (int64_t i = 0; i < count; ++i) {
        const T g = f.scale * grad[i];
        s1[i] = f.beta1 * s1[i] + (1 - f.beta1) * g;
        s2[i] = f.beta2 * s2[i] + (1 - f.beta2) * g * g;
        w[i] -= f.adam_rate * s1[i] / (std::sqrt(s2[i]) / f.root2 + f.epsilon) + f.decay * w[i];
        bad += 0 * w[i];
    }
    return bad;
}

template <class T>
T sgd(const Factors<T> f, int64_t count, const T* grad, T* w, T* s1) {
    T bad = 0;
#pragma omp simd reduction(+ : bad)
    for (int64_t i = 0; i < count; ++i) {
        const T g = f.scale * grad[i];
        s1[i] = f.momentum * s1[i] + g;
        w[i] -= f.rate * s1[i] + f.decay * w[i];
        bad += 0 * w[i];
    }
    return bad;
}

}  // namespace

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
    Slot slot{name, &p, Tensor::zeros(p.value.shape(), p.value.dtype(), p.value.device()), {}};
    if (spec_.rule != OptimizerSpec::sgd) slot.second = slot.first.clone();
    slots_.push_back(std::move(slot));
}

StepFactors Optimizer::factors(double rate_factor) const {
    const double rate = spec_.learning_rate * rate_factor;
    const double correction1 = 1 - std::pow(spec_.beta1, double(steps_));
    const double correction2 = 1 - std::pow(spec_.beta2, double(steps_));
    StepFactors f;
    f.rate = rate, f.decay = rate * spec_.weight_decay;
    f.adam_rate = rate / correction1, f.root2 = std::sqrt(correction2);
    return f;
}

StepFactors Optimizer::begin_step(double rate_factor, double clip_norm) {
    ++steps_;
    for (Slot& slot : slots_) ++slot.parameter->version;
    StepFactors f = factors(rate_factor);
    f.clip_norm = clip_norm;
    return f;
}

const Optimizer::Slot* Optimizer::step(const Exec& exec, double rate_factor,
                                       double gradient_factor) {
    if (exec.device.kind == Device::cuda) {
        if (!on_device_) on_device_ = std::make_shared<DeviceStep>(exec.device);
        StepFactors f = begin_step(rate_factor);
        f.gradient = gradient_factor;
        on_device_->begin(f);
        on_device_->update(spec_, slots_);
        on_device_->publish();
        const int32_t bad = on_device_->wait().first_bad;
        return bad == StepOutcome::kNone ? nullptr : &slots_[size_t(bad)];
    }
    ++steps_;
    const StepFactors step = factors(rate_factor);
    const Slot* first_bad = nullptr;
    for (Slot& slot : slots_) {
        Parameter& p = *slot.parameter;
        if (!p.grad.defined()) continue;
        ++p.version;
        dispatch_float(p.value.dtype(), [&](auto t) {
            using T = decltype(t);
            Factors<T> f;
            f.scale = T(gradient_factor), f.rate = T(step.rate), f.epsilon = T(spec_.epsilon);
            f.decay = T(step.decay);
            f.rho = T(spec_.rho), f.beta1 = T(spec_.beta1), f.beta2 = T(spec_.beta2);
            f.momentum = T(spec_.momentum), f.adam_rate = T(step.adam_rate);
            f.root2 = T(step.root2);
            T *w = p.value.data<T>(), *s1 = slot.first.data<T>();
            T* s2 = slot.second.defined() ? slot.second.data<T>() : nullptr;
            const T* g = p.grad.data<T>();
            std::atomic<bool> finite = true;
            parallel_chunks(exec, p.value.numel(), [&](int64_t begin, int64_t end) {
                const int64_t count = end - begin;
                T bad = 0;
                switch (spec_.rule) {
                    case OptimizerSpec::adadelta:
                        bad = adadelta(f, count, g + begin, w + begin, s1 + begin, s2 + begin);
                        break;
                    case OptimizerSpec::adam:
                        bad = adam(f, count, g + begin, w + begin, s1 + begin, s2 + begin);
                        break;
                    case OptimizerSpec::sgd:
                        bad = sgd(f, count, g + begin, w + begin, s1 + begin);
                        break;
                }
                if (bad != 0) finite = false;
            });
            if (!finite && !first_bad) first_bad = &slot;
        });
    }
    return first_bad;
}

}  // namespace lumachrome
