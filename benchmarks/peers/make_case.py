#!/usr/bin/env python3
"""Writes one network, its inputs and what it should answer, in every format that benchmarks/infer needs.

    weights.safetensors              a checkpoint of ours with the formula's weights and batch norm statistics (tests/golden/twin.py)
    input_N.safetensors              x [1,N,N,1] and copy [1,S,S,1] for `lumachrome bench infer --input`; x_N.npy, copy_N.npy the same in NCHW
    expected_N.safetensors           color [1,N/2,N/2,2] of the twin in float64; NaN where it was not computed
    split.pt, split_N.onnx, low.*, split_N.*     for PyTorch, ONNX Runtime and OpenVINO, ncnn; joined with --fusion joined

Photos up to 512 are checked whole. Above, the twin sees three bands, at both borders and between, with the rows that reach into them.
"""
import argparse
import logging
import os
import warnings

import ncnn_files
import numpy
import torch
from inference import Inference, twin
from checkpoint import write_checkpoint
from presets import PRESETS
from safetensors.torch import save_file

WHOLE, BAND, REACH = 512, 32, 72  # rows, multiples of 8; a row sees at most 69 rows above itself and fewer below
FUSIONS = {"split": True, "joined": False}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", required=True, metavar="DIR")
    parser.add_argument("--sizes", type=int, nargs="+", required=True)
    parser.add_argument("--preset", choices=PRESETS, default="paper")
    parser.add_argument("--fusion", choices=FUSIONS, nargs="+", default=["split"])
    parser.add_argument("--peers", nargs="+", default=["torch", "onnxruntime", "openvino", "ncnn"])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    return parser.parse_args()


def expected(source, x, copy):
    """Colours of the twin in double precision, NHWC."""
    size = x.shape[2]
    if size <= WHOLE:
        return twin.nhwc(source(x, copy)["output"])
    color = torch.full((1, size // 2, size // 2, 2), torch.nan, dtype=x.dtype)
    for first in (0, size // 16 * 8, size - BAND):  # input rows; multiples of 8
        above, below = min(REACH, first), min(REACH, size - first - BAND)
        band = source(x[:, :, first - above:first + BAND + below], copy)["output"]
        color[:, first // 2:(first + BAND) // 2] = twin.nhwc(band)[:, above // 2:(above + BAND) // 2]
    return color


def export_onnx(network, inputs, path):
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.onnx.export(network, inputs, path, input_names=["x", "copy"][:len(inputs)], output_names=["color"], dynamo=True,
                      external_data=True, verbose=False)


def main():
    options = arguments()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    os.makedirs(options.files, exist_ok=True)
    file = lambda name: os.path.join(options.files, name)
    source = twin.Twin(**PRESETS[options.preset]).fill().eval()
    write_checkpoint(file("weights.safetensors"), source, options.preset)
    source, side = source.double(), source.global_size
    networks = {fusion: Inference(source, FUSIONS[fusion]).float().eval() for fusion in options.fusion}
    for fusion, network in networks.items():
        if "torch" in options.peers:
            torch.save(network, file(f"{fusion}.pt"))
        if "ncnn" in options.peers:
            ncnn_files.write_low(file("low"), network)
    for size in options.sizes:
        x, copy = twin.input_x((1, 1, size, size)).float(), twin.input_g((1, 1, side, side)).float()
        inputs = (x,) if size == side else (x, copy)
        for name, value in zip(("x", "copy"), inputs):
            numpy.save(file(f"{name}_{size}.npy"), value.numpy())
        save_file({"x": x.view(1, size, size, 1), "copy": copy.view(1, side, side, 1)}, file(f"input_{size}.safetensors"))
        save_file({"color": expected(source, x.double(), copy.double()).contiguous()}, file(f"expected_{size}.safetensors"))
        for fusion, network in networks.items():
            if {"onnxruntime", "openvino"} & set(options.peers):
                export_onnx(network, inputs, file(f"{fusion}_{size}.onnx"))
            if "ncnn" in options.peers:
                ncnn_files.write_rest(file(f"{fusion}_{size}"), network, size // 8, size == side)


if __name__ == "__main__":
    main()
