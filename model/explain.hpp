// What happens inside the network with one photo, as figures: nothing here is drawn yet.
#pragma once
#include <string>
#include <vector>

#include "model/colornet.hpp"

namespace lumachrome {

struct Explanation {
    // A stage whose output is a map.
    struct Stage {
        std::string name;               // "low.1"
        Shape shape;                    // [1,H,W,C]
        double zero_share = 0;          // of its values
        std::vector<int64_t> channels;  // those that vary most over the photo, most first
        std::vector<Tensor> strongest;  // their maps [H,W,1] f32
    };
    std::vector<Stage> stages;

    // Where the photo speaks for a class: Grad-CAM (Selvaraju et al. 2017, section 3) of the last
    // map of the global branch, ReLU(sum over channels of mean(dlogit/dA_c) A_c), 1 at its largest.
    struct Attention {
        int64_t label;
        Tensor map;  // [h,w,1] f32
    };
    std::vector<Attention> attention;

    // What the global vector adds to the fusion, against what the local map adds: of the sums
    // W_g g and W_m m(u,v), after batch norm, the lengths |W_g g| / (|W_g g| + |W_m m(u,v)|).
    Tensor global_share;  // [H/8,W/8,1] f32; undefined without the global branch
};

// x [1,H,W,1] and its copy [1,S,S,1], as for the network, on the CPU. `channels` maps of each stage
// are kept; attention is computed for `labels`, which needs a class head. A copy of a network
// shares its weights.
Explanation explain(ColorNet net, const Exec& exec, const Tensor& x, const Tensor& copy,
                    int64_t channels, const std::vector<int64_t>& labels);

}  // namespace lumachrome
