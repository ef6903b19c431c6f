// The network's numbers, read off a trace on the meta device: nothing here knows the layer table.
#pragma once
#include <string>
#include <vector>

#include "model/colornet.hpp"

namespace lumachrome {

struct LayerSummary {
    std::string name, op;  // "low.1", "conv2d"
    Shape output;
    int64_t parameters, macs;
};

struct Summary {
    std::vector<LayerSummary> layers;                    // those with weights, and the upsamplings
    int64_t parameters = 0;                              // all trainable ones
    int64_t parameters_without_norm_and_classifier = 0;  // what the authors published
    int64_t macs = 0;           // one run at this size, global branch included
    double macs_per_pixel = 0;  // of the full-resolution path, per input pixel
    int64_t receptive_field =
        0;  // side, in input pixels, of what one output pixel sees on that path
};

// Of one photo of height x width, multiples of 8. When that is the global branch's size the
// low-level pass is shared.
Summary summarize(ColorNet& net, int64_t height, int64_t width);

}  // namespace lumachrome
