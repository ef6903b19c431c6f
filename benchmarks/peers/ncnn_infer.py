#!/usr/bin/env python3
"""ncnn on one photo: a peer of `lumachrome bench infer`. Mode words:

  split | joined   the fusion: global half as a bias, or over replicated global features, as published
  pool             ncnn's pool allocators instead of the system's
  nolight          every activation lives until the end
  keep, passive    freed memory stays with the process; threads that wait sleep instead of spinning
"""
from measuring import infer_driver


def prepare(options, words):
    import ncnn
    import numpy
    options.imported()
    pools = [ncnn.PoolAllocator(), ncnn.PoolAllocator()] if "pool" in words else []
    nets = []
    for name in ("low", f"{words[0]}_{options.size}"):
        net = ncnn.Net()
        net.opt.num_threads = options.threads
        net.opt.lightmode = "nolight" not in words
        net.opt.use_packing_layout = net.opt.use_winograd_convolution = net.opt.use_sgemm_convolution = True
        net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = net.opt.use_bf16_storage = False
        if pools:
            net.opt.blob_allocator, net.opt.workspace_allocator = pools
        if net.load_param(f"{options.files}/{name}.param") or net.load_model(f"{options.files}/{name}.bin"):
            raise SystemExit(f"ncnn: cannot load {name}")
        nets.append(net)
    low, rest = nets

    def infer(net, inputs, output):
        extractor = net.create_extractor()
        for name, value in inputs.items():
            extractor.input(name, value)
        status, result = extractor.extract(output)
        if status:
            raise SystemExit(f"ncnn: {output} failed with {status}")
        return result

    def run():
        maps = {{"x": "low", "copy": "low_copy"}[name]: infer(low, {"x": ncnn.Mat(value[0])}, "low")
                for name, value in options.inputs.items()}
        return numpy.array(infer(rest, maps, "color"))[None]
    run.pools = pools  # they outlive the nets
    return run, ncnn.__version__


if __name__ == "__main__":
    infer_driver(__doc__, ("split", "joined", "pool", "nolight"), prepare)
