// A network as an ONNX file, for whoever runs it elsewhere (opset 13, IR 7).
//
// What is written is the traced graph that inference runs, batch norm folded: each op says how ONNX
// spells it, and the network is not described again. Maps are N,C,H,W there.
//
//   inputs   x [1,1,height,width], height and width multiples of 8; copy [1,1,S,S], the same photo
//            at the global branch's size (not without that branch). Both are luma minus luma_mean.
//   outputs  color [1,2,height/2,width/2] in 0..1, ab = ab_scale (2 color - 1); logits [1,classes]
//
// The two low-level stacks share their weights. The fusion's global half is a bias that differs at
// the border only: a map of ones convolved with the K filters that a Gemm makes of the vector.
#pragma once
#include <string>

#include "model/state.hpp"

namespace lumachrome {

struct OnnxOptions {
    DType weights = DType::f32;  // as stored; f16 and bf16 are widened where they are used
    bool overwrite = false;
};
struct OnnxSize {
    int64_t tensors = 0, parameters = 0;  // weights and biases, each once
};
// `metadata` goes into metadata_props, with a line about each input and output. The file appears
// whole or not at all. Throws as write_file_atomic, and ModelError for weights beyond f16.
OnnxSize export_onnx(const std::string& path, ColorNet net, const Metadata& metadata,
                     const OnnxOptions& options = {});

}  // namespace lumachrome
