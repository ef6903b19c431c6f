// What Torch7 writes (File.lua, "binary"): one object and all that it refers to, tables and torch
// objects numbered as they are met, so that cycles and shared storages come back as such. There is
// no header and no version; `long` has 8 bytes, or 4 where the writer was a 32-bit system.
//
// Read in one pass without recursion: a chain of any depth costs memory, not stack. Every count is
// compared with the bytes that are left before memory is taken for it. Numbers of storages stay
// where they are: only the tensors asked for are copied.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "tensor/tensor.hpp"

namespace lumachrome {

struct Torch7Value {
    enum class Kind { nil, number, text, boolean, object };
    Kind kind = Kind::nil;
    double number = 0;  // of a boolean: 0 or 1
    std::string_view text;
    size_t object = 0;  // index, see Torch7File
};

// Text and numbers are views of the file's bytes.
struct Torch7Object {
    enum class Kind { table, torch, tensor, storage, function };
    enum class Element { f16, f32, f64, other };
    Kind kind = Kind::table;
    std::string_view class_name;  // "nn.Sequential"; empty for tables and functions
    int version = 0;
    // table: key, value, key, value ...; torch object and function: one, its body; tensor: one, its
    // storage or nil.
    std::vector<Torch7Value> values;

    std::vector<int64_t> sizes, strides;  // of a tensor, in elements
    int64_t offset = 0;                   // of a tensor, from 0
    Element element = Element::other;     // of a tensor or storage
    std::span<const uint8_t> data;        // of a storage
    int64_t count = 0;
};

class Torch7File {
  public:
    // `bytes` outlive the result. Throws ModelError: the byte and the broken rule.
    static Torch7File parse(std::span<const uint8_t> bytes);
    // Does it begin as such a file does: a table or a torch object, the first of all?
    static bool begins(std::span<const uint8_t> bytes);

    const Torch7Value& root() const { return root_; }
    int64_t bytes() const { return bytes_; }  // of the file
    // Throws ModelError calling the value `what` unless it is an object.
    const Torch7Object& object(const Torch7Value& value, const char* what) const;
    // Of a table, or of the table that a torch object consists of; null: there is none.
    const Torch7Value* find(const Torch7Object& object, std::string_view key) const;
    const Torch7Value* find(const Torch7Object& object, int64_t index) const;
    // The elements 1..n of a table.
    std::vector<Torch7Value> sequence(const Torch7Object& table) const;
    // A tensor of floating-point numbers, rank 1 to 4, as contiguous f32. Throws ModelError when it
    // is something else or has more elements than its storage.
    Tensor to_f32(const Torch7Object& tensor) const;

  private:
    friend class Torch7Reader;
    const std::vector<Torch7Value>& entries(const Torch7Object& object) const;
    std::vector<Torch7Object> objects_;
    Torch7Value root_;
    int64_t bytes_ = 0;
};

}  // namespace lumachrome
