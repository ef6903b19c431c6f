#!/usr/bin/env python3
"""Converts checkpoints to ONNX with the binary, and runs them elsewhere.

    python check_onnx.py BINARY MODEL.safetensors... [--untrained PRESET...]

--untrained: a network of that preset with weights drawn as those of a new one are. For each model: the onnx checker passes, also with full shape inference; onnxruntime and OpenCV give the colours that
`lumachrome bench infer --output` gives, within 1e-5, on 20 square photos, and those of each other on 6 others. Weights stored as
f16 or bf16 are looked at too, with a tolerance of four times their rounding (OpenCV reads no bf16).
Exit status: 0, or 1 after naming what failed.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import cv2
import numpy as np
import onnx
import onnxruntime

import safetensors_file

SIZES = [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 136, 168, 176, 200, 224, 256, 320, 448]
OTHERS = [(8, 16), (16, 8), (40, 24), (120, 200), (176, 256), (8, 320)]
TOLERANCE = {"f32": 1e-5, "f16": 4 * 2.0**-11, "bf16": 4 * 2.0**-8}


class Engines:
    def __init__(self, path):
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.path = path
        self.side = next((i.shape[2] for i in self.session.get_inputs() if i.name == "copy"), None)

    def inputs(self, seed, height, width):
        random = np.random.default_rng(seed)
        x = random.uniform(-0.5, 0.5, (1, 1, height, width)).astype(np.float32)
        if self.side is None:
            return {"x": x}
        same = (height, width) == (self.side, self.side)
        copy = x if same else random.uniform(-0.5, 0.5, (1, 1, self.side, self.side)).astype(np.float32)
        return {"x": x, "copy": copy}

    def onnxruntime(self, feed):
        return self.session.run(["color"], feed)[0]

    def opencv(self, feed):
        net = cv2.dnn.readNetFromONNX(self.path)
        for name, value in feed.items():
            net.setInput(value, name)
        return net.forward("color")


def ours(binary, weights, feed, folder):
    """The binary's own colours, N,C,H,W."""
    nhwc = {name: value.transpose(0, 2, 3, 1) for name, value in feed.items()}
    safetensors_file.write(folder / "in.safetensors", nhwc)
    size = str(feed["x"].shape[2])
    subprocess.run([binary, "bench", "infer", "--weights", weights, "--size", size, "--runs", "1", "--input",
                    folder / "in.safetensors", "--output", folder / "out.safetensors", "--overwrite"], check=True,
                   stdout=subprocess.DEVNULL)
    return safetensors_file.read(folder / "out.safetensors")[0]["color"].transpose(0, 3, 1, 2)


def check(binary, weights, dtype, folder):
    """Largest differences, (onnxruntime, OpenCV) from ours, and between the two on other shapes."""
    path = str(folder / "model.onnx")
    answer = subprocess.run([binary, "convert", weights, path, "--dtype", dtype, "--json", "-q", "--overwrite"], check=True,
                            capture_output=True, text=True).stdout
    assert {"tensors", "parameters", "source_sha256"} <= json.loads(answer).keys(), answer
    onnx.checker.check_model(path, full_check=True)
    engines = Engines(path)
    with_opencv = dtype != "bf16"
    worst = {name: 0.0 for name in (["onnxruntime", "opencv", "each other"] if with_opencv else ["onnxruntime"])}
    for number, size in enumerate(SIZES):
        feed = engines.inputs(number, size, size)
        expected = ours(binary, weights, feed, folder)
        results = {"onnxruntime": engines.onnxruntime(feed)}
        if with_opencv:
            results["opencv"] = engines.opencv(feed)
        for name, result in results.items():
            assert result.shape == expected.shape, (name, size, result.shape)
            worst[name] = max(worst[name], float(np.abs(result - expected).max()))
    for number, (height, width) in enumerate(OTHERS if with_opencv else []):
        feed = engines.inputs(100 + number, height, width)
        one, other = engines.onnxruntime(feed), engines.opencv(feed)
        assert one.shape == other.shape == (1, 2, height // 2, width // 2)
        worst["each other"] = max(worst["each other"], float(np.abs(one - other).max()))
    return worst


def untrained(binary, preset, folder):
    """A checkpoint of the binary's own, each weight drawn again as init.hpp does: uniform, norms that change nothing."""
    subprocess.run([binary, "train", "scenes:32", "--preset", preset, "--steps", "1", "--batch", "2", "--size", "32", "-q", "--out",
                    folder / "run"], check=True, stdout=subprocess.DEVNULL)
    tensors, metadata = safetensors_file.read(folder / "run" / "model.safetensors")
    random = np.random.default_rng(7)
    for name, tensor in tensors.items():
        if tensor.ndim >= 2:
            gain = 1 if name.startswith(("output", "classifier.2")) else np.sqrt(2)
            bound = gain * np.sqrt(3 / np.prod(tensor.shape[1:]))
            tensors[name] = random.uniform(-bound, bound, tensor.shape)
        else:
            tensors[name] = np.full(tensor.shape, float(name.endswith(("norm.weight", "running_var"))))
    path = str(folder / f"untrained-{preset}.safetensors")
    safetensors_file.write(path, tensors, metadata)
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("models", nargs="*", metavar="model")
    parser.add_argument("--untrained", nargs="+", metavar="PRESET", default=[])
    parser.add_argument("--dtypes", nargs="+", default=["f32", "f16", "bf16"])
    args = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        models = args.models + [untrained(args.binary, preset, pathlib.Path(folder)) for preset in args.untrained]
        for model in models:
            for dtype in args.dtypes:
                worst = check(args.binary, model, dtype, pathlib.Path(folder))
                good = max(worst.values()) <= TOLERANCE[dtype]
                failed |= not good
                print(f"{pathlib.Path(model).name} {dtype}: " + ", ".join(f"{name} {value:.1e}" for name, value in worst.items()) +
                      ("" if good else ", TOO FAR"), flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
