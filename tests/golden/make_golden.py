#!/usr/bin/env python3
"""Golden fixtures: what the PyTorch twin of the network (twin.py) computes in float64.

Weights and inputs come from a formula, so the fixtures hold results only. See README.md.

    python make_golden.py            writes golden_*.safetensors here and prints how far float32 is from float64
    python make_golden.py --check    writes nothing; fails if the files here differ from a fresh run
"""
import argparse
import json
import pathlib
import sys

import numpy as np
import safetensors
import safetensors.torch
import torch

from twin import Twin, input_g, input_x, losses, nhwc, splitmix64, target_ab, uniform

HERE = pathlib.Path(__file__).resolve().parent
STEPS, LARGE_BATCH = 10, 16

# x and g are height, width; a label of -1 marks a photo without a scene label.
CONFIGS = {
    "a": dict(width=1 / 16, global_size=32, fusion_kernel=3, activation="relu", use_global=True, classes=5,
              x=(40, 24), labels=[2, -1, 4]),    # two branches, so two passes through the low-level layers
    "b": dict(width=1 / 16, global_size=32, fusion_kernel=1, activation="sigmoid", use_global=True, classes=5,
              x=(32, 32), labels=[0, 1, -1]),    # x has the global size: one low-level pass feeds both branches
    "c": dict(width=1 / 16, global_size=32, fusion_kernel=3, activation="relu", use_global=False, classes=0,
              x=(24, 32), labels=[-1, -1, -1]),  # the paper's baseline: no global branch, so no class head
    "d": dict(width=1 / 16, global_size=48, fusion_kernel=3, activation="relu", use_global=True, classes=5,
              x=(16, 24), labels=[3, 0, 1]),     # 48 -> 6x6 -> 3x3 -> 2x2: the order of the flattening shows
}

TAPS = ["low.6", "low.6@g", "mid.2", "global.4", "global.fc2", "global.fc3", "classifier.2", "fusion", "color.3", "output"]
OPTIMIZERS = {"adam": lambda p: torch.optim.Adam(p, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, foreach=False),
              "adadelta": lambda p: torch.optim.Adadelta(p, lr=1.0, rho=0.9, eps=1e-6, foreach=False)}


def model_of(config, dtype):
    return Twin(**{k: v for k, v in config.items() if k not in ("x", "labels")}).to(dtype).fill()


def batch_of(config, labels, dtype):
    """x, g, target and labels; the formula runs through the tensors in NCHW order."""
    n, (h, w), s = len(labels), config["x"], config["global_size"]
    return (input_x((n, 1, h, w)).to(dtype), input_g((n, 1, s, s)).to(dtype),
            target_ab((n, 2, h // 2, w // 2)).to(dtype), torch.tensor(labels))


def watch(model, closest):
    """Appends the smallest |pre-activation| of every pass to `closest`. What leaves the norm enters the activation."""
    for block in model.modules():
        if hasattr(block, "norm"):
            block.norm.register_forward_hook(lambda _m, _i, o: closest.append(o.detach().abs().min().item()))
    return model


def train(config, labels, dtype, optimizer, closest, noise_number=None):
    """[STEPS, 3]: color, class and total before update k, on the same batch every time."""
    x, g, target, labels = batch_of(config, labels, dtype)
    model, rows = watch(model_of(config, dtype), closest).train(), []
    if noise_number is not None:  # moves every parameter by up to 1e-15 of itself
        with torch.no_grad():
            for t, (_, p) in enumerate(sorted(model.named_parameters())):
                p.mul_(1 + 1e-15 * (2 * uniform(2000 + 1000 * noise_number + t, tuple(p.shape)) - 1))
    optimizer = OPTIMIZERS[optimizer](model.parameters())
    for _ in range(STEPS):
        three = losses(model(x, g), target, labels)
        optimizer.zero_grad()
        three[2].backward()
        optimizer.step()
        rows.append(torch.stack(three).detach())
    return torch.stack(rows)


def compute(config, dtype):
    """Everything of one configuration: ({tensor name: tensor}, the smallest |pre-activation| met)."""
    x, g, target, labels = batch_of(config, config["labels"], dtype)
    out, closest = {}, []
    tap = watch(model_of(config, dtype), closest).eval()(x, g)
    out |= {f"eval.{name}": nhwc(tap[name]) for name in ("output", "classifier.2") if name in tap}

    model = watch(model_of(config, dtype), closest).train()
    tap = model(x, g)
    out |= {f"act.{name}": nhwc(tap[name]) for name in TAPS if name in tap}
    three = losses(tap, target, labels)
    out["losses"] = torch.stack(three)
    three[2].backward()
    out |= {f"grad.{name}": p.grad for name, p in model.named_parameters()}
    out |= {f"stats.{name}": b for name, b in model.named_buffers() if "running" in name}

    # A batch of 3 makes the norms behind the linear layers (3 values each) so steep that ten steps are chaotic. `slack` says how far
    # rounding alone carries a loss away: the largest effect, up to that step, of four disturbances of 1e-15. The large batch is tame.
    large = [i % (config["classes"] + 1) - 1 for i in range(LARGE_BATCH)]  # -1, 0, 1, ...
    for batch, train_labels in (("train", config["labels"]), (f"train{LARGE_BATCH}", large)):
        for optimizer in OPTIMIZERS:
            rows = out[f"{batch}.{optimizer}"] = train(config, train_labels, dtype, optimizer, closest)
            if dtype == torch.float64:
                off = [(train(config, train_labels, dtype, optimizer, [], k) - rows).abs() for k in range(4)]
                out[f"slack.{batch}.{optimizer}"] = torch.stack(off).amax(0).cummax(0).values
    return {k: v.detach().contiguous().clone() for k, v in out.items()}, min(closest)


def metadata(config):
    """The configuration, as strings."""
    meta = {k: str(v) for k, v in config.items() if k not in ("x", "labels", "use_global")}
    return meta | {"format": "lumachrome golden 1", "use_global": str(config["use_global"]).lower(),
                   "batch": str(len(config["labels"])), "x_height": str(config["x"][0]), "x_width": str(config["x"][1]),
                   "labels": ",".join(map(str, config["labels"])), "large_batch": str(LARGE_BATCH), "alpha": "1/300"}


def file_bytes(tensors, meta):
    """The library writes the metadata in random order: sorted here, so that the same results are the same bytes."""
    data = safetensors.torch.save(tensors, meta)
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode().ljust(end - 8)
    assert len(text) == end - 8
    return data[:8] + text + data[end:]


def before_norm(name, exact):
    """The bias of a conv or linear layer with a norm behind it: the norm subtracts it again, its true gradient is 0."""
    return name.endswith((".conv.bias", ".linear.bias")) and name.rsplit(".", 2)[0] + ".norm.bias" in exact


def report(label, exact, single, closest):
    """Table rows: the largest difference between float32 and float64, alone and over the largest value of the tensor."""
    rows, vanishing = {}, []
    for name, e in exact.items():
        if name.startswith(("train", "slack")):
            continue
        if name == "losses":  # a class loss of 2 would hide what happens to a color loss of 0.1
            parts = [(f"losses, {part}", e[i], single[name][i]) for i, part in enumerate(("color", "class", "total"))]
        else:
            kind = name.split(".")[0]
            parts = [(kind + ".*" if kind in ("grad", "stats") else name, e, single[name])]
        for key, a, b in parts:
            difference, size = (b.double() - a).abs().max().item(), a.abs().max().item()
            if before_norm(name, exact):
                vanishing.append((size, b.abs().max().item()))
            else:
                rows.setdefault(key, []).append((difference / size if size else difference, difference, size, name))
    for key, found in rows.items():
        relative, difference, size, name = max(found)  # the worst tensor of its kind, each against its own largest value
        note = f", worst: `{name}`" if key.endswith("*") else ""
        print(f"| {label} | {key}{note} | {size:.3g} | {difference:.1e} | {relative:.1e} |")
    f64, f32 = map(max, zip(*vanishing))
    print(f"| {label} | grad.* of biases before a norm: true value 0 | {f64:.1e} | {f32:.1e} | |")
    print(f"| {label} | smallest pre-activation met in f64 | {closest:.1e} | | |")


def report_training(label, exact, single):
    """Per step: the slack of float64, and the difference of float32."""
    for name in (n for n in exact if n.startswith("train")):
        for column, loss in enumerate(("color", "class")):
            if exact[name][0, column] == 0:
                continue
            for what, values in (("slack", exact["slack." + name]), ("f32", (single[name].double() - exact[name]).abs())):
                steps = " | ".join(f"{v:.0e}" for v in values[:, column].tolist())
                print(f"| {label} | {name}, {loss} | {what} | {steps} |")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true", help="compare with the files instead of writing them")
    check = parser.parse_args().check
    torch.set_num_threads(1)  # a fixed order of summation
    assert splitmix64(np.zeros(1, np.uint64))[0] == 0xE220A8397B1DCDAF  # published first output for seed 0
    failed, training = False, []
    if not check:
        print("| file | tensor | largest value, f64 | difference of f32 | relative |\n|---|---|---|---|---|")
    for label, config in CONFIGS.items():
        path = HERE / f"golden_{label}.safetensors"
        exact, closest = compute(config, torch.float64)
        if config["activation"] == "relu":  # on a kink the derivative is a matter of taste
            assert closest > 1e-9, f"{label}: a pre-activation of {closest} is too close to the kink of ReLU"
        if check:
            stored = safetensors.torch.load_file(path)
            with safetensors.safe_open(path, "pt") as f:
                same = f.metadata() == metadata(config) and stored.keys() == exact.keys()
            bad = [n for n, e in exact.items() if not n.startswith("slack") and not (
                stored[n].shape == e.shape and ((stored[n] - e).abs() <=
                1e-9 * max(1e-3, e.abs().max().item()) + 100 * exact.get("slack." + n, torch.zeros(()))).all())] if same else ["names"]
            print(f"{path.name}: {'differs: ' + ', '.join(bad) if bad else 'as computed here'}")
            failed |= bool(bad)
        else:
            path.write_bytes(file_bytes(exact, metadata(config)))
            single = compute(config, torch.float32)[0]
            report(label, exact, single, closest)
            training.append((label, exact, single))
    if training:
        print("\n| file | losses | what |" + "".join(f" {k} |" for k in range(STEPS)) + "\n" + "|---" * (STEPS + 3) + "|")
    for run in training:
        report_training(*run)
    return failed


if __name__ == "__main__":
    sys.exit(main())
