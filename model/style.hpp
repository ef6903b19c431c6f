// A style is a photo's global features [1,G], taken for themselves: what the scene is, what season,
// what light. Another photo coloured with them takes on their mood (paper, section 5.4). One layer
// reads them, the fusion, so that a change of style costs only what follows it.
//
//   features = (1 - sum of w_i) own + sum of w_i s_i
#pragma once
#include <span>
#include <string>
#include <vector>

#include "model/colornet.hpp"

namespace lumachrome {

struct Style {
    Tensor features;    // [1,G] f32
    double weight = 1;  // 0..1, its share; the rest is the photo's own
};

// Weights that sum to more than 1 are scaled to 1. Throws ShapeError for features of another
// network.
Tensor mix(const Tensor& own, std::span<const Style> styles);

// Semantics [1,F] near these in which the class head sees `label`: gradient ascent of log p(label)
// over what the head reads, no further than needed. A copy of a network shares its weights.
Tensor toward_class(ColorNet net, const Exec& exec, const Tensor& semantics, int64_t label);
// Their style, by the last layer of the global branch.
Tensor style_of_semantics(ColorNet& net, const Exec& exec, const Tensor& semantics);

// Styles in files: a safetensors file of about 1 KiB. Features mean something to the weights that
// made them only, so the file names these by their SHA-256.
void write_style(const std::string& path, const Tensor& features, const std::string& weights_sha256,
                 bool overwrite);
// The same in memory; `name` is used in errors.
std::vector<uint8_t> style_bytes(const Tensor& features, const std::string& weights_sha256);
// Features [1,G] of a network with this `spec`. Throws ModelError for a file that is no style, that
// other weights made, or whose features are not G finite numbers.
Tensor parse_style(std::vector<uint8_t> bytes, const std::string& name, const Spec& spec,
                   const std::string& weights_sha256);

}  // namespace lumachrome
