// The authors' published weights, as ours: colornet.t7 (Torch7) and network.bin (raw numbers made
// from it). Their licence is CC BY-NC-SA 4.0, so neither they nor what is made of them is shipped
// here; the notice travels in the metadata of the result.
//
//   .t7          root { mean, model = nn.gModule }. The graph's nodes hold, in any order, two equal
//                low-level stacks, mid, global (up to the 512 features that the class head reads),
//                the last fully connected layer, and fusion with colour. They are found by their
//                layers, and the order of the fusion's two inputs by the graph. Batch norm is
//                folded into the weights; a class head is taken along.
//   network.bin  f32 without a header: low, mid, global convolutions, fully connected layers,
//                fusion, colour; weight, then bias. It is known by its size.
#pragma once
#include <optional>
#include <span>
#include <string>

#include "model/state.hpp"

namespace lumachrome {

inline constexpr const char* kPublishedLicence =
    "CC BY-NC-SA 4.0, from weights published by Iizuka, Simo-Serra and Ishikawa (2016): name them, "
    "no commercial use, share alike";

// `name` is used in errors. `luma_mean` replaces the file's; without one in either it is refused.
// Throws ModelError: one line that names the file and the broken rule.
LoadedModel import_torch7(std::span<const uint8_t> bytes, const std::string& name,
                          std::optional<double> luma_mean = {});

// The file's size says what it is. Another spec: the same for another width, as tests have it.
inline constexpr int64_t kNetworkBinBytes = 172'873'608;
Spec network_bin_spec();  // the paper's, norms folded, no class head
LoadedModel import_network_bin(std::span<const uint8_t> bytes, const std::string& name,
                               const Spec& spec = network_bin_spec());

}  // namespace lumachrome
