// Procedural photos of scenes: data to train on where nothing can be downloaded, and to test with.
//
// What makes them useful is that colour follows from the scene, not from the gray: sea, dunes, snow
// and meadows share textures and gray values, and a spring and an autumn meadow differ in colour
// alone. A network that colours them must first recognise where it is, which is the paper's point.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "image/image.hpp"

namespace lumachrome {

// The classes that render_scene knows, sorted.
const std::vector<std::string>& scene_names();

// Photo `index` of a class: size x size RGB of 8 bits, a pure function of its arguments. Features
// scale with the size. Throws UsageError for an unknown class or a size below 16.
Image render_scene(int64_t scene_class, int64_t size, uint64_t seed, uint32_t index);

}  // namespace lumachrome
