#!/usr/bin/env python3
"""OpenVINO on one photo: a peer of `lumachrome bench infer`. Mode words:

  split | joined   the fusion: global half as a bias, or over replicated global features, as published
  default          the plugin's own precision instead of f32: bf16 where the processor has it
  keep, passive    freed memory stays with the process; threads that wait sleep instead of spinning
"""
from measuring import infer_driver


def prepare(options, words):
    import openvino
    import openvino.properties.hint as hint
    options.imported()
    config = {hint.performance_mode(): hint.PerformanceMode.LATENCY, openvino.properties.inference_num_threads(): options.threads}
    if "default" not in words:
        config[hint.inference_precision()] = openvino.Type.f32
    network = openvino.Core().compile_model(f"{options.files}/{words[0]}_{options.size}.onnx", "CPU", config)
    options.precision = network.get_property(hint.inference_precision()).to_string()
    request = network.create_infer_request()
    for name, value in options.inputs.items():
        request.set_tensor(name, openvino.Tensor(value, shared_memory=True))

    def run():
        request.infer()
        return request.get_output_tensor().data
    return run, openvino.__version__.split("-")[0]


if __name__ == "__main__":
    infer_driver(__doc__, ("split", "joined", "default"), prepare)
