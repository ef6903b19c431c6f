#!/usr/bin/env python3
"""PyTorch's training step on the CPU: the peer of `lumachrome bench train`.

The same network (tests/golden/twin.py), batch, loss and optimizer on random data. Each mode runs in a process of its own, because the
peak of the resident memory belongs to a process, and prints one JSON line. Modes are words joined by "+":

  contiguous | channels_last   memory order of activations and filters
  foreach                      the optimizer's list kernels; without it, one parameter at a time
  split                        fusion as lumachrome computes it: the global half as a bias, one per border case
  passive                      threads that wait sleep instead of spinning (OMP_WAIT_POLICY)
  keep                         freed memory stays with the process: no page is asked for twice
  compile                      network and optimizer through torch.compile (needs a C++ compiler; compiling takes minutes, not counted)
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

from measuring import keep_freed_memory, milliseconds, peak_rss_mib
from presets import LUMA_MEAN, PRESETS, ROOT

SEED = 1
LAYOUTS = ("contiguous", "channels_last")
EXTRAS = ("foreach", "split", "passive", "keep", "compile")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="paper")
    parser.add_argument("--size", type=int, default=224, help="side of the square photos")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--runs", type=int, default=5, help="timed steps")
    parser.add_argument("--warm-up", type=int, default=2, help="steps before them")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--optimizer", choices=("adadelta", "adam", "sgd"), default="adadelta")
    parser.add_argument("--mode", action="append", help="may be given again; default: both memory orders")
    parser.add_argument("--check", action="store_true", help="only compare the network with tests/golden/twin.py")
    parser.add_argument("--gemm", type=int, metavar="N", help="only time the product of two NxN matrices")
    options = parser.parse_args()
    options.mode = options.mode or list(LAYOUTS)
    for mode in options.mode:
        words = mode.split("+")
        if words[0] not in LAYOUTS or not set(words[1:]) <= set(EXTRAS):
            parser.error(f"--mode {mode}: one of {', '.join(LAYOUTS)}, then +{', +'.join(EXTRAS)}")
    return options


def gemm(options):
    """Two libraries, since neither is the fastest on every processor."""
    os.environ["OPENBLAS_NUM_THREADS"] = str(options.threads)  # read when numpy is loaded
    import numpy
    import torch
    torch.set_num_threads(options.threads)
    n = options.gemm
    a, b, c = torch.rand(n, n), torch.rand(n, n), torch.empty(n, n)
    products = {"torch": lambda: torch.mm(a, b, out=c),
                "numpy": lambda: numpy.matmul(a.numpy(), b.numpy(), out=c.numpy())}
    result = {"n": n, "threads": options.threads}
    for library, product in products.items():
        times = milliseconds(product, options.runs, options.warm_up)
        result[f"{library}_gflops"] = round(2 * n**3 / statistics.median(times) / 1e6, 1)
    return result


def network(preset, split=False, **overrides):
    """The twin, and a module over its layers that keeps no activation by name and that torch.compile can read."""
    import torch
    from torch import nn
    from torch.nn import functional as F
    sys.path.insert(0, os.path.join(ROOT, "tests", "golden"))
    import twin

    class Network(nn.Module):
        def __init__(self, source):
            super().__init__()
            scene = dict(source.get_submodule("global"))
            self.low, self.mid = nn.Sequential(*source.low.values()), nn.Sequential(*source.mid.values())
            self.map = nn.Sequential(*(scene[i] for i in "1234"))
            self.fc1, self.fc2, self.fc3 = (scene[f"fc{i}"] for i in (1, 2, 3))
            self.classifier = nn.Sequential(*source.classifier.values())
            self.fusion, self.output = source.fusion, source.output
            up = nn.Upsample(scale_factor=2, mode="nearest")
            self.color = nn.Sequential(source.color["1"], up, source.color["2"], source.color["3"], up, source.color["4"])
            self.classes = source.classes

        def border_cases(self, side, device):
            """0 1 .. 1 2; kept, because a CUDA graph cannot copy from the CPU."""
            key = f"cases_{side}"
            if not hasattr(self, key):
                self.register_buffer(key, torch.tensor([0] + [1] * (side - 2) + [2], device=device), persistent=False)
            return getattr(self, key)

        def fuse(self, m, g):
            if not split:
                return self.fusion(torch.cat([m, g[:, :, None, None].expand(-1, -1, *m.shape[2:])], 1))
            # W * [m; g] = W_m * m + W_g * g. A map of 3x3 cells shows the second term's every border case.
            conv, local = self.fusion.conv, m.shape[1]
            cases = F.conv2d(g[:, :, None, None].expand(-1, -1, 3, 3), conv.weight[:, local:], conv.bias, padding=1)
            inner = [self.border_cases(side, m.device) for side in m.shape[2:]]
            bias = cases.index_select(2, inner[0]).index_select(3, inner[1])
            return F.relu(self.fusion.norm(F.conv2d(m, conv.weight[:, :local], padding=1) + bias))

        def forward(self, x, copy=None):
            low = self.low(x)
            semantics = self.fc2(self.fc1(self.map(low if copy is None else self.low(copy)).flatten(1)))
            output = self.output(self.color(self.fuse(self.mid(low), self.fc3(semantics))))
            return {"output": output, "classifier.2": self.classifier(semantics)}

    source = twin.Twin(**{**PRESETS[preset], **overrides}).train()
    return source, Network(source), twin.losses


def check():
    """Network and twin agree: losses and a gradient, joined and split, with a shared low-level pass and with two."""
    import torch
    torch.manual_seed(SEED)
    for split in (False, True):
        for size in (64, 48):
            results = []
            source, model, losses = network("tiny", split)
            x, g = torch.rand(8, 1, size, size), torch.rand(8, 1, 64, 64)
            for net, copy in ((source, g), (model, None if size == 64 else g)):
                source.zero_grad()
                color, class_, total = losses(net(x, copy), torch.full((8, 2, size // 2, size // 2), 0.4), torch.arange(8))
                total.backward()
                results.append([color, class_, *(source.get_parameter(name).grad.norm() for name in
                                                 ("low.1.conv.weight", "fusion.conv.weight", "global.fc1.linear.weight"))])
            for ours, twins in zip(*results):
                if not torch.allclose(ours, twins, rtol=1e-3):
                    raise SystemExit(f"not the twin's: {float(ours)}, {float(twins)} (split {split}, size {size})")


def measure(options, mode):
    layout, *extras = mode.split("+")
    if "passive" in extras:
        os.environ["OMP_WAIT_POLICY"] = "passive"  # read when torch is loaded
    if "keep" in extras:
        keep_freed_memory()
    import torch
    baseline = peak_rss_mib()
    torch.manual_seed(SEED)
    torch.set_num_threads(options.threads)
    memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    model, losses = network(options.preset, "split" in extras)[1:]
    model = model.to(memory_format=memory)
    parameters, foreach = list(model.parameters()), "foreach" in extras
    # Rules and figures of train/optimizers.cpp; small steps, so that the loss stays finite.
    if options.optimizer == "adadelta":
        optimizer = torch.optim.Adadelta(parameters, lr=1e-3, rho=0.9, eps=1e-6, foreach=foreach)
    elif options.optimizer == "adam":
        optimizer = torch.optim.Adam(parameters, lr=1e-6, **({"foreach": True} if foreach else {"fused": True}))
    else:
        optimizer = torch.optim.SGD(parameters, lr=1e-5, momentum=0.9, **({"foreach": True} if foreach else {"fused": True}))

    n, size, own = options.batch, options.size, PRESETS[options.preset]["global_size"]
    luma = torch.rand(n, 1, size, size).to(memory_format=memory)
    target = (0.3 + 0.4 * torch.rand(n, 2, size // 2, size // 2)).to(memory_format=memory)
    labels = torch.arange(n) % model.classes

    def forward(luma):
        copy = None  # at the global branch's own size one low-level pass serves both branches
        if size != own:
            copy = torch.nn.functional.interpolate(luma, (own, own), mode="bilinear", antialias=True) - LUMA_MEAN
        return losses(model(luma - LUMA_MEAN, copy), target, labels)

    update = optimizer.step
    if "compile" in extras:
        model, update = torch.compile(model), torch.compile(optimizer.step)

    def step():
        optimizer.zero_grad(set_to_none=True)
        color, class_, total = forward(luma)
        total.backward()
        update()
        if not total.isfinite():
            raise SystemExit(f"{mode}: the loss is not finite")

    times = milliseconds(step, options.runs, options.warm_up)
    median = statistics.median(times)
    return {"preset": options.preset, "size": size, "batch": n, "runs": options.runs, "median_ms": round(median, 3),
            "min_ms": round(min(times), 3), "max_ms": round(max(times), 3), "images_per_second": round(n / median * 1e3, 4),
            "peak_rss_mib": round(peak_rss_mib(), 1), "import_rss_mib": round(baseline, 1), "device": "cpu", "precision": "f32",
            "threads": options.threads, "optimizer": options.optimizer, "torch": torch.__version__, "mode": mode,
            "parameters": sum(p.numel() for p in parameters)}


def main():
    options = arguments()
    if options.check:
        check()
        print("the network is the twin's")
    elif options.gemm:
        print(json.dumps(gemm(options)))
    elif len(options.mode) == 1:
        print(json.dumps(measure(options, options.mode[0])), flush=True)
    else:
        same = [f"--{key.replace('_', '-')}={value}" for key, value in vars(options).items() if key not in ("mode", "gemm", "check")]
        for mode in options.mode:
            subprocess.run([sys.executable, os.path.abspath(__file__), *same, "--mode", mode], check=True)


if __name__ == "__main__":
    main()
