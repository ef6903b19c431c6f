#include "model/infer/runner.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>

namespace lumachrome {

Runner::Runner(Plan plan, const Exec& exec)
    : plan_(std::move(plan)),
      exec_(exec),
      arena_(Tensor::empty({plan_.arena_bytes / int64_t{sizeof(float)} + 1})),
      held_(plan_.buffers.size()) {
    for (const auto& step : plan_.steps) in_.resize(std::max(in_.size(), step->inputs.size()));
}

float* Runner::row(int value, int64_t row) {
    const Plan::Buffer& buffer = plan_.buffers[size_t(value)];
    return arena_.data<float>() + buffer.offset / int64_t{sizeof(float)} +
           (row - held_[size_t(value)].first) * row_floats(buffer.shape);
}

RowBand Runner::band(int value, Rows rows) {
    return {row(value, rows.begin), rows};
}

// Moves what is still needed to the front once the buffer's end is reached.
RowBand Runner::make_room(const Plan::Task& task) {
    const Plan::Buffer& buffer = plan_.buffers[size_t(task.value)];
    Held& held = held_[size_t(task.value)];
    if (task.rows.begin == 0) held = {};
    if (task.rows.end - held.first > buffer.rows) {
        const int64_t kept = task.rows.begin - task.keep;
        std::memmove(row(task.value, held.first), row(task.value, task.keep),
                     size_t(kept * row_floats(buffer.shape)) * sizeof(float));
        held.first = task.keep;
    }
    held.end = task.rows.end;
    return band(task.value, task.rows);
}

void Runner::run(const Source& source, const Sink& sink) {
    const auto index_of = [](const std::vector<int>& values, int value) {
        return size_t(std::find(values.begin(), values.end(), value) - values.begin());
    };
    using Clock = std::chrono::steady_clock;
    seconds_.assign(plan_.steps.size(), 0);
    for (const Plan::Task& task : plan_.tasks) {
        const RowBand out = make_room(task);
        if (task.step < 0) {
            source(index_of(plan_.inputs, task.value), task.rows, out.data);
        } else {
            Step& step = *plan_.steps[size_t(task.step)];
            for (size_t i = 0; i < step.inputs.size(); ++i) {
                const Held& held = held_[size_t(step.inputs[i])];
                in_[i] = band(step.inputs[i], {held.first, held.end});
            }
            const auto start = Clock::now();
            step.run(exec_, {in_.data(), step.inputs.size()}, out);
            seconds_[size_t(task.step)] +=
                std::chrono::duration<double>(Clock::now() - start).count();
        }
        const size_t output = index_of(plan_.outputs, task.value);
        if (output < plan_.outputs.size()) sink(output, task.rows, out.data);
    }
}

std::vector<Tensor> Runner::run(std::span<const Tensor> inputs) {
    std::vector<Tensor> outputs;
    for (int value : plan_.outputs)
        outputs.push_back(Tensor::empty(plan_.buffers[size_t(value)].shape));
    const auto floats = [&](int value, int64_t rows) {
        return rows * row_floats(plan_.buffers[size_t(value)].shape);
    };
    run(
        [&](size_t i, Rows rows, float* to) {
            const int value = plan_.inputs[i];
            std::copy_n(inputs[i].data<float>() + floats(value, rows.begin),
                        floats(value, rows.end - rows.begin), to);
        },
        [&](size_t i, Rows rows, const float* from) {
            const int value = plan_.outputs[i];
            std::copy_n(from, floats(value, rows.end - rows.begin),
                        outputs[i].data<float>() + floats(value, rows.begin));
        });
    return outputs;
}

}  // namespace lumachrome
