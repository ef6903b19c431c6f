"""Writes the network in ncnn's own format: what pnnx would write, if it knew the fusion's padding and shared the low-level weights.

Two nets, `low` and `rest`, so that the low-level stack runs twice with one set of weights. A .param file lists one layer a line: type,
name, number of inputs and outputs, their names, then key=value; the .bin file holds the weights in the same order.
"""
import struct

from torch import nn

RELU, SIGMOID = 1, 4  # activation_type


class Net:
    def __init__(self, path, inputs):
        self.path, self.lines, self.blobs = path, [], 0
        self.bin = open(path + ".bin", "wb")
        for name in inputs:
            self.layer("Input", [], [name])

    def layer(self, kind, inputs, outputs=None, **keys):
        """One layer; returns the name of its first output."""
        outputs = outputs or [f"b{self.blobs}"]
        self.blobs += len(outputs)
        values = " ".join(f"{key.lstrip('k').replace('array', '-233')}={value}" for key, value in keys.items())
        self.lines.append(" ".join([kind, f"l{len(self.lines)}", str(len(inputs)), str(len(outputs)), *inputs, *outputs, values]))
        return outputs[0]

    def module(self, layer, x, activation=0, output=None):
        weight, bias = layer.weight.detach(), layer.bias
        kind, keys = "InnerProduct", {"k0": weight.shape[0], "k1": int(bias is not None), "k2": weight.numel(), "k9": activation}
        if weight.dim() == 4:
            kind = "Convolution"
            keys = {"k0": weight.shape[0], "k1": weight.shape[2], "k3": layer.stride[0], "k4": layer.padding[0],
                    "k5": int(bias is not None), "k6": weight.numel(), "k9": activation}
        self.bin.write(struct.pack("<I", 0) + weight.numpy().tobytes())  # 0: the weights that follow are f32
        if bias is not None:
            self.bin.write(bias.detach().numpy().tobytes())
        return self.layer(kind, [x], output and [output], **keys)

    def sequence(self, modules, x, output=None):
        modules = list(modules)
        for i, module in enumerate(modules):
            after = modules[i + 1] if i + 1 < len(modules) else None
            activation = RELU if isinstance(after, nn.ReLU) else SIGMOID if isinstance(after, nn.Sigmoid) else 0
            if isinstance(module, nn.Upsample):
                x = self.layer("Interp", [x], k0=1, k1=2.0, k2=2.0)
            elif hasattr(module, "weight"):
                x = self.module(module, x, activation, output if i + 2 == len(modules) else None)
        return x

    def twice(self, x):
        """A blob has one reader in ncnn."""
        names = [f"{x}_0", f"{x}_1"]
        self.layer("Split", [x], names)
        return names

    def close(self):
        self.bin.close()
        with open(self.path + ".param", "w") as file:
            file.write("\n".join(["7767517", f"{len(self.lines)} {self.blobs}", *self.lines, ""]))


def write_low(path, network):
    net = Net(path, ["x"])
    net.sequence(network.low, "x", "low")
    net.close()


def write_rest(path, network, side, shared):
    """The rest for a map of local features of side x side; `shared`: it feeds the global branch, too."""
    net = Net(path, ["low"] if shared else ["low", "low_copy"])
    local, scene = net.twice("low") if shared else ("low", "low_copy")
    g = net.sequence(network.map, scene)
    g = net.sequence(network.features, net.layer("Flatten", [g]))
    m = net.sequence(network.mid, local)
    if network.split:
        cases = net.layer("Reshape", [net.module(network.cases, g)], k0=3, k1=3, k2=network.channels)
        for axis, edge in ((2, "k3"), (1, "k1")):  # a row of 3 cells, then the columns: the one in the middle repeats
            pair, last = net.layer("Slice", [cases], [f"pair{axis}", f"last{axis}"], array00="2,2,-233", k1=axis), f"last{axis}"
            cases = net.layer("Concat", [net.layer("Padding", [pair], **{edge: side - 3}, k4=1), last], k0=axis)
        y = net.layer("ReLU", [net.layer("BinaryOp", [net.module(network.fusion, m), cases])])
    else:
        cell = net.layer("Reshape", [g], k0=1, k1=1, k2=network.features[-2].out_features)
        copies = net.layer("Padding", [cell], k1=side - 1, k3=side - 1, k4=1)
        y = net.module(network.fusion, net.layer("Concat", [m, copies]), RELU)
    net.sequence(network.color, y, "color")
    net.close()
