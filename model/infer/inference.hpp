// A network ready for photos of any size: traced and folded once, planned for each size when it is
// first met. Walk 1 passes through here; model/infer/README.md tells how.
#pragma once
#include <map>
#include <memory>

#include "model/colornet.hpp"
#include "model/infer/gpu_runner.hpp"
#include "model/infer/runner.hpp"

namespace lumachrome {

// What is computed, and from what. The parts are for those who give one photo's global features to
// another (style transfer, paper section 5.4), or give a photo one style after the other.
enum class Part {
    whole,   // photo, copy -> colours, logits
    global,  // copy -> style [1,G], semantics [1,F], logits: see ColorNet::GlobalFeatures
    styled,  // photo, style -> colours
    middle,  // photo -> middle [1,H/8,W/8,M], what the fusion reads
    tail,    // middle, style -> colours
};

struct InferenceOptions {
    bool classify = true;     // compute the logits as well
    std::string passes = {};  // see run_passes
    PlanOptions plan = {};
};

class Inference {
  public:
    // A copy of the network shares its weights; of one that nobody else holds, no weight is in
    // memory twice for long.
    Inference(ColorNet net, const Exec& exec, InferenceOptions options = {});
    // Another for the same network, to run beside `other`: with plans of its own and the same
    // weights. On the CPU.
    Inference(const Inference& other, const Exec& exec);

    // For a photo of height x width, multiples of 8. Inputs: the photo [1,H,W,1], and its copy
    // [1,S,S,1] unless that is the same or the network has no global branch. Outputs: colours
    // [1,H/2,W/2,2], and logits [1,classes] if asked for.
    // Of a part, its own; without the global branch there is no part `global` and nobody reads a
    // style. The runner stays valid until another size of that part is asked for, with a limit
    // until anything is. Throws ResourceError if the memory allowed is too little.
    Runner& at(int64_t height, int64_t width, Part part = Part::whole);
    // The same on a GPU, where Exec names one, for `photos` of that size at once: N for 1 in the
    // shapes. The runner stays valid until another is asked for. Throws ResourceError if the
    // device has too little memory.
    GpuRunner& on_gpu(int64_t height, int64_t width, int64_t photos = 1, Part part = Part::whole);
    // Whichever Exec names: from and to whole tensors on the CPU.
    std::vector<Tensor> run(Part part, int64_t height, int64_t width,
                            std::span<const Tensor> inputs);
    // Bytes that the whole process may use, as it stands when a size is planned; 0: no limit.
    void limit_memory(int64_t process_bytes);
    bool takes_copy(int64_t height, int64_t width) const;
    bool gives_logits() const { return options_.classify && has_class_head_; }
    const PackedWeights& weights() const { return weights_; }

  private:
    Graph graph_at(int64_t height, int64_t width, int64_t photos, Part part) const;
    Exec exec_;
    InferenceOptions options_;
    int64_t global_size_;
    bool use_global_, has_class_head_;
    Graph graph_;  // at some size, before the passes that depend on it
    struct Cuts {  // values of the graph at which the parts meet; -1 where there are none
        int photo = -1, copy = -1, middle = -1, style = -1, semantics = -1;
    } cuts_;
    PackedWeights weights_;
    int64_t limit_ = 0;

    struct Ready {
        int64_t height, width;
        std::unique_ptr<Runner> runner;
    };
    std::map<Part, Ready> ready_;

    struct GpuSize {
        int64_t height, width, photos;
        Part part;
        std::unique_ptr<GpuRunner> runner;
    };
    std::vector<GpuSize> gpu_sizes_;  // last used last
    std::shared_ptr<const ReservedStorage> gpu_temporary_;
};

// What lies between some values of a graph: `inputs` are given, only what `outputs` need is
// computed.
Graph between(Graph graph, std::vector<int> inputs, std::vector<int> outputs);
// The same network for inputs of other shapes. Throws ShapeError where they do not fit.
Graph with_input_shapes(Graph graph, std::span<const Shape> shapes);
// Input `second` becomes input `first`, and what was computed twice from it is computed once.
Graph share_input(Graph graph, size_t first, size_t second);

}  // namespace lumachrome
