#!/usr/bin/env python3
"""PyTorch on one photo: a peer of `lumachrome bench infer`. Mode words:

  split | joined   the fusion: global half as a bias, or over replicated global features, as published
  channels_last    memory order of activations and filters; without it, contiguous
  jit              TorchScript, frozen and put through optimize_for_inference (oneDNN's own layouts)
  compile          torch.compile with frozen weights (needs a C++ compiler; compiling is not counted)
  keep, passive    freed memory stays with the process; threads that wait sleep instead of spinning
"""
import warnings

from measuring import infer_driver


def prepare(options, words):
    import torch
    options.imported()
    import inference  # noqa: F401  the classes in the file
    torch.set_num_threads(options.threads)
    order = torch.channels_last if "channels_last" in words else torch.contiguous_format
    network = torch.load(f"{options.files}/{words[0]}.pt", weights_only=False, mmap=True).to(memory_format=order)
    inputs = [torch.from_numpy(value).to(memory_format=order) for value in options.inputs.values()]
    mode = torch.inference_mode
    if "jit" in words:
        mode = torch.no_grad
        warnings.simplefilter("ignore", FutureWarning)  # TorchScript is deprecated, and still a mode to try
        with torch.no_grad():
            network = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(network, inputs, check_trace=False)))
    elif "compile" in words:
        mode = torch.no_grad
        import torch._inductor.config as inductor
        inductor.freezing = True
        network = torch.compile(network)

    def run():
        with mode():
            return network(*inputs).numpy()
    return run, torch.__version__


if __name__ == "__main__":
    infer_driver(__doc__, ("split", "joined", "channels_last", "jit", "compile"), prepare)
