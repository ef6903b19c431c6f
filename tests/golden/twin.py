"""An independent PyTorch twin of the network, and the formula that fills it.

Written from the paper's layer table (Iizuka et al. 2016, Table 1) in PyTorch's own vocabulary: NCHW, state_dict, autograd. It shares
no code with the C++ sources; the state names are the same on purpose.
"""
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

ALPHA = 1 / 300  # weight of the class loss
np.seterr(over="ignore")  # the hash wraps around


# ---------------------------------------------------------------------------------------------------------- the formula

def splitmix64(x):
    """The finaliser of Steele, Lea and Flood's generator, modulo 2**64."""
    z = x + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def uniform(t, shape):
    """Tensor number t: element i (row-major) is the top 53 bits of splitmix64(t * 2**32 + i), as a number in [0, 1)."""
    h = splitmix64(np.arange(np.prod(shape), dtype=np.uint64) + np.uint64(t << 32))
    return torch.from_numpy(((h >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(shape))


def state_value(t, name, shape):
    """The initial value of the state tensor `name`, number t of the sorted names."""
    u = uniform(t, shape)
    if name.endswith(("conv.weight", "linear.weight")):
        return (2 * u - 1) * np.sqrt(6.0 / np.prod(shape[1:]))  # fan-in: all axes but the first; variance 2 / fan_in
    if name.endswith(("norm.weight", "norm.running_var")):
        return 0.5 + u
    return (2 * u - 1) * 0.1  # conv.bias, linear.bias, norm.bias, norm.running_mean


def input_x(shape): return uniform(1000, shape) - 0.45
def input_g(shape): return uniform(1001, shape) - 0.45
def target_ab(shape): return uniform(1002, shape)


# ------------------------------------------------------------------------------------------------------------- the twin

class Block(nn.Module):
    """conv or linear -> batch norm -> activation. `activation` is a function; norm=False leaves the norm out."""

    def __init__(self, inputs, outputs, activation, *, stride=1, kernel=3, linear=False, norm=True):
        super().__init__()
        if linear:
            self.linear = nn.Linear(inputs, outputs)
        else:
            self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2)  # zero padding, with bias
        if norm:
            self.norm = (nn.BatchNorm1d if linear else nn.BatchNorm2d)(outputs, eps=1e-5, momentum=0.1)
        self.activation = activation

    def forward(self, x):
        y = self.linear(x) if hasattr(self, "linear") else self.conv(x)
        return self.activation(self.norm(y) if hasattr(self, "norm") else y)


class Twin(nn.Module):
    def __init__(self, width=1.0, global_size=224, fusion_kernel=3, activation="relu", use_global=True, classes=205):
        super().__init__()
        self.global_size, self.use_global, self.classes = global_size, use_global, classes if use_global else 0
        act = {"relu": F.relu, "sigmoid": torch.sigmoid}[activation]

        def ch(paper):  # channels of the paper -> ours
            assert paper * width == int(paper * width) > 0, f"width {width} does not give whole channels"
            return int(paper * width)

        self.low = nn.ModuleDict({
            "1": Block(1, ch(64), act, stride=2), "2": Block(ch(64), ch(128), act),
            "3": Block(ch(128), ch(128), act, stride=2), "4": Block(ch(128), ch(256), act),
            "5": Block(ch(256), ch(256), act, stride=2), "6": Block(ch(256), ch(512), act)})
        self.mid = nn.ModuleDict({"1": Block(ch(512), ch(512), act), "2": Block(ch(512), ch(256), act)})
        if use_global:
            side = global_size
            for _ in range(5):  # five convolutions of stride 2 and pad 1, each rounding up
                side = (side + 1) // 2
            blocks = {str(i): Block(ch(512), ch(512), act, stride=s) for i, s in ((1, 2), (2, 1), (3, 2), (4, 1))}
            blocks["fc1"] = Block(ch(512) * side * side, ch(1024), act, linear=True)
            blocks["fc2"] = Block(ch(1024), ch(512), act, linear=True)
            blocks["fc3"] = Block(ch(512), ch(256), act, linear=True)
            self.add_module("global", nn.ModuleDict(blocks))  # `global` is a keyword, hence not an assignment
        if self.classes:
            self.classifier = nn.ModuleDict({
                "1": Block(ch(512), ch(256), act, linear=True),
                "2": Block(ch(256), classes, nn.Identity(), linear=True, norm=False)})
        self.fusion = Block(ch(512) if use_global else ch(256), ch(256), act, kernel=fusion_kernel)
        self.color = nn.ModuleDict({"1": Block(ch(256), ch(128), act), "2": Block(ch(128), ch(64), act),
                                    "3": Block(ch(64), ch(64), act), "4": Block(ch(64), ch(32), act)})
        self.output = Block(ch(32), 2, torch.sigmoid, norm=False)

    def forward(self, x, g=None):
        """x [N,1,H,W], g [N,1,S,S] (not looked at when x is SxS). Returns {name: activation}, "output" among them."""
        tap = {}

        def run(name, value, as_name=None):
            tap[as_name or name] = self.get_submodule(name)(value)
            return tap[as_name or name]

        def low_level(image, suffix=""):
            for i in range(1, 7):
                image = run(f"low.{i}", image, f"low.{i}{suffix}")
            return image

        low = low_level(x)
        y = run("mid.2", run("mid.1", low))
        if self.use_global:
            shared = tuple(x.shape[2:]) == (self.global_size, self.global_size)
            v = low if shared else low_level(g, "@g")  # after x: the running statistics are updated in that order
            for i in range(1, 5):
                v = run(f"global.{i}", v)
            v = run("global.fc1", v.flatten(1))  # order C, H, W
            v = run("global.fc2", v)
            if self.classes:
                run("classifier.2", run("classifier.1", v))
            v = run("global.fc3", v)
            y = torch.cat([y, v[:, :, None, None].expand(-1, -1, *y.shape[2:])], dim=1)  # mid first, global second
        y = run("fusion", y)
        y = F.interpolate(run("color.1", y), scale_factor=2, mode="nearest")
        y = run("color.3", run("color.2", y))
        y = run("color.4", F.interpolate(y, scale_factor=2, mode="nearest"))
        run("output", y)
        return tap

    def names(self):
        """Names of the state in sorted (byte) order; PyTorch's own num_batches_tracked is no part of it."""
        return sorted(n for n in self.state_dict() if not n.endswith("num_batches_tracked"))

    def fill(self):
        """Sets the whole state by the formula; each value is computed in float64, then rounded to the model's type."""
        state = self.state_dict()
        for t, name in enumerate(self.names()):
            state[name].copy_(state_value(t, name, tuple(state[name].shape)))
        return self


def losses(tap, target, labels):
    """color: mean over all elements; class: mean over the labelled photos, 0 if there are none; total."""
    color = ((tap["output"] - target) ** 2).mean()
    labelled = labels >= 0
    if "classifier.2" in tap and labelled.any():
        log_p = torch.log_softmax(tap["classifier.2"][labelled], dim=1)
        class_ = -log_p.gather(1, labels[labelled][:, None]).mean()
    else:
        class_ = torch.zeros_like(color)
    return color, class_, color + ALPHA * class_


def nhwc(v):
    return v.permute(0, 2, 3, 1) if v.dim() == 4 else v
