#!/usr/bin/env python3
"""Writes a colornet.t7 or a network.bin with the weights of a checkpoint of ours, as Torch7 would: written from the description of
its format, sharing no code with the importer or with the C++ tests.

    python make_t7.py MODEL.safetensors colornet.t7 [--long 4] [--double] [--global-first]
    python make_t7.py MODEL.safetensors network.bin
    python make_t7.py --check BINARY MODEL.safetensors

Batch norm is folded into the weights here, a class head is left out, as in the published file: 12 graph nodes, the two low-level
stacks sharing one flat storage in which each weight is a view with an offset, gradients in another, nodes that refer to each
other both ways and serve as keys of tables. --check makes each kind of file, lets the binary convert it, and compares the colours
of both models on a few photos (largest difference at most 1e-5: the folding's rounding).
"""
import argparse
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

import numpy as np

import safetensors_file

LAYERS = {
    "low": [f"low.{i}.conv" for i in range(1, 7)],
    "mid": [f"mid.{i}.conv" for i in range(1, 3)],
    "global": [f"global.{i}.conv" for i in range(1, 5)] + ["global.fc1.linear", "global.fc2.linear"],
    "features": ["global.fc3.linear"],
    "color": ["fusion.conv"] + [f"color.{i}.conv" for i in range(1, 5)] + ["output.conv"],
}
STRIDE_2 = {"low.1.conv", "low.3.conv", "low.5.conv", "global.1.conv", "global.3.conv"}
UPSAMPLE_AFTER = {"color.1.conv", "color.3.conv"}


class Weights:
    """Folded weights and biases by layer."""

    def __init__(self, path):
        tensors, self.metadata = safetensors_file.read(path)
        self.layers = {}
        for layer in sum(LAYERS.values(), []):
            weight = tensors[layer + ".weight"].astype(np.float64)
            bias = tensors[layer + ".bias"].astype(np.float64)
            norm = layer.rsplit(".", 1)[0] + ".norm."
            if norm + "weight" in tensors:
                scale = tensors[norm + "weight"] / np.sqrt(tensors[norm + "running_var"].astype(np.float64) + 1e-5)
                weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
                bias = (bias - tensors[norm + "running_mean"]) * scale + tensors[norm + "bias"]
            self.layers[layer] = (weight.astype(np.float32), bias.astype(np.float32))


class Torch:
    """An object of a Torch class: its name, and the one value that is its body."""

    def __init__(self, name, body, version=1):
        self.name, self.body, self.version = name, body, version


class Storage:
    def __init__(self):
        self.parts, self.size = [np.full(11, np.nan, np.float32)], 11  # begins with what belongs to somebody else

    def view(self, array):
        tensor = Tensor(self, array.shape, self.size + 1)
        self.parts.append(array.reshape(-1))
        self.size += array.size
        return tensor


class Tensor:
    def __init__(self, storage=None, shape=(), offset=1):
        self.storage, self.shape, self.offset = storage, shape, offset


class TorchWriter:
    def __init__(self, long_size, double):
        self.long = "<q" if long_size == 8 else "<i"
        self.kind, self.dtype = ("Double", np.float64) if double else ("Float", np.float32)
        self.out, self.indices, self.kept = bytearray(), {}, []

    def int(self, value):
        self.out += struct.pack("<i", value)

    def longs(self, *values):
        for value in values:
            self.out += struct.pack(self.long, value)

    def string(self, text):
        self.int(len(text))
        self.out += text.encode()

    def known(self, value):
        index = self.indices.get(id(value))
        if index is None:
            self.kept.append(value)  # its id stays its own
            index = self.indices[id(value)] = len(self.indices) + 1
            self.int(index)
            return False
        self.int(index)
        return True

    def class_name(self, name, version=1):
        self.string(f"V {version}")
        self.string(name)

    def write(self, value):
        if value is None:
            self.int(0)
        elif isinstance(value, bool):
            self.int(5)
            self.int(int(value))
        elif isinstance(value, (int, float)):
            self.int(1)
            self.out += struct.pack("<d", value)
        elif isinstance(value, str):
            self.int(2)
            self.string(value)
        elif isinstance(value, Table):
            self.int(3)
            if self.known(value):
                return
            self.int(len(value.pairs))
            pairs = list(value.pairs)
            random.Random(len(self.indices)).shuffle(pairs)
            for key, entry in pairs:
                self.write(key)
                self.write(entry)
        elif isinstance(value, Torch):
            self.int(4)
            if not self.known(value):
                self.class_name(value.name, value.version)
                self.write(value.body)
        elif isinstance(value, Tensor):
            self.int(4)
            if self.known(value):
                return
            self.class_name(f"torch.{self.kind}Tensor")
            self.int(len(value.shape))
            strides = [int(np.prod(value.shape[axis + 1:])) for axis in range(len(value.shape))]
            self.longs(*value.shape, *strides, value.offset)
            self.write(value.storage)
        elif isinstance(value, Storage):
            self.int(4)
            if self.known(value):
                return
            self.class_name(f"torch.{self.kind}Storage")
            self.longs(value.size)
            self.out += np.concatenate(value.parts).astype(self.dtype).tobytes()
        else:
            raise TypeError(value)


class Table:
    def __init__(self, *pairs, **fields):
        self.pairs = list(pairs) + list(fields.items())

    def put(self, key, value):
        self.pairs.append((key, value))


def sequence(values):
    return Table(*enumerate(values, 1))


class Graph:
    def __init__(self, weights, global_first):
        self.weights, self.global_first = weights, global_first
        self.flat, self.gradients = Storage(), Storage()
        self.tensors, self.nodes = {}, []

    def tensor(self, layer, part):
        """Both low-level stacks view the same numbers."""
        if (layer, part) not in self.tensors:
            array = self.weights.layers[layer][part]
            if self.global_first and layer == "fusion.conv" and part == 0:
                half = array.shape[1] // 2
                array = np.concatenate([array[:, half:], array[:, :half]], axis=1)
            self.tensors[layer, part] = self.flat.view(np.ascontiguousarray(array))
        return self.tensors[layer, part]

    @staticmethod
    def module(name, **fields):
        return Torch("nn." + name, Table(output=Tensor(), gradInput=Tensor(), _type="torch.FloatTensor", train=False, **fields))

    def layer(self, name):
        weight, bias = self.tensor(name, 0), self.tensor(name, 1)
        fields = dict(weight=weight, bias=bias, gradWeight=self.gradients.view(np.zeros(weight.shape, np.float32)),
                      gradBias=self.gradients.view(np.zeros(bias.shape, np.float32)))
        if len(weight.shape) == 2:
            return self.module("Linear", **fields)
        out, inputs, height, width = weight.shape
        stride = 2 if name in STRIDE_2 else 1
        return self.module("SpatialConvolution", nInputPlane=inputs, nOutputPlane=out, kW=width, kH=height, dW=stride, dH=stride,
                           padW=width // 2, padH=height // 2, finput=Tensor(), fgradInput=Tensor(), **fields)

    def stack(self, stage):
        modules = []
        for name in LAYERS[stage]:
            if name == "global.fc1.linear":
                modules.append(self.module("View", numElements=self.weights.layers[name][0].shape[1]))
            modules.append(self.layer(name))
            if name == "output.conv":
                modules.append(self.module("Sigmoid"))
            else:
                modules.append(self.module("ReLU", threshold=0, val=0, inplace=True))
            if name in UPSAMPLE_AFTER:
                modules.append(self.module("SpatialUpSamplingNearest", scale_factor=2))
        if stage == "features":
            modules += [self.module("Replicate", nfeatures=28, dim=dim) for dim in (3, 4)]
        return self.module("Sequential", modules=sequence(modules))

    def node(self, label, module=None, parents=(), **more):
        mapindex, children = Table(), Table()
        data = Table(mapindex=mapindex, annotations=Table(_debugLabel="[convert.lua]:37", name=label),
                     forwardNodeId=len(self.nodes) + 1, **more)
        if module:
            data.put("module", module)
        node = Torch("nngraph.Node", Table(data=data, id=len(self.nodes), children=children, visited=False, marked=False))
        data.put("reverseMap", node)
        node.data, node.children = data, children
        for index, parent in enumerate(parents, 1):
            mapindex.put(index, parent.data)
            mapindex.put(parent.data, index)
            place = len(parent.children.pairs) // 2 + 1
            parent.children.put(place, node)
            parent.children.put(node, place)
        self.nodes.append(node)
        return node

    def root(self):
        start = self.node("input")
        split = self.node("split", parents=[start], nSplitOutputs=2)
        full = self.node("full", parents=[split], selectindex=2)
        mid = self.node("mid", self.stack("mid"), [self.node("low", self.stack("low"), [full])])
        copy = self.node("copy", parents=[split], selectindex=1)
        low = self.node("low 224", self.stack("low"), [copy])
        features = self.node("imgfeatlayer", self.stack("features"), [self.node("global", self.stack("global"), [low])])
        parents = [features, mid] if self.global_first else [mid, features]
        join = self.node("join", self.module("JoinTable", dimension=1, nInputDims=3), parents)
        end = self.node("output", parents=[self.node("color", self.stack("color"), [join])])
        places = Table()
        for place, node in enumerate(self.nodes, 1):
            places.put(place, node)
            places.put(node, place)
        graph = Torch("graph.Graph", Table(nodes=places, edges=Table()))
        model = self.module("gModule", innode=start, outnode=end, fg=graph, bg=graph, forwardnodes=sequence(self.nodes), nInputs=2)
        return Table(model=model, mean=float(self.weights.metadata.get("luma_mean", 0.44505388568813414)))


def write_t7(weights, path, long_size=8, double=False, global_first=False):
    sys.setrecursionlimit(10000)
    writer = TorchWriter(long_size, double)
    writer.write(Graph(weights, global_first).root())
    pathlib.Path(path).write_bytes(writer.out)


def write_network_bin(weights, path):
    with open(path, "wb") as file:
        for layer in sum(LAYERS.values(), []):
            for array in weights.layers[layer]:
                file.write(array.astype("<f4").tobytes())


def colors(binary, weights, size, folder):
    """Of a photo of uniform noise, the same in every call."""
    noise = np.random.default_rng(size)
    side = int(safetensors_file.read(weights)[1]["global_size"])
    feed = {"x": noise.uniform(-0.5, 0.5, (1, size, size, 1)), "copy": noise.uniform(-0.5, 0.5, (1, side, side, 1))}
    safetensors_file.write(folder / "in.safetensors", feed)
    subprocess.run([binary, "bench", "infer", "--weights", weights, "--size", str(size), "--runs", "1", "--input",
                    folder / "in.safetensors", "--output", folder / "out.safetensors", "--overwrite"], check=True,
                   stdout=subprocess.DEVNULL)
    return safetensors_file.read(folder / "out.safetensors")[0]["color"]


def check(binary, model):
    weights = Weights(model)
    failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        kinds = {"t7": {}, "t7, 4-byte longs": {"long_size": 4}, "t7, double, global first": {"double": True, "global_first": True}}
        if weights.metadata["width_divisor"] == "1":
            kinds["network.bin"] = None
        for kind, options in kinds.items():
            source, out = folder / "source", str(folder / "imported.safetensors")
            if options is None:
                write_network_bin(weights, source)
            else:
                write_t7(weights, source, **options)
            answer = subprocess.run([binary, "convert", source, out, "--json", "--overwrite"], check=True, capture_output=True,
                                    text=True)
            assert "CC BY-NC-SA" in answer.stderr, answer.stderr
            worst = max(float(np.abs(colors(binary, model, size, folder) - colors(binary, out, size, folder)).max())
                        for size in (40, 120))
            failed |= worst > 1e-5
            print(f"{kind}: {json.loads(answer.stdout)['parameters']} parameters, colours differ by {worst:.1e}", flush=True)
    sys.exit(failed)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("out", nargs="?")
    parser.add_argument("--check", metavar="BINARY")
    parser.add_argument("--long", type=int, choices=[4, 8], default=8)
    parser.add_argument("--double", action="store_true")
    parser.add_argument("--global-first", action="store_true")
    args = parser.parse_args()
    if args.check:
        check(args.check, args.model)
    elif not args.out:
        parser.error("OUT is missing")
    elif args.out.endswith(".bin"):
        write_network_bin(Weights(args.model), args.out)
    else:
        write_t7(Weights(args.model), args.out, args.long, args.double, args.global_first)


if __name__ == "__main__":
    main()
