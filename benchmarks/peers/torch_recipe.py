#!/usr/bin/env python3
"""Trains PyTorch's network by one of our recipes: does ours learn as much from the same photos in the same number of steps?

    torch_recipe.py train/recipes/experiments/full.ini SHARDS --test SHARDS/val.tar --out FOLDER --seed 1

Nothing of lumachrome takes part: tests/golden/twin.py is the network, with PyTorch's own first weights, and Pillow and numpy read
and crop the photos (squares.py). FOLDER/model.safetensors is a checkpoint of ours, so that one program judges both; --test does so.
An interrupted training goes on from its last save with the same photos.
"""
import argparse
import io
import json
import math
import os
import subprocess
import tarfile
import time

import numpy
import torch
from PIL import Image

from checkpoint import write_checkpoint
from presets import LUMA_MEAN, PRESETS, ROOT
from squares import square
from torch_train import network

# What a recipe may say, and what holds where it says nothing: the defaults of `lumachrome train`.
DEFAULTS = {"preset": "paper", "size": None, "batch": 16, "steps": None, "optimizer": "adadelta", "learning-rate": None, "min-scale": 0.6,
            "schedule": "constant", "warmup": 0, "alpha": 1 / 300, "chroma-weight": 0.0, "luma-jitter": 0.0, "activation": "relu",
            "fusion-kernel": 3, "seed": 1}
IGNORED = {"validation-steps", "metadata"}
SAVE_STEPS = 500


def recipe(path):
    lines = (line.strip() for line in open(path, encoding="utf-8"))
    given = dict(line.split("=", 1) for line in lines if line and line[0] not in "#;")
    unknown = given.keys() - DEFAULTS.keys() - IGNORED
    if unknown or given.get("optimizer") != "adam":
        raise SystemExit(f"{path}: not for this script: {', '.join(unknown) or 'another optimizer than adam'}")
    number = lambda text: text if not text.replace(".", "").isdigit() else float(text) if "." in text else int(text)
    return DEFAULTS | {key: number(value) for key, value in given.items() if key in DEFAULTS}


def read_photos(folder):
    """8-bit RGB arrays and labels (-1: none) of the train shards in a folder, and the names of the scenes."""
    photos, scenes = [], []
    for shard in sorted(name for name in os.listdir(folder) if name.startswith("train") and name.endswith(".tar")):
        with tarfile.open(os.path.join(folder, shard)) as tar:
            for member in (m for m in tar if m.isfile() and m.name.endswith(".jpg")):
                photos.append(numpy.asarray(Image.open(io.BytesIO(tar.extractfile(member).read())).convert("RGB")))
                scenes.append(os.path.dirname(member.name))
    names = sorted(set(scenes) - {"unlabeled"})
    return photos, [names.index(scene) if scene in names else -1 for scene in scenes], names


class Batches:
    """Random squares, mirrored every second time: a function of seed and step. Near-gray ones are drawn again from another photo."""

    def __init__(self, photos, labels, options):
        self.photos, self.labels, self.options = photos, labels, options
        self.order = (None, None)

    def place(self, number):
        epoch, place = divmod(number, len(self.photos))
        if self.order[0] != epoch:
            self.order = epoch, numpy.random.default_rng([self.options["seed"], epoch]).permutation(len(self.photos))
        return self.order[1][place]

    def crop(self, random, photo):
        height, width = photo.shape[:2]
        side = round(random.uniform(self.options["min-scale"], 1) * min(height, width))
        top, left = random.integers(height - side + 1), random.integers(width - side + 1)
        cut = photo[top:top + side, left:left + side]
        luma, target = square(cut[:, ::-1] if random.integers(2) else cut, self.options["size"])
        jitter = self.options["luma-jitter"]
        if jitter:
            contrast, brightness = 1 + jitter * random.uniform(-1, 1), 0.5 + jitter * random.uniform(-0.5, 0.5)
            luma = ((luma - 0.5) * contrast + brightness).clip(0, 1)
        return luma, target

    def __getitem__(self, step):
        random, rows = numpy.random.default_rng([self.options["seed"], 1 << 32, step]), []
        for number in range(step * self.options["batch"], (step + 1) * self.options["batch"]):
            index, target = self.place(number), None
            while target is None:
                luma, target = self.crop(random, self.photos[index])
                label, index = self.labels[index], random.integers(len(self.photos))
            rows.append((luma, target, label))
        stack = lambda values: torch.from_numpy(numpy.stack(values).astype(numpy.float32))
        return stack([r[0] for r in rows]), stack([r[1] for r in rows]), torch.tensor([r[2] for r in rows])


def rate_factor(step, options):
    """train/schedule.hpp"""
    if step < options["warmup"]:
        return (step + 1) / options["warmup"]
    if options["schedule"] == "constant":
        return 1
    return 0.5 * (1 + math.cos(math.pi * (step - options["warmup"]) / (options["steps"] - options["warmup"])))


def loss(taps, target, labels, options):
    weight = 1 + options["chroma-weight"] * (2 * target - 1).abs()
    color = (weight * (taps["output"] - target) ** 2).mean()
    classes = torch.nn.functional.cross_entropy(taps["classifier.2"], labels, ignore_index=-1)
    return color, classes, color + options["alpha"] * classes


def train(options, data, out):
    photos, labels, names = read_photos(data)
    print(f"{len(photos)} photos of {len(names)} scenes", flush=True)
    torch.manual_seed(options["seed"])
    source, model, _ = network(options["preset"], classes=len(names), activation=options["activation"], fusion_kernel=options["fusion-kernel"])
    assert options["size"] == PRESETS[options["preset"]]["global_size"], "the size must be the global branch's"
    model = model.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=options["learning-rate"], fused=True)
    state, first = os.path.join(out, "state.pt"), 0
    if os.path.exists(state):
        saved = torch.load(state)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["step"]
    batches, begin, sums = Batches(photos, labels, options), time.perf_counter(), [0.0, 0.0]
    for step in range(first, options["steps"]):
        luma, target, label = batches[step]
        for group in optimizer.param_groups:
            group["lr"] = options["learning-rate"] * rate_factor(step, options)
        optimizer.zero_grad(set_to_none=True)
        color, classes, total = loss(model(luma - LUMA_MEAN), target, label, options)
        total.backward()
        optimizer.step()
        sums = [sums[0] + color.item(), sums[1] + classes.item()]
        if (step + 1) % SAVE_STEPS == 0 or step + 1 == options["steps"]:
            rate = (step + 1 - first) * options["batch"] / (time.perf_counter() - begin)
            count = (step % SAVE_STEPS) + 1
            print(f"step {step + 1}  {rate:.1f} images/s  color {sums[0] / count:.5f}  class {sums[1] / count:.3f}", flush=True)
            sums = [0.0, 0.0]
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}, state + ".new")
            os.replace(state + ".new", state)
    path = os.path.join(out, "model.safetensors")
    write_checkpoint(path + ".new", source, options["preset"], names)
    os.replace(path + ".new", path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("data", help="a folder of train*.tar")
    parser.add_argument("--out", required=True)
    parser.add_argument("--test", help="photos for `lumachrome evaluate`")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--binary", default=os.path.join(ROOT, "lumachrome"))
    arguments = parser.parse_args()
    options = recipe(arguments.recipe)
    options.update({key: value for key in ("seed", "steps") if (value := getattr(arguments, key)) is not None})
    torch.set_num_threads(arguments.threads)
    os.makedirs(arguments.out, exist_ok=True)
    model = os.path.join(arguments.out, "model.safetensors")
    if not os.path.exists(model):
        train(options, arguments.data, arguments.out)
    if arguments.test:
        row = json.loads(subprocess.run([arguments.binary, "evaluate", arguments.test, "--weights", model, "--size", str(options["size"]),
                                         "--threads", str(arguments.threads), "--json"], check=True, stdout=subprocess.PIPE).stdout)
        print(json.dumps({key: row[key] for key in ("rmse_ab", "colorfulness", "near_gray_fraction", "top1", "top5")}))


if __name__ == "__main__":
    main()
