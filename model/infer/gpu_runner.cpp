#include "model/infer/gpu_runner.hpp"

#include <algorithm>

#include "tensor/error.hpp"

namespace lumachrome {

GpuRunner::GpuRunner(GpuPlan plan, const Exec& exec,
                     std::shared_ptr<const ReservedStorage> temporary)
    : plan_(std::move(plan)),
      exec_(exec),
      temporary_(std::move(temporary)),
      arena_(
          Tensor::empty({plan_.arena_bytes / int64_t{sizeof(float)} + 1}, DType::f32, exec.device)),
      graph_(exec.device) {
    for (const GpuStep& step : plan_.steps) {
        in_.emplace_back();
        for (int value : step.inputs) in_.back().push_back(view(value));
        out_.push_back(view(step.output));
    }
    for (int value : plan_.inputs) sent_.emplace_back(view(value).bytes());
    for (int value : plan_.outputs) received_.emplace_back(view(value).bytes());
}

Tensor GpuRunner::view(int value) const {
    const GpuPlan::Buffer& buffer = plan_.buffers[size_t(value)];
    const std::shared_ptr<std::byte> alive;  // by arena_
    return Tensor::part({alive, arena_.raw() + buffer.place.offset}, buffer.shape, buffer.dtype,
                        exec_.device);
}

void GpuRunner::upload(std::span<const Tensor> inputs) {
    for (size_t i = 0; i < inputs.size(); ++i) {
        const Tensor to = view(plan_.inputs[i]);
        const Tensor& from = inputs[i];
        if (from.shape() != to.shape() || from.dtype() != DType::f32 || from.device() != Device{})
            throw ShapeError("inference: input " + std::to_string(i) + " is " + from.shape().str() +
                             " on " + from.device().str() + ", not f32 " + to.shape().str() +
                             " on the CPU");
        const float* const x = from.data<float>();
        parallel_chunks(exec_, from.numel(), [&](int64_t begin, int64_t end) {
            if (to.dtype() == DType::bf16)
                for (int64_t k = begin; k < end; ++k) sent_[i].data<bf16>()[k] = bf16(x[k]);
            else
                std::copy(x + begin, x + end, sent_[i].data<float>() + begin);
        });
        cuda::copy_behind(exec_.device, to.raw(), sent_[i].data(), to.bytes());
    }
}

void GpuRunner::start_step(size_t step) {
    plan_.steps[step].run(exec_, in_[step], out_[step]);
}

void GpuRunner::start_all() {
    for (size_t step = 0; step < plan_.steps.size(); ++step) start_step(step);
}

// The first run is not recorded: a single photo is done before a graph would be ready.
void GpuRunner::start() {
    if (!ran_ || !cuda::graphs_wanted()) {
        start_all();
        ran_ = true;
        return;
    }
    if (!graph_.captured()) {
        const ReservedStorage::Scope scope(*temporary_);
        graph_.capture([&] { start_all(); });
    }
    graph_.replay();
}

std::vector<Tensor> GpuRunner::download() {
    for (size_t i = 0; i < received_.size(); ++i) {
        const Tensor from = view(plan_.outputs[i]);
        cuda::copy_behind(exec_.device, received_[i].data(), from.raw(), from.bytes());
    }
    cuda::synchronize(exec_.device);
    std::vector<Tensor> outputs;
    for (size_t i = 0; i < received_.size(); ++i) {
        const GpuPlan::Buffer& buffer = plan_.buffers[size_t(plan_.outputs[i])];
        const Tensor to = Tensor::empty(buffer.shape);
        parallel_chunks(exec_, to.numel(), [&](int64_t begin, int64_t end) {
            if (buffer.dtype == DType::f32)
                std::copy_n(received_[i].data<float>() + begin, end - begin,
                            to.data<float>() + begin);
            else
                widen(buffer.dtype, received_[i].data<uint16_t>() + begin, end - begin,
                      to.data<float>() + begin);
        });
        outputs.push_back(to);
    }
    return outputs;
}

std::vector<Tensor> GpuRunner::run(std::span<const Tensor> inputs) {
    upload(inputs);
    start();
    return download();
}

}  // namespace lumachrome
