#!/usr/bin/env python3
"""lumachrome against PyTorch on a GPU, in turn: appends JSON lines to a file (benchmarks/gpu_check calls it).

    gpu_rounds.py ceilings       rates of this device: matrix products and a copy
    gpu_rounds.py train          a training step on random data
    gpu_rounds.py infer          the network without its class head

For each case PyTorch's modes are tried in the order given until the case's share of --seconds is used up, the fastest is kept, and
then ours (a process of its own) and theirs run in turn. Modes are words joined by "+":

  channels_last   memory order of activations and filters; without it, contiguous
  half            weights in bf16 too (inference); without it bf16 means autocast
  split           the fusion as lumachrome computes it: the global half as a bias, one per border case
  compile, autotune   torch.compile, its default or max-autotune-no-cudagraphs
  graph           one CUDA graph for the whole step
"""
import argparse
import copy
import datetime
import functools
import json
import os
import platform
import statistics
import subprocess
import time

import torch

from presets import LUMA_MEAN, PRESETS, ROOT
from torch_train import network

SEED = 1
TRAIN_MODES = ("channels_last+split", "channels_last+split+graph", "channels_last+compile", "channels_last+split+compile",
               "channels_last+split+compile+graph", "split+compile", "channels_last+split+autotune+graph")
INFER_MODES = ("half+channels_last+split+graph", "channels_last+split+graph", "half+split+graph", "half+channels_last+split+compile+graph",
               "half+channels_last+split+autotune+graph")
WORDS = {"channels_last", "half", "split", "compile", "autotune", "graph"}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("ceilings", "train", "infer"))
    parser.add_argument("--out", required=True, help="JSON lines are appended here")
    parser.add_argument("--binary", default=os.path.join(ROOT, "build", "apps", "lumachrome"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--preset", choices=PRESETS, default="paper")
    parser.add_argument("--case", action="append", metavar="SIZE:BATCH", help="may be given again")
    parser.add_argument("--precision", action="append", choices=("bf16", "tf32", "f32"), help="may be given again")
    parser.add_argument("--mode", action="append", help="of PyTorch, on trial; may be given again")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=20, help="of a round")
    parser.add_argument("--seconds", type=float, default=480, help="for everything")
    options = parser.parse_args()
    train = options.what == "train"
    options.case = [tuple(map(int, case.split(":"))) for case in options.case or
                    (("224:128",) if train else ("224:1", "512:1", "1024:1", "2048:1", "224:64"))]
    options.precision = options.precision or ["bf16", "tf32"]
    options.mode = options.mode or list(TRAIN_MODES if train else INFER_MODES)
    for mode in options.mode:
        if not set(mode.split("+")) - {"contiguous"} <= WORDS:
            parser.error(f"--mode {mode}: words are contiguous, {', '.join(sorted(WORDS))}")
    return options


def output_of(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def machine(options):
    """What belongs in front of every line."""
    found = {"date": datetime.date.today().isoformat(), "host_cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(),
             "torch": torch.__version__}
    if options.device != "cpu":
        found["machine"] = torch.cuda.get_device_name()
        found["driver"] = output_of("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").split("\n")[0]
        found["toolkit"] = (output_of("nvcc", "--version") or output_of("/usr/local/cuda/bin/nvcc", "--version")).split("\n")[-1]
        found["torch_cuda"], found["cudnn"] = torch.version.cuda, torch.backends.cudnn.version()
    else:
        found["machine"] = "cpu"
    commit = os.environ.get("LUMACHROME_COMMIT") or output_of("git", "-C", ROOT, "describe", "--always", "--dirty", "--exclude", "*")
    return {**found, "commit": commit or "unknown"}


class Log:
    def __init__(self, options):
        self.path, self.head = options.out, machine(options)

    def __call__(self, **line):
        with open(self.path, "a") as file:
            file.write(json.dumps({**self.head, **line}) + "\n")
        shown = {key: line[key] for key in ("stage", "framework", "mode", "precision", "size", "batch", "median_ms", "ratio", "error") if key in line}
        print(json.dumps(shown or line), flush=True)


def synchronize(options):
    if options.device != "cpu":
        torch.cuda.synchronize()


def timed(options, work, runs, chunk=1):
    """Milliseconds of one call: medians over chunks of calls that are waited for together."""
    for _ in range(3):
        work()
    times = []
    for _ in range(max(3, runs // chunk)):
        synchronize(options)
        start = time.perf_counter()
        for _ in range(chunk):
            work()
        synchronize(options)
        times.append((time.perf_counter() - start) * 1e3 / chunk)
    return {"median_ms": round(statistics.median(times), 4), "min_ms": round(min(times), 4), "max_ms": round(max(times), 4)}


def set_precision(precision):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "f32"
    torch.set_float32_matmul_precision("highest" if precision == "f32" else "high")
    torch.backends.cudnn.benchmark = True


def ceilings(options, log):
    cpu = options.device == "cpu"
    n, elements = (512, 1 << 22) if cpu else (8192, 1 << 30)
    line = {"bench": "gpu_ceilings", "device": options.device, "n": n}
    for name, dtype in (("bf16", torch.bfloat16), ("tf32", torch.float32), ("f32", torch.float32)):
        set_precision(name)
        a, b = (torch.randn(n, n, device=options.device, dtype=dtype) for _ in range(2))
        c = torch.empty_like(a)
        time_ms = timed(options, lambda: torch.mm(a, b, out=c), 30, 5)["median_ms"]
        line[f"{name}_tflops"] = round(2 * n**3 / time_ms / 1e9, 4)
    a = torch.randint(0, 2**31, (elements,), device=options.device, dtype=torch.int32)
    b = torch.empty_like(a)
    line["copy_gb_s"] = round(8 * elements / timed(options, lambda: b.copy_(a), 20, 5)["median_ms"] / 1e6, 1)
    log(**line)


def compiled(function, words):
    if "compile" in words:
        return torch.compile(function, dynamic=False)
    if "autotune" in words:
        return torch.compile(function, dynamic=False, mode="max-autotune-no-cudagraphs")
    return function


def captured(options, work, words):
    """Replays of one CUDA graph, made after some calls on a stream of their own."""
    if "graph" not in words or options.device == "cpu":
        return work
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(4):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()

    def replay():
        graph.replay()
    replay.work = work  # keeps what the graph reads and writes
    return replay


def memory_order(words):
    return torch.channels_last if "channels_last" in words else torch.contiguous_format


def training(options, size, n, precision, words):
    """A function that does one step."""
    model, losses = network(options.preset, "split" in words)[1:]
    order, own = memory_order(words), PRESETS[options.preset]["global_size"]
    model = model.to(options.device).to(memory_format=order)
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1e-3, rho=0.9, eps=1e-6, foreach=True, capturable="graph" in words and options.device != "cpu")
    luma = torch.rand(n, 1, size, size, device=options.device).to(memory_format=order)
    target = (0.3 + 0.4 * torch.rand(n, 2, size // 2, size // 2, device=options.device)).to(memory_format=order)
    labels = torch.arange(n, device=options.device) % model.classes
    kind = "cpu" if options.device == "cpu" else "cuda"

    def forward():
        copy = None if size == own else torch.nn.functional.interpolate(luma, (own, own), mode="bilinear", antialias=True) - LUMA_MEAN
        with torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16", cache_enabled="graph" not in words):
            taps = model(luma - LUMA_MEAN, copy)
        # All photos have a label: what twin.losses computes, without looking.
        color = torch.nn.functional.mse_loss(taps["output"].float(), target)
        return color + torch.nn.functional.cross_entropy(taps["classifier.2"].float(), labels) / 300

    forward = compiled(forward, words)
    update = torch.compile(optimizer.step) if {"compile", "autotune"} & set(words) else optimizer.step

    def step():
        loss = forward()
        loss.backward()
        update()
        optimizer.zero_grad(set_to_none=True)
        return loss

    if not step().isfinite():
        raise RuntimeError("the loss is not finite")
    return captured(options, step, words)


@functools.cache
def filled(preset):
    """Some seconds of one core."""
    from inference import twin
    return twin.Twin(**PRESETS[preset]).fill().eval()


def inference(options, size, n, precision, words):
    from inference import Inference
    # Of a copy: folding may share weights with its source.
    model = Inference(copy.deepcopy(filled(options.preset)), "split" in words).eval().to(options.device)
    order, own = memory_order(words), PRESETS[options.preset]["global_size"]
    half = "half" in words and precision == "bf16"
    dtype = torch.bfloat16 if half else torch.float32
    model = model.to(dtype).to(memory_format=order)
    sides = (size,) if size == own else (size, own)
    inputs = [torch.rand(n, 1, side, side, device=options.device, dtype=dtype).to(memory_format=order) - 0.45 for side in sides]
    kind = "cpu" if options.device == "cpu" else "cuda"
    model = compiled(model, words)

    def run():
        with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16" and not half, cache_enabled=False):
            return model(*inputs)

    if not run().isfinite().all():
        raise RuntimeError("colours are not finite")
    return captured(options, run, words)


def ours(options, size, n, precision):
    command = [options.binary, "bench", options.what, "--preset", options.preset, "--size", str(size), "--device", options.device,
               "--runs", str(options.runs), "--json"]
    if options.what == "train" or n > 1:
        command += ["--batch", str(n)]
    if options.device != "cpu":
        command += ["--precision", precision]
    done = subprocess.run(command, capture_output=True, text=True, timeout=options.seconds)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip().split("\n")[-1] or f"status {done.returncode}")
    row = json.loads(done.stdout)
    return {key: row[key] for key in ("median_ms", "min_ms", "max_ms", "peak_rss_mib", "peak_gpu_mib") if key in row}


def work_of(options, size, n):
    """Operations of the definition, and bytes of the weights in 16 bits."""
    row = json.loads(output_of(options.binary, "inspect", "--preset", options.preset, "--size", str(size), "--json") or "{}")
    passes = 6 if options.what == "train" else 2  # operations a multiply-accumulate: forward, and twice that backward
    return {"gflop": row.get("macs", 0) * passes * n / 1e9, "weight_mb": row.get("parameters", 0) * 2 / 1e6}


def case(options, log, size, n, precision, seconds):
    deadline, make = time.monotonic() + seconds, training if options.what == "train" else inference
    head = {"bench": f"gpu_{options.what}", "device": options.device, "preset": options.preset, "size": size, "batch": n, "precision": precision}
    set_precision(precision)
    torch.compiler.reset()  # compiling too many networks by one name, it would give up and run them eagerly
    best, best_mode, best_ms = None, None, float("inf")
    chunk = max(1, options.runs // 4) if options.what == "train" else 1
    modes = [mode for mode in options.mode if precision == "bf16" or "half" not in mode.split("+")]
    if precision != "bf16" and options.what == "infer":
        modes = list(dict.fromkeys(mode.replace("half+", "") for mode in options.mode))
    slowest = 0  # of the trials; a search for the fastest kernels takes longer still
    for mode in modes:
        expected = slowest * (3 if "autotune" in mode.split("+") else 1)
        if best and time.monotonic() + expected > deadline - seconds / 4:
            log(**head, stage="trial", framework="torch", mode=mode, error="no time left")
            continue
        torch.manual_seed(SEED)
        start = time.monotonic()
        try:
            work = make(options, size, n, precision, mode.split("+"))
            row = timed(options, work, min(options.runs, 8), min(chunk, 4))
            log(**head, stage="trial", framework="torch", mode=mode, seconds=round(time.monotonic() - start, 1), **row)
        except Exception as error:  # a mode that fails is no candidate
            log(**head, stage="trial", framework="torch", mode=mode, error=str(error).strip().split("\n")[0][:300])
            work = None
        slowest = max(slowest, time.monotonic() - start)
        if work and row["median_ms"] < best_ms:
            best, best_mode, best_ms = work, mode, row["median_ms"]
        work = None
        if options.device != "cpu":
            torch.cuda.empty_cache()
    rows = {"lumachrome": [], "torch": []}
    for _ in range(options.rounds):
        try:
            rows["lumachrome"].append(ours(options, size, n, precision))
            log(**head, stage="round", framework="lumachrome", **rows["lumachrome"][-1])
        except Exception as error:
            log(**head, stage="round", framework="lumachrome", error=str(error)[:300])
        if best:
            rows["torch"].append(timed(options, best, options.runs, chunk))
            log(**head, stage="round", framework="torch", mode=best_mode, **rows["torch"][-1])
    median = {side: statistics.median(row["median_ms"] for row in of) if of else None for side, of in rows.items()}
    pairs = [b["median_ms"] / a["median_ms"] for a, b in zip(rows["lumachrome"], rows["torch"])]
    log(**head, stage="summary", mode=best_mode, rounds=options.rounds, median_ms=median["lumachrome"], torch_median_ms=median["torch"],
        ratio=round(median["torch"] / median["lumachrome"], 3) if pairs else None, ratio_min=round(min(pairs), 3) if pairs else None,
        ratio_max=round(max(pairs), 3) if pairs else None, **work_of(options, size, n))
    return len(pairs) == options.rounds


def main():
    options = arguments()
    log = Log(options)
    if options.what == "ceilings":
        return ceilings(options, log)
    complete, start = True, time.monotonic()
    left = [(size, n, p) for p in options.precision for size, n in options.case]
    while left:
        remaining = options.seconds - (time.monotonic() - start)
        complete &= case(options, log, *left.pop(0), max(1, remaining / (len(left) + 1)))
    if not complete:
        raise SystemExit("not every case was measured on both sides")


if __name__ == "__main__":
    main()
