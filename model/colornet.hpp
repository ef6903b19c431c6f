// The network, written once: training runs it eagerly on a tape, inspection traces it on the meta
// device, inference evaluates it.
//
//   x (luma - mean) [N,H,W,1] ---- low ---- mid ---------- fusion -- color -- sigmoid [N,H/2,W/2,2]
//                                  |same weights            |
//   copy of the photo [N,S,S,1] -- low -- global -- fc1-3 --+
//                                                 \-- classifier: logits [N,classes]
//
// Walk 1, stop 3: photo -> PNG.
#pragma once
#include <functional>
#include <optional>
#include <vector>

#include "layers/blocks.hpp"
#include "layers/dropout.hpp"
#include "model/spec.hpp"

namespace lumachrome {

// The first weights.
enum class Init {
    // Maps keep their size through the layers: a network that has learned nothing, not even its
    // batch statistics, still answers to its input.
    even,
    // Shorter, as in Torch7 and PyTorch. For training: batch norm makes up for that, and Adam,
    // whose steps do not depend on the length of gradients, turns short weights faster. In as many
    // steps it learns more (docs/README.md).
    torch,
};

struct ColorNet {
    // Without a seed the weights are zero: a network about to be loaded.
    explicit ColorNet(const Spec& spec, std::optional<uint64_t> seed = {}, Init init = Init::even);
    Spec spec;

    std::vector<ConvBlock> low, mid, global_conv;
    std::vector<LinearBlock> global_fc;  // fc1, fc2, fc3
    FusionBlock fusion;
    std::vector<ConvBlock> color;
    Conv2d output;
    std::optional<LinearBlock> classifier_hidden;  // none without a class head
    std::optional<Linear> classifier_out;

    struct GlobalFeatures {
        Var vector;     // [N,256]: what fusion receives
        Var semantics;  // [N,512]: what the class head reads
    };
    struct Output {
        Var color;                  // [N,H/2,W/2,2] in 0..1; ab = ab_scale (2 color - 1)
        std::optional<Var> logits;  // [N,classes]; none without a class head
    };

    // H and W are multiples of 8. Giving the same Var twice runs the low-level stack once (the
    // paper's training at 224x224). Without the global branch `copy` is not used.
    // x and copy may be bf16 (Exec::maps): the maps then are, the results f32.
    Output operator()(const Var& x, const Var& copy);

    // The stages, for those who feed one photo's global features to another (style transfer).
    Var low_level(const Var& x);
    GlobalFeatures global_features(const Var& low_of_copy);
    Var colorize(const Var& low_of_x, const GlobalFeatures* global);
    Var classify(const GlobalFeatures& global);

    // Every parameter and running statistic with its name: f(name, Parameter&). Serves state,
    // optimizers and checks; what is missing here does not exist.
    void visit(const std::function<void(const std::string&, Parameter&)>& f);
    void cast(DType dtype);
    void to(Device device);

    // Called with each stage's name and value as it is computed; for goldens and explanations.
    std::function<void(const std::string&, const Var&)> observe;
    // Dropout draws its masks from these; the trainer advances the step. A process that holds a
    // share of the batch says where it begins.
    uint64_t dropout_seed = 0;
    uint32_t dropout_step = 0;
    int64_t dropout_first_sample = 0;
    const uint32_t* dropout_device_step = nullptr;  // instead, in memory of the GPU (DropoutMask)

  private:
    Var seen(const std::string& name, Var value) const {
        if (observe) observe(name, value);
        return value;
    }
};

}  // namespace lumachrome
