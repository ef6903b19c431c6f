#include <filesystem>

#include "apps/commands/commands.hpp"
#include "model/export_onnx.hpp"
#include "model/import_torch7.hpp"
#include "model/state.hpp"
#include "model/torch7_file.hpp"
#include "tensor/error.hpp"
#include "tensor/file.hpp"
#include "tensor/sha256.hpp"
#include "tensor/tensor_file.hpp"

namespace lumachrome {
namespace {

namespace fs = std::filesystem;

struct ConvertOptions : RunOptions {
    std::string in, out;
    std::optional<std::string> dtype;
    std::optional<double> luma_mean;
    bool overwrite = false;
};

constexpr int64_t kMaxFileBytes = int64_t{4} << 30;

bool is_onnx(const ConvertOptions& options) {
    const std::string extension = fs::path(options.out).extension().string();
    if (extension != ".onnx" && extension != ".safetensors")
        throw UsageError(options.out + ": must end in .safetensors or .onnx");
    return extension == ".onnx";
}

DType dtype_named(const std::string& text) {
    for (const DType dtype : {DType::f16, DType::bf16})
        if (text == name(dtype)) return dtype;
    return DType::f32;
}

bool is_torch7(std::span<const uint8_t> start) {
    return Torch7File::begins(start);
}
bool is_network_bin(const std::string& path) {
    std::error_code error;
    return fs::file_size(path, error) == uint64_t(kNetworkBinBytes) && !error;
}

std::vector<uint8_t> read_model(const std::string& path) {
    const auto check = [&](std::span<const uint8_t> start) {
        if (!is_tensor_file(start) && !is_torch7(start) && !is_network_bin(path))
            throw InputError(
                path + (!start.empty() && start[0] == '<' ? ": looks like a web page," : ": is") +
                " neither a safetensors file nor a .t7 file nor a network.bin");
    };
    try {
        return read_file(path, kMaxFileBytes, check);
    } catch (const InputError& error) {
        throw ModelError(error.what());
    }
}

struct Source {
    LoadedModel model;
    bool imported;
    std::string sha256;
};

Source load(const ConvertOptions& options) {
    std::vector<uint8_t> bytes = read_model(options.in);
    const std::string hash = sha256(bytes);
    if (is_torch7(bytes)) return {import_torch7(bytes, options.in, options.luma_mean), true, hash};
    if (options.luma_mean) throw UsageError("--luma-mean: is for .t7 files");
    if (!is_tensor_file(bytes)) return {import_network_bin(bytes, options.in), true, hash};
    return {load_model(parse_tensor_file(std::move(bytes), options.in), options.in), false, hash};
}

int run_convert(const ConvertOptions& options, Console& console) {
    const bool onnx = is_onnx(options);
    Source source = load(options);
    Metadata& metadata = source.model.metadata;
    metadata["source_sha256"] = source.sha256;
    const std::string dtype = options.dtype.value_or(onnx || source.imported ? "f32" : "f16");
    OnnxSize size;
    if (onnx) {
        size = export_onnx(options.out, std::move(*source.model.net), metadata,
                           {dtype_named(dtype), options.overwrite});
    } else {
        const TensorFile file = model_file(*source.model.net, metadata, dtype_named(dtype));
        source.model.net.reset();
        write_tensor_file(options.out, file, options.overwrite);
        for (const auto& [name, tensor] : file.tensors) size.parameters += tensor.numel();
        size.tensors = std::ssize(file.tensors);
    }
    Json json;
    json.set("tensors", size.tensors);
    json.set("parameters", size.parameters);
    json.set("source_sha256", source.sha256);
    json.set("dtype", dtype);
    json.set("output", options.out);
    console.result(json);
    console.print(format("%s: %ld tensors, %ld numbers, weights in %s", options.out.c_str(),
                         long{size.tensors}, long{size.parameters}, dtype.c_str()));
    if (metadata.contains("licence")) console.note("licence: " + metadata["licence"]);
    return 0;
}

}  // namespace

Command convert_command() {
    Command command({
        .name = "convert",
        .summary = "a model in another format: the authors' files, ONNX, f16, bf16",
        .description =
            "Writes a model in another format. IN is ours (.safetensors), the authors' "
            "colornet.t7, or the network.bin made of it; what it is, its first bytes tell. The "
            "authors' weights are CC BY-NC-SA 4.0, and so is what is made of them.",
        .examples =
            "  lumachrome convert run/model.safetensors mine.safetensors      f16: half the size\n"
            "  lumachrome convert run/model.safetensors mine.onnx\n"
            "  lumachrome convert colornet.t7 colornet.safetensors",
    });
    ConvertOptions& options = command.runs(run_convert);
    add_run_options(command, options);
    command.add("IN", options.in, "Model to read").required();
    command.add("OUT", options.out, "Model to write, .safetensors or .onnx").required();
    command
        .add("--dtype", options.dtype,
             "Of weights, biases and batch norm stay f32; unless told f16 from .safetensors to "
             ".safetensors, else f32")
        .one_of({"f32", "f16", "bf16"});
    command
        .add("--luma-mean", options.luma_mean,
             "What the input was centred by, in place of what a .t7 file says or fails to say")
        .within(0, 1);
    command.add("--overwrite", options.overwrite, "Replace OUT if it exists");
    return command;
}

}  // namespace lumachrome
