#!/usr/bin/env python3
"""Reads the JSON lines of one run of benchmarks/train, prints its table and writes one line a case: medians over the rounds, ratios,
and how near each comes to the floor.

    summary.py fastest LINES PRESET      name of PyTorch's fastest mode among the trial lines
    summary.py table LINES OUT           table on stdout, lines appended to OUT
"""
import json
import sys
from statistics import median

FLOP_PER_MAC = 6  # a training step: forward, gradient by the input, gradient by the weights; two operations each


def lines(path, **wanted):
    with open(path) as file:
        rows = [json.loads(line) for line in file]
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def fastest(path, preset):
    return min(lines(path, stage="trial", preset=preset), key=lambda row: row["median_ms"])["mode"]


def case(path, preset, peak):
    """One line of results: `ratio` above 1 means that lumachrome is faster, `memory_ratio` below 1 that it needs less."""
    ours = lines(path, stage="round", framework="lumachrome", preset=preset)
    theirs = lines(path, stage="round", framework="torch", preset=preset)
    work = lines(path, stage="work", preset=preset)[0]["macs"] * FLOP_PER_MAC / 1e9
    rate = {side: median(row["images_per_second"] for row in rows) for side, rows in (("ours", ours), ("torch", theirs))}
    memory = {side: max(row["peak_rss_mib"] for row in rows) for side, rows in (("ours", ours), ("torch", theirs))}
    ratios = [a["images_per_second"] / b["images_per_second"] for a, b in zip(ours, theirs)]
    head = {key: value for key, value in theirs[0].items()
            if key in ("machine", "cores", "compiler", "flags", "commit", "preset", "size", "batch", "threads", "optimizer", "precision", "torch", "mode")}
    return {"bench": "train_ratio", **head, "rounds": len(ratios),
            "images_per_second": round(rate["ours"], 3), "torch_images_per_second": round(rate["torch"], 3),
            "ratio": round(rate["ours"] / rate["torch"], 3),
            "ratio_min": round(min(ratios), 3), "ratio_max": round(max(ratios), 3),
            "peak_rss_mib": round(memory["ours"], 1), "torch_peak_rss_mib": round(memory["torch"], 1),
            "torch_import_rss_mib": theirs[0]["import_rss_mib"], "memory_ratio": round(memory["ours"] / memory["torch"], 3),
            "gflop_per_image": round(work, 2), "gemm_gflops": round(peak, 1),
            "floor_images_per_second": round(peak / work, 3),
            "share_of_floor": round(rate["ours"] * work / peak, 3), "torch_share_of_floor": round(rate["torch"] * work / peak, 3)}


def table(path, out):
    products = lines(path, stage="gemm")
    peak = max(row[key] for row in products for key in row if key.endswith("_gflops"))
    presets = dict.fromkeys(row["preset"] for row in lines(path, stage="work"))
    cases = [case(path, preset, peak) for preset in presets]
    with open(out, "a") as file:
        for row in cases:
            file.write(json.dumps(row) + "\n")
    best = {key: max(row[key] for row in products if key in row)
            for key in ("torch_gflops", "numpy_gflops", "register_gflops")}
    print("\nmatrix products, GFLOP/s: " + ", ".join(f"{key.removesuffix('_gflops')} {value:.0f}" for key, value in best.items()) +
          f"; the floor is work / {peak:.0f}\n")
    print("| case | | images/s | ratio (rounds) | share of floor | peak RSS, MiB | ratio |\n|---|---|---|---|---|---|---|")
    for row in cases:
        print(f"| {row['preset']} {row['size']}, batch {row['batch']} | lumachrome | {row['images_per_second']:.2f} | "
              f"**{row['ratio']:.2f}** ({row['ratio_min']:.2f} .. {row['ratio_max']:.2f}) | {row['share_of_floor']:.0%} | "
              f"{row['peak_rss_mib']:.0f} | **{row['memory_ratio']:.2f}** |")
        print(f"| | PyTorch {row['torch']}, {row['mode']} | {row['torch_images_per_second']:.2f} | | {row['torch_share_of_floor']:.0%} | "
              f"{row['torch_peak_rss_mib']:.0f} ({row['torch_import_rss_mib']:.0f} after import) | |")


if __name__ == "__main__":
    command, *rest = sys.argv[1:]
    if command == "fastest":
        print(fastest(*rest))
    else:
        table(*rest)
