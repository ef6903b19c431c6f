"""The network for inference as a good engineer would export it: batch norm folded into the weights, no class head."""
import os
import sys

import torch
from torch import nn
from torch.nn import functional as F

from presets import ROOT

sys.path.insert(0, os.path.join(ROOT, "tests", "golden"))
import twin  # noqa: E402


def folded(block):
    """Convolution or linear layer of a Block with the norm's scale and shift in its weights, in the type of the block."""
    layer = block.linear if hasattr(block, "linear") else block.conv
    weight, bias = layer.weight.detach(), layer.bias.detach()
    if hasattr(block, "norm"):
        norm = block.norm
        scale = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
        weight = weight * scale.view(-1, *[1] * (weight.dim() - 1))
        bias = (bias - norm.running_mean) * scale + norm.bias.detach()
    if weight.dim() == 2:
        new = nn.Linear(weight.shape[1], weight.shape[0])
    else:
        new = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], layer.stride, layer.padding)
    new.weight.data, new.bias.data = weight, bias
    return new


def stack(*blocks):
    """The blocks, folded, with ReLU behind each."""
    return nn.Sequential(*(layer for block in blocks for layer in (folded(block), nn.ReLU())))


class Inference(nn.Module):
    """x [N,1,H,W] and, unless x has the size of the global branch, copy [N,1,S,S]; gives the colours [N,2,H/2,W/2].

    split: W * [m; g] = W_m * m + W_g * g. The second term has one value per channel and border case, nine of them: a linear layer of g.
    """

    def __init__(self, source, split):
        super().__init__()
        scene = dict(source.get_submodule("global"))
        self.low, self.mid = stack(*source.low.values()), stack(*source.mid.values())
        self.map = stack(*(scene[i] for i in "1234"))
        self.features = stack(*(scene[f"fc{i}"] for i in (1, 2, 3)))
        up, color = nn.Upsample(scale_factor=2, mode="nearest"), source.color
        self.color = nn.Sequential(*stack(color["1"]), up, *stack(color["2"], color["3"]), up, *stack(color["4"]),
                                   folded(source.output), nn.Sigmoid())
        self.split, fusion = split, folded(source.fusion)
        if split:
            self.channels = fusion.out_channels
            local = fusion.in_channels - scene["fc3"].linear.out_features
            # The sum of the taps that lie inside the image: a row of cells, then a column, sees 3 border cases.
            inside = torch.tensor([[0, 1, 1], [1, 1, 1], [1, 1, 0]], dtype=fusion.weight.dtype)
            cases = torch.einsum("kcrs,ir,js->kijc", fusion.weight.data[:, local:], inside, inside)
            self.cases = nn.Linear(cases.shape[-1], cases.numel() // cases.shape[-1])
            self.cases.weight.data = cases.flatten(0, 2).contiguous()
            self.cases.bias.data = fusion.bias.data.repeat_interleave(9)
            fusion.weight.data, fusion.bias = fusion.weight.data[:, :local].contiguous(), None
        self.fusion = fusion

    def fuse(self, m, g):
        height, width = m.shape[2:]
        if not self.split:
            return F.relu(self.fusion(torch.cat([m, g[:, :, None, None].expand(-1, -1, height, width)], 1)))
        cases = self.cases(g).view(-1, self.channels, 3, 3)
        rows = torch.cat([F.pad(cases[..., :2], (0, width - 3, 0, 0), mode="replicate"), cases[..., 2:]], 3)
        bias = torch.cat([F.pad(rows[:, :, :2], (0, 0, 0, height - 3), mode="replicate"), rows[:, :, 2:]], 2)
        return F.relu(self.fusion(m) + bias)

    def forward(self, x, copy=None):
        low = self.low(x)
        g = self.features(self.map(low if copy is None else self.low(copy)).flatten(1))
        return self.color(self.fuse(self.mid(low), g))
