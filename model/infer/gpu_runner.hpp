// Runs the plan of a GPU. Its maps lie in one arena, and from the second run on its kernels are
// started as one CUDA graph: of a small photo the launches would take longer than the work.
#pragma once
#include "model/infer/gpu_plan.hpp"
#include "tensor/cuda_async.hpp"
#include "tensor/cuda_graph.hpp"
#include "tensor/storage.hpp"

namespace lumachrome {

class GpuRunner {
  public:
    // `temporary`: what kernels need while they run, shared by runners of one GPU. Throws
    // ResourceError where the maps do not fit the device.
    GpuRunner(GpuPlan plan, const Exec& exec, std::shared_ptr<const ReservedStorage> temporary);

    // Tensors of the graph's shapes on the CPU, in and out, f32.
    std::vector<Tensor> run(std::span<const Tensor> inputs);

    // The same in parts; only the last one waits.
    void upload(std::span<const Tensor> inputs);
    void start();
    std::vector<Tensor> download();

    void start_step(size_t step);  // alone, on what the last run left
    const GpuPlan& plan() const { return plan_; }

  private:
    void start_all();
    Tensor view(int value) const;
    GpuPlan plan_;
    Exec exec_;
    std::shared_ptr<const ReservedStorage> temporary_;
    Tensor arena_;
    std::vector<std::vector<Tensor>> in_;  // of each step
    std::vector<Tensor> out_;
    std::vector<cuda::PinnedMemory> sent_, received_;  // of each input, of each output
    cuda::Graph graph_;
    bool ran_ = false;
};

}  // namespace lumachrome
