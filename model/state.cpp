#include "model/state.hpp"

#include "tensor/error.hpp"

namespace lumachrome {
namespace {

// Each of the K filters, rows x cols, becomes cols x rows.
template <class T>
void transpose_filter(const T* in, int64_t rows, int64_t cols, T* out) {
    for (int64_t j = 0; j < cols; ++j)
        for (int64_t i = 0; i < rows; ++i) out[j * rows + i] = in[i * cols + j];
}

Tensor transpose_filters(const Tensor& in, int64_t K, int64_t rows, int64_t cols, Shape shape) {
    const Tensor out = Tensor::empty(shape, in.dtype());
    if (out.numel() == 0) return out;
    const int64_t size = out.numel() / K;
    dispatch_float(in.dtype(), [&](auto t) {
        using T = decltype(t);
        for (int64_t k = 0; k < K; ++k)
            transpose_filter(in.data<T>() + k * size, rows, cols, out.data<T>() + k * size);
    });
    return out;
}

// From two-byte elements: each filter is widened in the cache on its way.
Tensor widen_filters(const Tensor& in, int64_t K, int64_t rows, int64_t cols, Shape shape) {
    const Tensor out = Tensor::empty(shape);
    if (out.numel() == 0) return out;
    const int64_t size = out.numel() / K;
    const Tensor filter = Tensor::empty({size});
    const auto* bits = reinterpret_cast<const uint16_t*>(in.raw());
    for (int64_t k = 0; k < K; ++k) {
        widen(in.dtype(), bits + k * size, size, filter.data<float>());
        transpose_filter(filter.data<float>(), rows, cols, out.data<float>() + k * size);
    }
    return out;
}

// Of a file's tensor, as to_file_order makes it.
Shape file_shape(const Shape& s) {
    return s.rank() == 4 ? Shape{s[0], s[3], s[1], s[2]} : s;
}

bool is_stored_type(DType dtype) {
    return dtype == DType::f16 || dtype == DType::bf16;
}

// The sizes that the metadata alone decides, compared with the file before memory is taken for
// them.
void check_extents(const Spec& spec, const TensorFile& file) {
    if (!spec.use_global) return;
    const auto check = [&](const char* name, Shape expected) {
        const auto it = file.tensors.find(name);
        if (it == file.tensors.end() || it->second.shape() != expected)
            throw ModelError(std::string("tensor ") + name +
                             " does not fit the metadata: it must be " + expected.str());
    };
    check("global.fc1.linear.weight",
          {spec.channels(kGlobalFeatures[0]),
           spec.channels(kGlobal[3].out) * spec.global_map() * spec.global_map()});
    if (spec.has_class_head())
        check("classifier.2.linear.weight", {spec.classes, spec.channels(kClassifierHidden)});
}

}  // namespace

Tensor to_file_order(const Tensor& value) {
    const Shape& s = value.shape();
    const Tensor here = value.to(Device{});
    if (s.rank() != 4) return here;
    return transpose_filters(here, s[0], s[1] * s[2], s[3], file_shape(s));
}

Tensor to_memory_order(const Tensor& stored) {
    const Shape& s = stored.shape();
    const bool widens = is_stored_type(stored.dtype());
    if (s.rank() != 4) return widens ? to_f32(stored) : stored;
    const auto transpose = widens ? widen_filters : transpose_filters;
    return transpose(stored, s[0], s[1], s[2] * s[3], {s[0], s[2], s[3], s[1]});
}

TensorFile model_file(ColorNet& net, const Metadata& extra, DType weights) {
    TensorFile file;
    file.metadata = to_metadata(net.spec);
    for (const auto& [key, value] : extra) file.metadata[key] = value;
    net.visit([&](const std::string& name, Parameter& p) {
        const Tensor ordered = to_file_order(p.value);
        const bool halve = size_in_bytes(weights) == 2 && ordered.shape().rank() >= 2;
        file.tensors[name] = !halve                  ? ordered
                             : weights == DType::f16 ? to_f16(ordered.to(DType::f32))
                                                     : ordered.to(DType::bf16);
    });
    return file;
}

void load_state(ColorNet& net, const TensorFile& file, const std::string& name) {
    size_t found = 0;
    net.visit([&](const std::string& tensor_name, Parameter& p) {
        const auto it = file.tensors.find(tensor_name);
        if (it == file.tensors.end())
            throw ModelError(name + ": tensor " + tensor_name + " is missing");
        const Tensor& stored = it->second;
        const Shape expected = file_shape(p.value.shape());
        if (stored.shape() != expected)
            throw ModelError(name + ": tensor " + tensor_name + " is " + stored.shape().str() +
                             " in the file, the network needs " + expected.str());
        const DType dtype = p.value.dtype();
        const Device device = p.value.device();
        p.value = {};  // its memory takes what is loaded
        const Tensor value = to_memory_order(stored);
        // The caller's tensors stay its own where nothing was converted.
        const bool shared = value.shape().rank() != 4 && value.dtype() == stored.dtype();
        p.value = shared && value.dtype() == dtype && device == Device{}
                      ? value.clone()
                      : value.to(dtype).to(device);
        ++p.version;
        ++found;
    });
    if (found == file.tensors.size()) return;
    for (const auto& [tensor_name, tensor] : file.tensors) {
        bool known = false;
        net.visit([&, &wanted = tensor_name](const std::string& candidate, Parameter&) {
            known |= candidate == wanted;
        });
        if (!known) throw ModelError(name + ": tensor " + tensor_name + " belongs to no layer");
    }
}

LoadedModel load_model(TensorFile file, const std::string& name) {
    Spec spec;
    try {
        spec = from_metadata(file.metadata);
        check_extents(spec, file);
    } catch (const ModelError& error) {
        throw ModelError(name + ": " + error.what());
    }
    auto net = std::make_unique<ColorNet>(spec);
    load_state(*net, file, name);
    return {std::move(net), std::move(file.metadata)};
}

LoadedModel load_model(const std::string& path) {
    return load_model(read_tensor_file(path), path);
}

}  // namespace lumachrome
