#!/usr/bin/python3
"""bench_estimates.py PROGRAM [SEEDS]: how far off are times that a dry run says? One run of each shape is measured, then
runs of the same shapes with other seeds are predicted: ms an update and seconds a run, said over measured. Other
programs on the machine show up as scatter, so load is printed with it; lemoe-run-cpu-clock (ninja bench) as PROGRAM takes CPU
time instead."""
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
SWEEP = """\
name: b
model: {{path: {root}/configs/quickstart/model, dtype: fp32}}
data: {{kind: zsre, path: {root}/configs/quickstart/data.json, edits: 100}}
edit: {{batch_size: 50}}
lemoe: {{layer: 5, max_steps: 30, stop_loss: 0}}
moe: {{layer: 5, max_steps: 30, stop_loss: 0}}
ft_m: {{layer: 5, max_steps: 30, stop_loss: 0}}
output: {{dir: {out}, adaptor: none}}
sweep: {{axes: {{edit.method: [lemoe, moe, ft_m], seed: {seeds}}}}}
"""
program = pathlib.Path(sys.argv[1]).resolve()
n_seed = int(sys.argv[2]) if len(sys.argv) > 2 else 6


def launch(folder, seeds, *arguments):
    path = folder / "b.yaml"
    path.write_text(SWEEP.format(root=ROOT, out=folder / "out", seeds=seeds))
    return subprocess.run([program, path, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout


with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    launch(folder, [0])
    others = list(range(1, n_seed + 1))
    plan = launch(folder, others, "--dry-run")
    print(plan.splitlines()[-2])
    text = launch(folder, others).split("estimates", 1)[1]
    rows = re.findall(r"^b-(\w+?)-\S+ +([0-9.]+) +([0-9.]+) ", text, re.M)
    ratios = {}
    for method, said, measured in rows:
        ratios.setdefault(method.split("_s")[0], []).append(float(said) / float(measured))
    for method, values in sorted(ratios.items()):
        print(f"{method}: {len(values)} runs, ms an update said over measured: median {statistics.median(values):.2f}, "
              f"{min(values):.2f} to {max(values):.2f}")
    everything = [value for values in ratios.values() for value in values]
    within = sum(1 / 1.3 <= value <= 1.3 for value in everything)
    print(f"{within} of {len(everything)} within 30 %; load {os.getloadavg()[0]:.1f}")
