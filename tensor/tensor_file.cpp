#include "tensor/tensor_file.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tensor/error.hpp"
#include "tensor/file.hpp"
#include "tensor/json.hpp"
#include "tensor/storage.hpp"

namespace lumachrome {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{4} << 30;
// The largest of ours, with optimizer state, has 50 KiB.
constexpr int64_t kMaxHeaderBytes = 1 << 20;
constexpr size_t kMaxNameBytes = 256;

struct Entry {
    std::string name;
    DType dtype;
    Shape shape;
    int64_t begin, end;
};

const char* format_name(DType dtype) {
    constexpr const char* kNames[] = {"F32", "F64", "BF16", "F16"};
    return kNames[static_cast<int>(dtype)];
}

DType parse_dtype(const std::string& text) {
    for (DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16})
        if (text == format_name(dtype)) return dtype;
    throw InputError("dtype " + text.substr(0, 20) + " is not one of F32 F64 BF16 F16");
}

Shape parse_shape(const Json::Array& extents) {
    if (extents.size() > Shape::kMaxRank) throw InputError("rank exceeds 4");
    int64_t e[Shape::kMaxRank] = {};
    for (size_t axis = 0; axis < extents.size(); ++axis) e[axis] = extents[axis].integer();
    switch (extents.size()) {
        case 0:
            return {};
        case 1:
            return {e[0]};
        case 2:
            return {e[0], e[1]};
        case 3:
            return {e[0], e[1], e[2]};
        default:
            return {e[0], e[1], e[2], e[3]};
    }
}

Entry parse_entry(const std::string& name, const Json& json) {
    if (name.size() > kMaxNameBytes) throw InputError("a tensor name exceeds 256 bytes");
    try {
        for (const auto& [key, value] : json.object())
            if (key != "dtype" && key != "shape" && key != "data_offsets")
                throw InputError("unknown key " + key.substr(0, 40));
        const auto& offsets = json.at("data_offsets").array();
        if (offsets.size() != 2) throw InputError("data_offsets must be [begin, end]");
        Entry entry{name, parse_dtype(json.at("dtype").string()),
                    parse_shape(json.at("shape").array()), offsets[0].integer(),
                    offsets[1].integer()};
        int64_t bytes;
        if (__builtin_mul_overflow(entry.shape.numel(), size_in_bytes(entry.dtype), &bytes) ||
            entry.begin < 0 || entry.end < entry.begin || entry.end - entry.begin != bytes)
            throw InputError("offsets [" + std::to_string(entry.begin) + ", " +
                             std::to_string(entry.end) + ") do not hold " + entry.shape.str() +
                             " " + format_name(entry.dtype));
        return entry;
    } catch (const Error& error) {
        throw InputError("tensor " + name + ": " + error.what());
    }
}

// The bytes of a file; the tensors in it keep them alive.
struct FileBytes {
    std::shared_ptr<std::byte> memory;
    size_t size = 0;
};

// In the file's memory where that is aligned to the element, as it is in all files we write.
Tensor tensor_at(const std::shared_ptr<std::byte>& memory, std::byte* at, const Entry& entry) {
    const auto address = reinterpret_cast<uintptr_t>(at);
    if (address % static_cast<uintptr_t>(size_in_bytes(entry.dtype)) == 0)
        return Tensor::part({memory, at}, entry.shape, entry.dtype);
    Tensor copy = Tensor::empty(entry.shape, entry.dtype);
    std::memcpy(copy.raw(), at, static_cast<size_t>(copy.bytes()));
    return copy;
}

TensorFile parse(const FileBytes& bytes) {
    if (bytes.size < 8) throw InputError("too short for a safetensors file");
    uint64_t length;
    std::memcpy(&length, bytes.memory.get(), 8);
    if (length > uint64_t{kMaxHeaderBytes})
        throw InputError("not a safetensors file, or its header exceeds 1 MiB");
    if (length > bytes.size - 8)
        throw InputError("header reaches beyond the end of the file: truncated");
    const Json header = Json::parse(
        {reinterpret_cast<const char*>(bytes.memory.get()) + 8, static_cast<size_t>(length)});
    const int64_t buffer_bytes = static_cast<int64_t>(bytes.size - 8 - length);
    std::byte* const buffer = bytes.memory.get() + 8 + length;

    TensorFile file;
    std::vector<Entry> entries;
    for (const auto& [key, value] : header.object()) {
        if (key == "__metadata__") {
            for (const auto& [name, text] : value.object()) file.metadata[name] = text.string();
        } else {
            entries.push_back(parse_entry(key, value));
        }
    }
    std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
        return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
    });
    int64_t position = 0;
    for (const Entry& entry : entries) {
        if (entry.begin != position)
            throw InputError("tensor " + entry.name + ": leaves a hole or overlaps at byte " +
                             std::to_string(entry.begin));
        position = entry.end;
    }
    if (position != buffer_bytes)
        throw InputError("tensors take " + std::to_string(position) + " bytes, the file holds " +
                         std::to_string(buffer_bytes) +
                         (position > buffer_bytes ? ": truncated" : ""));
    for (const Entry& entry : entries)
        file.tensors.emplace(entry.name, tensor_at(bytes.memory, buffer + entry.begin, entry));
    return file;
}

TensorFile parse(const FileBytes& bytes, const std::string& name) {
    try {
        return parse(bytes);
    } catch (const InputError& error) {
        throw ModelError(name + ": " + error.what());
    } catch (const ShapeError& error) {
        throw ModelError(name + ": " + error.what());
    }
}

}  // namespace

bool is_tensor_file(std::span<const uint8_t> start) {
    uint64_t length = 0;
    if (start.size() >= 8) std::memcpy(&length, start.data(), 8);
    return start.size() >= 8 && length <= uint64_t{kMaxHeaderBytes};
}

TensorFile parse_tensor_file(std::vector<uint8_t> bytes, const std::string& name) {
    const auto kept = std::make_shared<std::vector<uint8_t>>(std::move(bytes));
    return parse({{kept, reinterpret_cast<std::byte*>(kept->data())}, kept->size()}, name);
}

TensorFile read_tensor_file(const std::string& path) {
    const auto check_start = [&](std::span<const uint8_t> start) {
        if (!is_tensor_file(start))
            throw InputError(path + ": not a safetensors file, or its header exceeds 1 MiB");
    };
    // Memory of tensors, which is not cleared first, and handed on once the file is done with.
    FileBytes bytes;
    const auto room = [&](size_t size) {
        auto larger = allocate(static_cast<int64_t>(size));
        if (bytes.memory) std::memcpy(larger.get(), bytes.memory.get(), bytes.size);
        bytes = {std::move(larger), size};
        return reinterpret_cast<uint8_t*>(bytes.memory.get());
    };
    try {
        bytes.size = read_file(path, kMaxFileBytes, check_start, room);
    } catch (const InputError& error) {
        throw ModelError(error.what());
    }
    return parse(bytes, path);
}

std::vector<uint8_t> serialize(const TensorFile& file) {
    std::vector<std::pair<std::string, Tensor>> order(file.tensors.begin(), file.tensors.end());
    std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
        return size_in_bytes(a.second.dtype()) > size_in_bytes(b.second.dtype());
    });
    Json header{Json::Object{}};
    if (!file.metadata.empty()) {
        Json metadata{Json::Object{}};
        for (const auto& [key, value] : file.metadata) metadata.set(key, value);
        header.set("__metadata__", metadata);
    }
    int64_t position = 0;
    for (const auto& [name, tensor] : order) {
        Json::Array shape;
        for (int axis = 0; axis < tensor.shape().rank(); ++axis)
            shape.push_back(tensor.shape()[axis]);
        Json entry;
        entry.set("dtype", format_name(tensor.dtype()));
        entry.set("shape", shape);
        entry.set("data_offsets", Json::Array{position, position + tensor.bytes()});
        header.set(name, entry);
        position += tensor.bytes();
    }
    std::string text = header.dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');
    if (std::ssize(text) > kMaxHeaderBytes)
        throw Error("names and metadata of a tensor file exceed 1 MiB; nobody would read it");
    std::vector<uint8_t> bytes(8 + text.size() + static_cast<size_t>(position));
    const uint64_t length = text.size();
    std::memcpy(bytes.data(), &length, 8);
    std::memcpy(bytes.data() + 8, text.data(), text.size());
    uint8_t* out = bytes.data() + 8 + text.size();
    for (const auto& [name, tensor] : order) {
        if (tensor.bytes() > 0) std::memcpy(out, tensor.raw(), static_cast<size_t>(tensor.bytes()));
        out += tensor.bytes();
    }
    return bytes;
}

void write_tensor_file(const std::string& path, const TensorFile& file, bool overwrite) {
    write_file_atomic(path, serialize(file), overwrite);
}

Tensor to_f32(const Tensor& stored) {
    if (stored.dtype() == DType::f32 || stored.dtype() == DType::f64) return stored.to(DType::f32);
    const Tensor out = Tensor::empty(stored.shape());
    widen(stored.dtype(), reinterpret_cast<const uint16_t*>(stored.raw()), out.numel(),
          out.data<float>());
    return out;
}

Tensor to_f16(const Tensor& values) {
    const Tensor out = Tensor::empty(values.shape(), DType::f16);
    auto* bits = reinterpret_cast<uint16_t*>(out.raw());
    constexpr float kLargest = 65504;
    const float* in = values.data<float>();
    for (int64_t i = 0; i < out.numel(); ++i) {
        const float value = in[i];
        if (!(std::fabs(value) <= kLargest))
            throw ModelError("a weight of " + std::to_string(value) + " does not fit into f16");
        bits[i] = float_to_f16(value);
    }
    return out;
}

}  // namespace lumachrome
