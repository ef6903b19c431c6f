#include "tensor/cuda/launch.cuh"
#include "tensor/cuda_async.hpp"
#include "tensor/cuda_graph.hpp"

namespace lumachrome::cuda {

void copy_behind(Device device, std::byte* to, const std::byte* from, int64_t bytes) {
    CUDA_TRY(
        cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDefault, stream(device)));
}

struct Marker::State {
    Device device;
    cudaEvent_t event = nullptr;
};

Marker::Marker(Device device) : state_(std::make_unique<State>(State{device})) {
    stream(device);
    CUDA_TRY(cudaEventCreateWithFlags(&state_->event, cudaEventDisableTiming));
}
Marker::~Marker() {
    cudaEventDestroy(state_->event);
}
void Marker::set() {
    CUDA_TRY(cudaEventRecord(state_->event, stream(state_->device)));
}
void Marker::wait() const {
    CUDA_TRY(cudaEventSynchronize(state_->event));
}

struct Graph::State {
    Device device;
    cudaGraphExec_t executable = nullptr;
    void clear() {
        if (executable) cudaGraphExecDestroy(executable);
        executable = nullptr;
    }
    ~State() { clear(); }
};

Graph::Graph(Device device) : state_(std::make_unique<State>(State{device})) {}
Graph::~Graph() = default;

bool Graph::captured() const {
    return state_->executable != nullptr;
}

void Graph::clear() {
    state_->clear();
}

// Relaxed: memory may still be taken from the driver meanwhile.
void Graph::capture(const std::function<void()>& work) {
    state_->clear();
    const cudaStream_t where = stream(state_->device);
    cudaGraph_t graph = nullptr;
    CUDA_TRY(cudaStreamBeginCapture(where, cudaStreamCaptureModeRelaxed));
    try {
        work();
    } catch (...) {
        cudaStreamEndCapture(where, &graph);
        if (graph) cudaGraphDestroy(graph);
        cudaGetLastError();  // of a capture that `work` made invalid
        throw;
    }
    CUDA_TRY(cudaStreamEndCapture(where, &graph));
    const cudaError_t error = cudaGraphInstantiate(&state_->executable, graph, 0);
    cudaGraphDestroy(graph);
    if (error != cudaSuccess) state_->executable = nullptr;
    CUDA_TRY(error);
}

void Graph::replay() {
    CUDA_TRY(cudaGraphLaunch(state_->executable, stream(state_->device)));
}

}  // namespace lumachrome::cuda
