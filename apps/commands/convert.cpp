#include "apps/commands/commands.hpp"
#include "model/state.hpp"
#include "tensor/tensor_file.hpp"

namespace lumachrome {

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

}  // namespace lumachrome
