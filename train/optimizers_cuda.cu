// Bytes decide: the norm reads every gradient once, the update reads gradient, weight and state and
// writes the latter two, 20 to 28 bytes for each weight in f32.
#include <cmath>
#include <type_traits>

#include "tensor/cuda/reduce.cuh"
#include "train/cuda/tensor_table.cuh"
#include "train/device_step.hpp"

namespace lumachrome {
namespace {

using cuda::kPackOf;
using cuda::TensorTable;
using cuda::TensorTables;

struct State {
    StepFactors factors;
    StepOutcome outcome;
    double scale;  // of every gradient: the caller's factor times that of clipping
    int apply;     // 0: the update is left out
};
constexpr int64_t kStateDoubles = (sizeof(State) + sizeof(double) - 1) / sizeof(double);

State* state_of(const Tensor& memory) {
    return reinterpret_cast<State*>(memory.raw());
}

__global__ void begin_kernel(State* state, StepFactors factors, StepOutcome cleared) {
    *state = {factors, cleared, factors.gradient, 1};
}

template <class T>
__global__ void losses_kernel(State* state, const T* color, const T* classes) {
    state->outcome.color_loss = static_cast<double>(*color);
    if (classes) state->outcome.class_loss = static_cast<double>(*classes);
}

// A warp per sample: the place of the largest logit, the first of several. Whole numbers are added,
// so their order does not matter.
template <class T>
__global__ void correct_kernel(State* state, const T* logits, const float* labels, int64_t N,
                               int64_t classes) {
    const int64_t n = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / 32;
    if (n >= N) return;
    const T* const z = logits + n * classes;
    int64_t best = threadIdx.x % 32;
    for (int64_t c = best + 32; c < classes; c += 32)
        if (z[c] > z[best]) best = c;
    T largest = best < classes ? z[best] : z[0];
    if (best >= classes) best = 0;
    for (int bits = 16; bits > 0; bits /= 2) {
        const T other = __shfl_xor_sync(0xffffffffu, largest, bits);
        const int64_t place = __shfl_xor_sync(0xffffffffu, best, bits);
        if (other > largest || (other == largest && place < best)) largest = other, best = place;
    }
    if (threadIdx.x % 32 == 0 && static_cast<int64_t>(labels[n]) == best)
        atomicAdd(&state->outcome.correct, 1);
}

// partial [gridDim.x]: the sum of squares of each chunk.
template <class T>
__global__ void __launch_bounds__(cuda::kThreads)
    squares_kernel(const __grid_constant__ TensorTable<T> table, double* partial) {
    const auto& entry = table.of_block(static_cast<int>(blockIdx.x));
    double sum = 0;
    cuda::for_chunk<T>(entry, [&](int64_t i, auto packed) {
        constexpr int kCount = packed ? kPackOf<T> : 1;
        T g[kCount];
        cuda::load<kCount>(entry.grad + i, g);
#pragma unroll
        for (int k = 0; k < kCount; ++k) sum += static_cast<double>(g[k]) * g[k];
    });
    sum = cuda::block_sum(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void norm_kernel(State* state, const double* partial, int64_t count) {
    double sum = 0;
    for (int64_t i = threadIdx.x; i < count; i += blockDim.x) sum += partial[i];
    sum = cuda::block_sum(sum);
    if (threadIdx.x != 0) return;
    const double norm = std::sqrt(sum), clip = state->factors.clip_norm;
    state->outcome.gradient_norm = norm;
    if (clip > 0 && norm > clip) state->scale *= clip / norm;
    state->apply = isfinite(norm) && isfinite(state->outcome.color_loss) &&
                   isfinite(state->outcome.class_loss);
}

// What the rules (optimizers.hpp) multiply with, in the type of the weights.
template <class T>
struct Factors {
    T scale, rate, epsilon, decay, rho, beta1, beta2, momentum, adam_rate, root2;
    __device__ Factors(const OptimizerSpec& spec, const State& state)
        : scale(static_cast<T>(state.scale)),
          rate(static_cast<T>(state.factors.rate)),
          epsilon(static_cast<T>(spec.epsilon)),
          decay(static_cast<T>(state.factors.decay)),
          rho(static_cast<T>(spec.rho)),
          beta1(static_cast<T>(spec.beta1)),
          beta2(static_cast<T>(spec.beta2)),
          momentum(static_cast<T>(spec.momentum)),
          adam_rate(static_cast<T>(state.factors.adam_rate)),
          root2(static_cast<T>(state.factors.root2)) {}
};
struct Adadelta {
    static constexpr bool kTwoStates = true;
    template <class T>
    static __device__ void apply(const Factors<T>& f, T grad, T& w, T& s1, T& s2) {
        const T g = f.scale * grad;
        s1 = f.rho * s1 + (1 - f.rho) * g * g;
        const T delta = g * std::sqrt(s2 + f.epsilon) / std::sqrt(s1 + f.epsilon);
        s2 = f.rho * s2 + (1 - f.rho) * delta * delta;
        w -= f.rate * delta + f.decay * w;
    }
};
struct Adam {
    static constexpr bool kTwoStates = true;
    template <class T>
    static __device__ void apply(const Factors<T>& f, T grad, T& w, T& s1, T& s2) {
        const T g = f.scale * grad;
        s1 = f.beta1 * s1 + (1 - f.beta1) * g;
        s2 = f.beta2 * s2 + (1 - f.beta2) * g * g;
        w -= f.adam_rate * s1 / (std::sqrt(s2) / f.root2 + f.epsilon) + f.decay * w;
    }
};
struct Sgd {
    static constexpr bool kTwoStates = false;
    template <class T>
    static __device__ void apply(const Factors<T>& f, T grad, T& w, T& s1, T&) {
        s1 = f.momentum * s1 + f.scale * grad;
        w -= f.rate * s1 + f.decay * w;
    }
};

template <class T, class Rule>
__global__ void __launch_bounds__(cuda::kThreads)
    update_kernel(const __grid_constant__ TensorTable<T> table,
                  const __grid_constant__ OptimizerSpec spec, State* state) {
    if (!state->apply) return;
    const Factors<T> factors(spec, *state);
    const auto& entry = table.of_block(static_cast<int>(blockIdx.x));
    bool finite = true;
    cuda::for_chunk<T>(entry, [&](int64_t i, auto packed) {
        constexpr int kCount = packed ? kPackOf<T> : 1;
        T g[kCount], w[kCount], s1[kCount], s2[kCount] = {};
        cuda::load<kCount>(entry.grad + i, g);
        cuda::load<kCount>(entry.w + i, w);
        cuda::load<kCount>(entry.s1 + i, s1);
        if constexpr (Rule::kTwoStates) cuda::load<kCount>(entry.s2 + i, s2);
#pragma unroll
        for (int k = 0; k < kCount; ++k) {
            Rule::apply(factors, g[k], w[k], s1[k], s2[k]);
            finite = finite && isfinite(w[k]);
        }
        cuda::store<kCount>(entry.w + i, w);
        cuda::store<kCount>(entry.s1 + i, s1);
        if constexpr (Rule::kTwoStates) cuda::store<kCount>(entry.s2 + i, s2);
    });
    if (!finite) atomicMin(&state->outcome.first_bad, static_cast<int>(entry.index));
}

template <class T>
__global__ void __launch_bounds__(cuda::kThreads)
    check_kernel(const __grid_constant__ TensorTable<T> table, State* state) {
    const auto& entry = table.of_block(static_cast<int>(blockIdx.x));
    bool finite = true;
    cuda::for_chunk<T>(entry, [&](int64_t i, auto packed) {
        constexpr int kCount = packed ? kPackOf<T> : 1;
        T v[kCount];
        cuda::load<kCount>(entry.grad + i, v);
#pragma unroll
        for (int k = 0; k < kCount; ++k) finite = finite && isfinite(v[k]);
    });
    if (!finite) atomicMin(&state->outcome.first_bad_tensor, static_cast<int>(entry.index));
}

template <class T>
__global__ void __launch_bounds__(cuda::kThreads)
    average_kernel(const __grid_constant__ TensorTable<T> table, T share) {
    const auto& entry = table.of_block(static_cast<int>(blockIdx.x));
    cuda::for_chunk<T>(entry, [&](int64_t i, auto packed) {
        constexpr int kCount = packed ? kPackOf<T> : 1;
        T average[kCount], weight[kCount];
        cuda::load<kCount>(entry.grad + i, weight);
        cuda::load<kCount>(entry.w + i, average);
#pragma unroll
        for (int k = 0; k < kCount; ++k) average[k] += share * (weight[k] - average[k]);
        cuda::store<kCount>(entry.w + i, average);
    });
}

// f(type tag, tables) for the tensors of each type among `count`: tensor(i) says what decides on
// the type and add(tables, type tag, i) enters number i.
template <class Get, class Add, class F>
void for_tables(size_t count, const Get& tensor, const Add& add, const F& f) {
    for (const DType dtype : {DType::f32, DType::f64})
        dispatch_float(dtype, [&](auto t) {
            TensorTables<decltype(t)> tables;
            for (size_t i = 0; i < count; ++i)
                if (tensor(i).defined() && tensor(i).dtype() == dtype) add(tables, t, i);
            if (!tables.tables.empty()) f(t, tables.tables);
        });
}
template <class F>
void for_gradients(std::span<const Optimizer::Slot> slots, const F& f) {
    for_tables(
        slots.size(), [&](size_t i) -> const Tensor& { return slots[i].parameter->grad; },
        [&](auto& tables, auto t, size_t i) {
            using T = decltype(t);
            const Optimizer::Slot& slot = slots[i];
            const Parameter& p = *slot.parameter;
            tables.add(static_cast<int>(i), p.grad.numel(), static_cast<const T*>(p.grad.data<T>()),
                       p.value.data<T>(), slot.first.data<T>(),
                       slot.second.defined() ? slot.second.data<T>() : nullptr);
        },
        f);
}
dim3 grid(int blocks) {
    return dim3(static_cast<unsigned>(blocks));
}

}  // namespace

void DeviceStep::Unpin::operator()(StepOutcome* pinned) const {
    cuda::give_back_pinned(reinterpret_cast<std::byte*>(pinned));
}

DeviceStep::DeviceStep(Device device)
    : device_(device),
      state_(Tensor::empty({kStateDoubles}, DType::f64, device)),
      outcome_(new (cuda::take_pinned(sizeof(StepOutcome))) StepOutcome),
      sent_(device) {}

void DeviceStep::begin(const StepFactors& factors) {
    cuda::launch<begin_kernel>(device_, 1, 1, 0, state_of(state_), factors, StepOutcome{});
}

void DeviceStep::losses(const Tensor& color, const Tensor& classes) {
    dispatch_float(color.dtype(), [&](auto t) {
        using T = decltype(t);
        cuda::launch<losses_kernel<T>>(device_, 1, 1, 0, state_of(state_), color.data<T>(),
                                       classes.defined() ? classes.data<T>() : nullptr);
    });
}

void DeviceStep::count_correct(const Tensor& logits, const Tensor& labels) {
    const int64_t N = logits.shape()[0];
    dispatch_float(logits.dtype(), [&](auto t) {
        using T = decltype(t);
        cuda::launch<correct_kernel<T>>(device_, cuda::blocks_for(N * 32), cuda::kThreads, 0,
                                        state_of(state_), logits.data<T>(), labels.data<float>(), N,
                                        logits.shape()[1]);
    });
}

void DeviceStep::gradient_norm(std::span<const Optimizer::Slot> slots) {
    int64_t blocks = 0;
    for (const Optimizer::Slot& slot : slots)
        if (slot.parameter->grad.defined())
            blocks += cuda::ceil_div(slot.parameter->grad.numel(), cuda::kTableChunk);
    const Tensor partial = Tensor::empty({blocks}, DType::f64, device_);
    int64_t first = 0;
    for_gradients(slots, [&](auto t, const auto& tables) {
        for (const auto& table : tables) {
            cuda::launch<squares_kernel<decltype(t)>>(device_, grid(table.blocks), cuda::kThreads,
                                                      0, table, partial.data<double>() + first);
            first += table.blocks;
        }
    });
    cuda::launch<norm_kernel>(device_, 1, 1024, 0, state_of(state_), partial.data<double>(),
                              blocks);
}

void DeviceStep::update(const OptimizerSpec& spec, std::span<const Optimizer::Slot> slots) {
    for_gradients(slots, [&](auto t, const auto& tables) {
        using T = decltype(t);
        const auto run = [&](auto rule) {
            for (const auto& table : tables)
                cuda::launch<update_kernel<T, decltype(rule)>>(
                    device_, grid(table.blocks), cuda::kThreads, 0, table, spec, state_of(state_));
        };
        switch (spec.rule) {
            case OptimizerSpec::adadelta:
                return run(Adadelta{});
            case OptimizerSpec::adam:
                return run(Adam{});
            case OptimizerSpec::sgd:
                return run(Sgd{});
        }
    });
}

void DeviceStep::check_finite(std::span<const Tensor> tensors) {
    for_tables(
        tensors.size(), [&](size_t i) -> const Tensor& { return tensors[i]; },
        [&](auto& tables, auto t, size_t i) {
            using T = decltype(t);
            tables.add(static_cast<int>(i), tensors[i].numel(),
                       static_cast<const T*>(tensors[i].data<T>()));
        },
        [&](auto t, const auto& tables) {
            for (const auto& table : tables)
                cuda::launch<check_kernel<decltype(t)>>(device_, grid(table.blocks), cuda::kThreads,
                                                        0, table, state_of(state_));
        });
}

void DeviceStep::publish() {
    CUDA_TRY(cudaMemcpyAsync(outcome_.get(), &state_of(state_)->outcome, sizeof(StepOutcome),
                             cudaMemcpyDefault, cuda::stream(device_)));
    sent_.set();
}

const StepOutcome& DeviceStep::wait() const {
    sent_.wait();
    return *outcome_;
}

void cuda::move_averages(Device device, std::span<const WeightAverage::Entry> entries,
                         double share) {
    for_tables(
        entries.size(), [&](size_t i) -> const Tensor& { return entries[i].average; },
        [&](auto& tables, auto t, size_t i) {
            using T = decltype(t);
            const WeightAverage::Entry& entry = entries[i];
            tables.add(static_cast<int>(i), entry.average.numel(),
                       static_cast<const T*>(entry.parameter->value.data<T>()),
                       entry.average.data<T>());
        },
        [&](auto t, const auto& tables) {
            using T = decltype(t);
            for (const auto& table : tables)
                launch<average_kernel<T>>(device, grid(table.blocks), kThreads, 0, table,
                                          static_cast<T>(share));
        });
}

}  // namespace lumachrome
