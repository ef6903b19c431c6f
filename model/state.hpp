// Networks in files: strict safetensors with PyTorch's names and axis order (convolutions O,I,H,W),
// so that Python reads our checkpoints as it would its own. The spec travels in the metadata.
#pragma once
#include <map>
#include <memory>
#include <string>

#include "model/colornet.hpp"
#include "tensor/tensor_file.hpp"

namespace lumachrome {

using Metadata = std::map<std::string, std::string>;

// Files know nothing of devices: what is written comes to the CPU first, what is loaded goes to
// where the network lies.

// Axis order between memory (K,R,S,C) and file (K,C,R,S); other ranks are the same in both. Memory
// has no f16 and bf16: they become f32. The result shares memory where nothing changes.
Tensor to_file_order(const Tensor& value);
Tensor to_memory_order(const Tensor& stored);

// `extra` is added to the spec's metadata. f16 and bf16 halve the weights; biases, batch norm and
// everything else of rank 1 stay f32. The result may share memory with the network.
TensorFile model_file(ColorNet& net, const Metadata& extra = {}, DType weights = DType::f32);

// Strict: every tensor of the network must be there with its shape, and none besides. Throws
// ModelError naming the file and the tensor; the network is then of no use any more.
void load_state(ColorNet& net, const TensorFile& file, const std::string& name);

struct LoadedModel {
    std::unique_ptr<ColorNet> net;
    Metadata metadata;
};
LoadedModel load_model(const std::string& path);
LoadedModel load_model(TensorFile file, const std::string& name);

}  // namespace lumachrome
