#!/usr/bin/env python3
"""The same training by lumachrome and by PyTorch: do both learn as much? Appends JSON lines (benchmarks/gpu_check calls it).

Procedural photos of `lumachrome data scenes`, exactly as large as the network's input, so that both see the same squares, mirrored
every second time; the same first weights (a checkpoint), batch, steps, Adam, losses. What differs: the order of the photos and the
arithmetic. Each side trains once per seed; `lumachrome evaluate` on photos that neither has seen judges both.
"""
import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time

import numpy
import torch
from PIL import Image

from checkpoint import write_checkpoint
from gpu_rounds import Log, set_precision
from presets import LUMA_MEAN, PRESETS, ROOT
from squares import square
from torch_train import network

RATE, EPSILON = 1e-3, 1e-8  # adam's in train/optimizers.cpp


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--binary", default=os.path.join(ROOT, "build", "apps", "lumachrome"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--preset", choices=PRESETS, default="compact")
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--precision", choices=("bf16", "tf32", "f32"), default="bf16")
    parser.add_argument("--seconds", type=float, default=420)
    return parser.parse_args()


def lumachrome(options, *words):
    done = subprocess.run([options.binary, *words, "--device", options.device, "--json"], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words[:2])}: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def photos(folder, size):
    """luma [n,1,S,S] and target [n,2,S/2,S/2] of whole photos, labels [n], names of the scenes."""
    scenes = sorted(name for name in os.listdir(folder) if os.path.isdir(os.path.join(folder, name)))
    luma, target, labels = [], [], []
    for label, scene in enumerate(scenes):
        for name in sorted(os.listdir(os.path.join(folder, scene))):
            gray, colors = square(numpy.asarray(Image.open(os.path.join(folder, scene, name)).convert("RGB")), size)
            if colors is not None:
                luma.append(gray.astype(numpy.float32))
                target.append(colors.astype(numpy.float32))
                labels.append(label)
    return torch.from_numpy(numpy.stack(luma)), torch.from_numpy(numpy.stack(target)), torch.tensor(labels), scenes


def torch_training(options, source, model, losses, data, seed):
    """`source` shares its parameters with `model`. Returns seconds."""
    luma, target, labels = (value.to(options.device) for value in data)
    generator = torch.Generator().manual_seed(seed)
    kind = "cpu" if options.device == "cpu" else "cuda"
    model = model.to(options.device).train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, betas=(0.9, 0.999), eps=EPSILON)
    order, start = torch.empty(0, dtype=torch.long), time.perf_counter()
    for _ in range(options.steps):
        while len(order) < options.batch:
            order = torch.cat([order, torch.randperm(len(labels), generator=generator)])
        chosen, order = order[:options.batch], order[options.batch:]
        mirror = torch.rand(options.batch, generator=generator) < 0.5
        chosen, mirror = chosen.to(options.device), mirror.to(options.device)[:, None, None, None]
        x, y = luma[chosen], target[chosen]
        x, y = torch.where(mirror, x.flip(3), x), torch.where(mirror, y.flip(3), y)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(kind, torch.bfloat16, enabled=options.precision == "bf16"):
            taps = model(x - LUMA_MEAN)
        losses({name: tap.float() for name, tap in taps.items()}, y, labels[chosen])[2].backward()
        optimizer.step()
    if options.device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main():
    options = arguments()
    log, deadline = Log(options), time.monotonic() + options.seconds
    set_precision(options.precision)
    size = PRESETS[options.preset]["global_size"]
    head = {"bench": "gpu_equal", "device": options.device, "preset": options.preset, "size": size, "batch": options.batch,
            "steps": options.steps, "photos": options.photos, "precision": options.precision}
    results = {"lumachrome": [], "torch": []}
    with tempfile.TemporaryDirectory() as folder:
        file = lambda name: os.path.join(folder, name)
        for name, count, seed in (("train", options.photos, 1), ("held_out", max(28, options.photos // 10), 2)):
            subprocess.run([options.binary, "data", "scenes", file(name), "--count", str(count), "--size", str(size), "--seed", str(seed), "-q"],
                           check=True, stdout=subprocess.DEVNULL)
        *data, scenes = photos(file("train"), size)
        for seed in range(1, options.seeds + 1):
            if seed > 1 and time.monotonic() > deadline - options.seconds / options.seeds:
                break
            torch.manual_seed(seed)
            source, model, losses = network(options.preset, classes=len(scenes))
            write_checkpoint(file("first.safetensors"), source, options.preset, scenes)
            own = ["train", file("train"), "--validation", file("held_out"), "--init", file("first.safetensors"), "--preset", options.preset,
                   "--size", str(size), "--batch", str(options.batch), "--steps", str(options.steps), "--min-scale", "1", "--optimizer", "adam",
                   "--learning-rate", str(RATE), "--seed", str(seed), "--validation-steps", str(options.steps), "--out", file(f"run{seed}")]
            if options.device != "cpu":
                own += ["--precision", options.precision]
            start = time.perf_counter()
            lumachrome(options, *own)
            seconds = {"lumachrome": time.perf_counter() - start}
            seconds["torch"] = torch_training(options, source, model, losses, data, seed)
            write_checkpoint(file("torch.safetensors"), source.cpu(), options.preset, scenes)
            for side, weights in (("lumachrome", file(f"run{seed}/model.safetensors")), ("torch", file("torch.safetensors"))):
                row = lumachrome(options, "evaluate", file("held_out"), "--weights", weights, "--size", str(size))
                row = {key: row[key] for key in ("rmse_ab", "psnr_rgb", "top1")} | {"gray_rmse_ab": row["gray_baseline"]["rmse_ab"]}
                results[side].append(row)
                log(**head, stage="round", framework=side, seed=seed, seconds=round(seconds[side], 1), **row)
    mean = {side: statistics.mean(row["rmse_ab"] for row in rows) for side, rows in results.items()}
    spread = {side: max(row["rmse_ab"] for row in rows) - min(row["rmse_ab"] for row in rows) for side, rows in results.items()}
    log(**head, stage="summary", seeds=len(results["torch"]), rmse_ab=round(mean["lumachrome"], 3), torch_rmse_ab=round(mean["torch"], 3),
        spread=round(spread["lumachrome"], 3), torch_spread=round(spread["torch"], 3), gray_rmse_ab=results["torch"][0]["gray_rmse_ab"],
        top1=round(statistics.mean(row["top1"] for row in results["lumachrome"]), 4),
        torch_top1=round(statistics.mean(row["top1"] for row in results["torch"]), 4))


if __name__ == "__main__":
    main()
