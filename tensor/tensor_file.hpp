// Strict safetensors: 8 bytes header length, JSON header, one buffer of row-major little-endian
// tensors. Read as the format's reference does, and stricter: duplicate keys, holes, overlaps,
// trailing bytes, unknown types, long names and headers over 1 MiB are refused before a tensor is
// made. Memory is taken for the bytes that a file has, never for what its header claims. What we
// write has the order of the format's own writer.
#pragma once
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "tensor/tensor.hpp"

namespace lumachrome {

struct TensorFile {
    std::map<std::string, std::string> metadata;
    std::map<std::string, Tensor> tensors;
};

// `name` is used in errors. Throws ModelError: one line that names the file and the broken rule.
// f16 and bf16 tensors are returned as they are stored; see to_f32. The tensors share the file's
// memory, which lives as long as any of them.
bool is_tensor_file(std::span<const uint8_t> start);  // by its first 8 bytes
TensorFile parse_tensor_file(std::vector<uint8_t> bytes, const std::string& name);
TensorFile read_tensor_file(const std::string& path);

std::vector<uint8_t> serialize(const TensorFile& file);
void write_tensor_file(const std::string& path, const TensorFile& file, bool overwrite);

Tensor to_f32(const Tensor& stored);  // from f16, bf16, f64 or f32
Tensor to_f16(const Tensor& values);  // from f32; throws ModelError beyond +-65504

}  // namespace lumachrome
