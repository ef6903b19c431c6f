// The plan of a GPU: one kernel a step, whole maps of all photos at once. Fewer decisions than on
// the CPU (plan.hpp) because the maps of any photo fit its memory, and because a GPU is busy only
// with much to do at a time.
//
// Maps are kept in Exec::maps, vectors (the global branch) and outputs in f32.
#pragma once
#include <functional>

#include "layers/conv2d_prepared_cuda.hpp"
#include "model/infer/plan.hpp"

namespace lumachrome {

struct GpuStep {
    std::string name;  // of the graph's node
    std::string implementation, problem;
    std::vector<int> inputs;  // buffers
    int output = -1;
    int64_t weight_bytes = 0;  // read by each run
    double products = 0;       // multiplications
    std::optional<PreparedConv2dGpuProblem> convolution = {};
    // Starts it. Tensors lie on the device, in the order of `inputs`.
    std::function<void(const Exec&, std::span<const Tensor> in, const Tensor& out)> run = {};
};

struct GpuPlan {
    struct Buffer {
        Shape shape;
        DType dtype = DType::f32;
        Lifetime place;  // no bytes: constant, or not needed
    };
    std::vector<GpuStep> steps;
    std::vector<Buffer> buffers;  // by value of the graph; behind them, what steps leave for others
    std::vector<int> inputs, outputs;
    int64_t arena_bytes = 0;
};

// Chooses kernels, packs weights and lays out memory. Inputs and outputs have places of their own,
// so that a plan may run again.
GpuPlan compile_gpu(const Graph& graph, const Exec& exec, PackedWeights& weights);

}  // namespace lumachrome
