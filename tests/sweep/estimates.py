#!/usr/bin/python3
"""estimates.py PROGRAM: what is said beforehand of time. Unknown where nothing was measured; after one run of a shape,
runs of that shape have a range, in the dry run, in /cost and in the closing table. Seconds are printed, never asserted.
Of memory, a dry run knows before anything ran what a run will take."""
import re
import sys

import h5py

from harness import Sweep, expect

sweep = Sweep(sys.argv[1], "edit.method: [lemoe, moe, ft_m, none], parallel.tensor: [1, 2]")
status, text = sweep.run(2, "--dry-run")
plan = [line for line in text.splitlines() if line.startswith("t-")]
expect(status == 0 and len(plan) == 8 and all(line.count("unknown") == 1 for line in plan), "no time is known yet", text)
said = {line.split()[0]: float(re.search(r" ([0-9.]+) MB", line)[1]) for line in plan}
expect("time of the sweep: unknown" in text, "nor of the whole", text)
status, text = sweep.run(2)
expect(status == 0 and "estimates" in text, f"the first sweep ended with {status}", text)
for run in sweep.ids():
    with h5py.File(sweep.out / "runs" / (run + ".h5")) as file:
        peak = file["cost/peak_bytes"][:].max() / 1e6
        expect(abs(said[run] - peak) < 0.06, f"{run}: the dry run said {said[run]} MB, it took {peak}")
        expect("predicted_step_seconds" not in file["cost"] or not file["cost/predicted_step_seconds"][:].any(),
               f"{run}: a time was said of a shape that was never measured")

ratios = []
for change in ("seed=1", "order.planner=random"):
    status, text = sweep.run(2, change, "--dry-run")
    plan = [line for line in text.splitlines() if line.startswith("t-")]
    expect(len(plan) == 8 and not any("unknown" in line for line in plan), "every shape is known now", text)
    expect(" to " in text.split("time of the sweep:")[1], "a range for the whole", text)
    before = set(sweep.ids())
    status, text = sweep.run(2, change)
    expect(status == 0 and "estimates" in text, f"{change} ended with {status}", text)
    runs = set(sweep.ids()) - before
    expect(len(runs) == 8, f"eight new runs, not {len(runs)}")
    for run in sorted(runs):
        with h5py.File(sweep.out / "runs" / (run + ".h5")) as file:
            if "none" not in run:
                ratios.append(file["cost/predicted_step_seconds"][-1] / file["train/seconds"][:].mean())
print("memory as said; seconds an update, said over measured: " + " ".join(f"{ratio:.2f}" for ratio in ratios))
sweep.remove()
