#!/usr/bin/env python3
"""Compares colours, and reads the JSON lines of one run of benchmarks/infer.

    infer_summary.py compare COLOR EXPECTED      adds the largest error to the JSON object on stdin; fails above the tolerance
    infer_summary.py fastest LINES PEER SIZE     name of the peer's fastest mode among the trial lines
    infer_summary.py table LINES OUT             tables on stdout, one line a size appended to OUT: medians over the rounds and ratios
"""
import json
import sys
from statistics import median

from summary import lines

TOLERANCE = 1e-4  # ab in 0..1, against double precision
LAB_UNITS = 200   # ab = 100 (2 y - 1)
NAMES = {"lumachrome": "lumachrome", "torch": "PyTorch", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "ncnn": "ncnn"}


def compare(path, expected):
    import numpy
    from safetensors.numpy import load_file
    row, color, truth = json.load(sys.stdin), load_file(path)["color"], load_file(expected)["color"]
    if color.shape != truth.shape:
        raise SystemExit(f"colours are {color.shape}, not {truth.shape}")
    known = ~numpy.isnan(truth)
    error = float(numpy.abs(color[known] - truth[known]).max())
    if not error <= TOLERANCE and row.get("precision", "f32") == "f32":
        raise SystemExit(f"colours are {error:.2g} from double precision, more than {TOLERANCE:g}: {json.dumps(row)}")
    print(json.dumps(row | {"max_error": float(f"{error:.2g}"), "max_error_lab": float(f"{error * LAB_UNITS:.2g}")}))


def fastest(path, peer, size):
    return min(lines(path, stage="trial", framework=peer, size=int(size)), key=lambda row: row["min_ms"])["mode"]


def case(path, size):
    """One line of results. Ratios above 1 mean that lumachrome is faster; memory ratios below 1 that it needs less."""
    rounds = {}
    for row in lines(path, stage="round", size=size):
        rounds.setdefault(row["framework"], []).append(row)
    ours = rounds.pop("lumachrome")
    head = {key: ours[0][key] for key in ("machine", "cores", "compiler", "flags", "commit", "preset", "size", "threads")}
    result = {"bench": "infer_ratio", **head, "rounds": len(ours), "median_ms": round(median(row["median_ms"] for row in ours), 3),
              "peak_rss_mib": round(max(row["peak_rss_mib"] for row in ours), 1),
              "max_error": lines(path, stage="trial", framework="lumachrome", size=size)[0]["max_error"], "peers": {}}
    for peer, rows in rounds.items():
        mode = rows[0]["mode"]
        ratios = [b["median_ms"] / a["median_ms"] for a, b in zip(ours, rows)]
        ms, memory = median(row["median_ms"] for row in rows), max(row["peak_rss_mib"] for row in rows)
        result["peers"][peer] = {
            "version": rows[0]["version"], "mode": mode, "median_ms": round(ms, 3), "peak_rss_mib": round(memory, 1),
            "import_rss_mib": max(row["import_rss_mib"] for row in rows),
            "max_error": lines(path, stage="trial", framework=peer, size=size, mode=mode)[0]["max_error"],
            "ratio": round(ms / result["median_ms"], 3), "ratio_min": round(min(ratios), 3), "ratio_max": round(max(ratios), 3),
            "memory_ratio": round(result["peak_rss_mib"] / memory, 3)}
    best = min(result["peers"].values(), key=lambda peer: peer["median_ms"])
    leanest = min(result["peers"].values(), key=lambda peer: peer["peak_rss_mib"])
    return result | {"ratio": best["ratio"], "memory_ratio": leanest["memory_ratio"]}


def table(path, out):
    cases = [case(path, size) for size in dict.fromkeys(row["size"] for row in lines(path, stage="round"))]
    with open(out, "a") as file:
        for row in cases:
            file.write(json.dumps(row) + "\n")
    peers = list(cases[0]["peers"])
    print("\nms (peak MiB)\n")
    print("| size | lumachrome | " + " | ".join(f"{NAMES[peer]} {cases[0]['peers'][peer]['version']}" for peer in peers) + " |")
    print("|---" * (len(peers) + 2) + "|")
    for row in cases:
        cells = [f"{p['median_ms']:.1f} ({p['peak_rss_mib']:.0f}, {p['import_rss_mib']:.0f} of them after import)" for p in row["peers"].values()]
        print(f"| {row['size']} | {row['median_ms']:.1f} ({row['peak_rss_mib']:.0f}) | " + " | ".join(cells) + " |")
    print("\nspeed, ours over theirs (rounds); memory, ours over the leanest; largest error of ab in 0..1 (in Lab units)\n")
    print("| size | best peer | " + " | ".join(NAMES[peer] for peer in peers) + " | memory | error |")
    print("|---" * (len(peers) + 4) + "|")
    for row in cases:
        cells = [f"{p['ratio']:.2f} ({p['ratio_min']:.2f} .. {p['ratio_max']:.2f})" for p in row["peers"].values()]
        print(f"| {row['size']} | **{row['ratio']:.2f}** | " + " | ".join(cells) +
              f" | **{row['memory_ratio']:.2f}** | {row['max_error']:.1e} ({row['max_error'] * LAB_UNITS:.1e}) |")
    print("\n| size | " + " | ".join(f"{NAMES[peer]}: mode, error" for peer in peers) + " |\n" + "|---" * (len(peers) + 1) + "|")
    for row in cases:
        print(f"| {row['size']} | " + " | ".join(f"`{p['mode']}`, {p['max_error']:.1e}" for p in row["peers"].values()) + " |")
    for row in lines(path, stage="information"):
        print(f"\n{NAMES[row['framework']]} {row['size']} in its own precision, {row['precision']}: {row['min_ms']:.1f} ms, "
              f"error {row['max_error']:.1e} ({row['max_error_lab']:.1e} Lab)", end="")
    print()


if __name__ == "__main__":
    command, *rest = sys.argv[1:]
    if command == "fastest":
        print(fastest(*rest))
    elif command == "compare":
        compare(*rest)
    else:
        table(*rest)
