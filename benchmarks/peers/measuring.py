"""What the drivers of this folder share: time, memory, and the look of a driver for inference."""
import argparse
import ctypes
import json
import os
import resource
import statistics
import time


def peak_rss_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def keep_freed_memory():
    """Freed memory stays with the process: no page is asked for twice."""
    trim_threshold, mmap_max = -1, -4  # malloc.h
    libc = ctypes.CDLL(None)
    libc.mallopt(trim_threshold, 2**31 - 1)
    libc.mallopt(mmap_max, 0)


def milliseconds(work, runs, warm_up):
    for _ in range(warm_up):
        work()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def infer_driver(description, words, prepare):
    """The command of an inference driver: times one photo and prints one JSON line.

    Modes are words joined by "+", each one of `words`, "keep" or "passive". `prepare(options, words)` imports the framework
    and returns (run, version): run() infers once and returns the colours as a float32 array [1,2,N/2,N/2]. It calls
    options.imported() as soon as the framework is imported and before it loads anything.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", required=True, metavar="DIR", help="what make_case.py wrote")
    parser.add_argument("--size", type=int, required=True, help="side of the square photo")
    parser.add_argument("--mode", required=True, help="words joined by +")
    parser.add_argument("--runs", type=int, default=5, help="timed runs")
    parser.add_argument("--warm-up", type=int, default=1, help="runs before them")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--output", metavar="FILE", help="write the colours here: a safetensors file with `color` [1,N/2,N/2,2]")
    options = parser.parse_args()
    mode = options.mode.split("+")
    if not set(mode) <= set(words) | {"keep", "passive"}:
        parser.error(f"--mode {options.mode}: words are {', '.join(words)}, keep, passive")
    if "keep" in mode:
        keep_freed_memory()
    if "passive" in mode:
        os.environ["OMP_WAIT_POLICY"] = "passive"  # read when the framework is loaded
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    import numpy
    baseline = []
    options.imported = lambda: baseline.append(peak_rss_mib())
    options.precision = "f32"
    options.inputs = {"x": numpy.load(f"{options.files}/x_{options.size}.npy")}
    if os.path.exists(f"{options.files}/copy_{options.size}.npy"):
        options.inputs["copy"] = numpy.load(f"{options.files}/copy_{options.size}.npy")
    run, version = prepare(options, mode)
    times = milliseconds(run, options.runs, options.warm_up)
    peak = peak_rss_mib()
    if options.output:
        from safetensors.numpy import save_file
        save_file({"color": numpy.ascontiguousarray(run().transpose(0, 2, 3, 1))}, options.output)
    print(json.dumps({"size": options.size, "runs": options.runs, "median_ms": round(statistics.median(times), 3),
                      "min_ms": round(min(times), 3), "max_ms": round(max(times), 3), "peak_rss_mib": round(peak, 1),
                      "import_rss_mib": round(baseline[0], 1), "device": "cpu", "precision": options.precision, "threads": options.threads,
                      "version": version, "mode": options.mode}))
