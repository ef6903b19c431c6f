#include "apps/commands/commands.hpp"
#include "model/state.hpp"
#include "tensor/tensor_file.hpp"

namespace lumachrome {
namespace {

struct ConvertOptions : RunOptions {
    std::string in, out;
    std::string dtype = "f16";
    bool overwrite = false;
};

int run_convert(const ConvertOptions& options, Console& console) {
    LoadedModel model = load_model(options.in);
    const TensorFile file =
        model_file(*model.net, model.metadata, options.dtype == "f16" ? DType::f16 : DType::f32);
    write_tensor_file(options.out, file, options.overwrite);

    int64_t parameters = 0;
    for (const auto& [name, tensor] : file.tensors) parameters += tensor.numel();
    Json json;
    json.set("tensors", std::ssize(file.tensors));
    json.set("parameters", parameters);
    json.set("output", options.out);
    console.result(json);
    console.print(format("%s: %ld tensors, %ld numbers, weights in %s", options.out.c_str(),
                         static_cast<long>(file.tensors.size()), long{parameters},
                         options.dtype.c_str()));
    return 0;
}

}  // namespace

Command convert_command() {
    Command command({
        .name = "convert",
        .summary = "a model in another number format",
        .description = "Writes a model with its weights in another number format.",
        .examples =
            "  lumachrome convert run/model.safetensors mine.safetensors      f16: half the size",
    });
    ConvertOptions& options = command.runs(run_convert);
    add_run_options(command, options);
    command.add("IN", options.in, "Model to read").required();
    command.add("OUT", options.out, "Model to write").required();
    command.add("--dtype", options.dtype, "Of weights; biases and batch norm stay f32")
        .one_of({"f16", "f32"});
    command.add("--overwrite", options.overwrite, "Replace OUT if it exists");
    return command;
}

}  // namespace lumachrome
