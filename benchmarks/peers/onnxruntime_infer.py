#!/usr/bin/env python3
"""ONNX Runtime on one photo: a peer of `lumachrome bench infer`. Mode words:

  split | joined   the fusion: global half as a bias, or over replicated global features, as published
  noarena          memory from the system instead of the runtime's arena
  keep, passive    freed memory stays with the process; threads that wait sleep instead of spinning
"""
from measuring import infer_driver


def prepare(options, words):
    import onnxruntime
    options.imported()
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.enable_cpu_mem_arena = "noarena" not in words
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0" if "passive" in words else "1")
    session = onnxruntime.InferenceSession(f"{options.files}/{words[0]}_{options.size}.onnx", settings, ["CPUExecutionProvider"])
    return lambda: session.run(None, options.inputs)[0], onnxruntime.__version__


if __name__ == "__main__":
    infer_driver(__doc__, ("split", "joined", "noarena"), prepare)
