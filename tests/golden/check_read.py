#!/usr/bin/env python3
"""Reads a checkpoint of lumachrome with the safetensors package into the PyTorch twin, and runs it.

    python check_read.py model.safetensors                           input: the formula of twin.py, one photo of 64x64
    python check_read.py model.safetensors --input 40x24 --out o.safetensors

The names must be exactly those of the twin. The network's shape is read off the tensors; the activation is not visible in them
and comes from the metadata, or from --activation. The input is x = uniform(t=1000) - 0.45 [N,1,H,W] and, unless H and W both equal
the global size, g = uniform(t=1001) - 0.45 [N,1,S,S]. The output (evaluation mode, float64) is printed in NHWC order.
Exit status: 0, or 1 with the reason on stderr.
"""
import argparse
import math
import sys

import safetensors
import safetensors.torch
import torch

from twin import Twin, input_g, input_x, nhwc


def shape_of_network(state):
    """Twin's arguments, from the shapes of the tensors."""
    width = state["low.1.conv.weight"].shape[0] / 64
    found = dict(width=width, fusion_kernel=state["fusion.conv.weight"].shape[2], use_global="global.1.conv.weight" in state,
                 classes=0, global_size=32)
    if found["use_global"]:
        # 7x7 cells mean 224, though 193..224 would all fit: see --global-size
        found["global_size"] = 32 * math.isqrt(state["global.fc1.linear.weight"].shape[1] // round(512 * width))
    if "classifier.2.linear.weight" in state:
        found["classes"] = state["classifier.2.linear.weight"].shape[0]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--activation", choices=["relu", "sigmoid"], help="default: metadata entry `activation`, else relu")
    parser.add_argument("--global-size", type=int, help="default: metadata entry `global_size`, else 32 times the side of what enters fc1")
    parser.add_argument("--input", default="64x64", metavar="HxW")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--out", metavar="FILE", help="also write `output` (and `logits`) in float64, NHWC, as safetensors")
    args = parser.parse_args()
    height, width = map(int, args.input.split("x"))
    assert height % 8 == 0 == width % 8, "height and width must be multiples of 8"
    torch.set_num_threads(1)

    with safetensors.safe_open(args.checkpoint, "pt") as f:
        meta = f.metadata() or {}
    state = safetensors.torch.load_file(args.checkpoint)
    dtypes = sorted({str(v.dtype) for v in state.values()})
    print(f"{len(state)} tensors, {sum(v.numel() for v in state.values())} numbers, {', '.join(dtypes)}; metadata: {meta}")

    network = shape_of_network(state)
    network["activation"] = args.activation or meta.get("activation", "relu")
    network["global_size"] = args.global_size or int(meta.get("global_size", network["global_size"]))
    print("network:", network)
    twin = Twin(**network).double().eval()
    missing, extra = sorted(set(twin.names()) - state.keys()), sorted(state.keys() - set(twin.names()))
    if missing or extra:
        sys.exit(f"names differ: missing {missing}, not expected {extra}")
    counters = {n: v for n, v in twin.state_dict().items() if n.endswith("num_batches_tracked")}  # PyTorch's own, not used here
    twin.load_state_dict(state | counters, strict=True)  # checks the shapes; converts to float64

    size = network["global_size"]
    with torch.no_grad():
        tap = twin(input_x((args.batch, 1, height, width)), input_g((args.batch, 1, size, size)))
    results = {"output": nhwc(tap["output"]).contiguous()}
    if network["classes"]:
        results["logits"] = tap["classifier.2"].contiguous()
    for name, v in results.items():
        first = " ".join(f"{e:.17g}" for e in v.flatten()[:6].tolist())
        print(f"{name} {list(v.shape)}: mean {v.mean():.17g} min {v.min():.17g} max {v.max():.17g}\n  first: {first}")
    if args.out:
        safetensors.torch.save_file(results, args.out)


if __name__ == "__main__":
    main()
