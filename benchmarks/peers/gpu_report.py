#!/usr/bin/env python3
"""Reads the JSON lines of benchmarks/gpu_check and prints its report: gpu_report.py RESULTS"""
import json
import sys


def milliseconds(value):
    return "failed" if value is None else f"{value:.3f}" if value < 10 else f"{value:.1f}"


def floor(row, ceilings):
    """ms: operations of the definition at the measured rate of this precision, or the weights once at the rate of a copy."""
    if not ceilings or not row.get("gflop"):
        return None
    rate = ceilings.get(f"{row['precision']}_tflops")
    return max(row["gflop"] / rate, row["weight_mb"] / ceilings["copy_gb_s"])


def main():
    with open(sys.argv[1]) as file:
        rows = [json.loads(line) for line in file]
    of = lambda bench, stage=None: [row for row in rows if row.get("bench") == bench and stage in (None, row.get("stage"))]
    head = next((row for row in rows if "torch" in row), rows[0] if rows else {})
    print("# GPU check\n")
    for key in ("date", "machine", "driver", "toolkit", "torch", "torch_cuda", "cudnn", "cores", "commit"):
        if head.get(key):
            print(f"* {key}: {head[key]}")
    ceilings = of("gpu_ceilings")[-1] if of("gpu_ceilings") else None
    if ceilings:
        print(f"* matrix products, TFLOP/s: bf16 {ceilings['bf16_tflops']:.0f}, tf32 {ceilings['tf32_tflops']:.0f}, f32 {ceilings['f32_tflops']:.0f}; "
              f"a copy, read and written: {ceilings['copy_gb_s']:.0f} GB/s")
    stages = of("gpu_stage")
    if stages:
        print("\n| stage | | seconds | |\n|---|---|---|---|")
        for row in stages:
            print(f"| {row['stage']} | {row['result']} | {row['seconds']} | {row.get('note', '')} |")
    for bench, title in (("gpu_train", "A training step"), ("gpu_infer", "Inference, no class head")):
        if not of(bench, "summary"):
            continue
        print(f"\n## {title}, ms\n\n| case | precision | floor | lumachrome | share of floor | PyTorch | ratio (rounds) | images/s |")
        print("|---|---|---|---|---|---|---|---|")
        for row in of(bench, "summary"):
            least, mine = floor(row, ceilings), row["median_ms"]
            share, rate = f"{least / mine:.0%}" if least and mine else "", f"{row['batch'] / mine * 1e3:.0f}" if mine else ""
            ratio = f"**{row['ratio']:.2f}** ({row['ratio_min']:.2f} .. {row['ratio_max']:.2f})" if row["ratio"] else ""
            print(f"| `{row['preset']}` {row['size']}, batch {row['batch']} | {row['precision']} | {milliseconds(least) if least else ''} | "
                  f"{milliseconds(mine)} | {share} | {milliseconds(row['torch_median_ms'])} "
                  f"(`{row['mode']}`) | {ratio} | {rate} |")
    if of("gpu_equal", "summary"):
        print("\n## The same training, error of a and b on held-out scenes\n\n| case | lumachrome (spread) | PyTorch (spread) | gray | top-1 |\n|---|---|---|---|---|")
        for row in of("gpu_equal", "summary"):
            print(f"| `{row['preset']}` {row['size']}, batch {row['batch']}, {row['steps']} steps, {row['precision']}, {row['seeds']} seeds | "
                  f"{row['rmse_ab']:.2f} ({row['spread']:.2f}) | {row['torch_rmse_ab']:.2f} ({row['torch_spread']:.2f}) | {row['gray_rmse_ab']:.2f} | "
                  f"{row['top1']:.1%}, {row['torch_top1']:.1%} |")
    for row in of("gpu_run"):
        print(f"\n## Training run\n\n{row['images']} photos held out: error of a and b {row['rmse_ab']:.2f} (gray {row['gray_baseline']['rmse_ab']:.2f}), "
              f"PSNR {row['psnr_rgb']:.2f} dB, top-1 {row['top1']:.1%}; {row['trained']['step']} steps, {row['trained']['images_per_second']:.0f} images/s")
    errors = [row for row in rows if row.get("error") and row["error"] != "no time left"]
    if errors:
        print("\n## What failed\n")
        for row in errors:
            print(f"* {row['bench']} {row.get('framework', '')} {row.get('mode', '')} {row.get('precision', '')} {row.get('size', '')}: {row['error']}")


if __name__ == "__main__":
    main()
