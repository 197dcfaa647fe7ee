#!/usr/bin/python3
"""estimates.py PROGRAM: what is said beforehand. Unknown where nothing was measured; after one run of a shape, runs of
that shape have a range for their time and their arenas' bytes (with another seed exactly, or to one per cent where rows
are routed to experts; to a few per cent in another order, which packs other edits together), in the dry run, in /cost
and in the closing table. Seconds are printed, never asserted."""
import sys

import h5py

from harness import Sweep, expect

sweep = Sweep(sys.argv[1], "edit.method: [lemoe, moe, ft_m, none], parallel.tensor: [1, 2]")
status, text = sweep.run(2, "--dry-run")
plan = [line for line in text.splitlines() if line.startswith("t-")]
expect(status == 0 and len(plan) == 8 and all("unknown" in line for line in plan), "nothing is known yet", text)
expect("time of the sweep: unknown" in text, "nor of the whole", text)
status, text = sweep.run(2)
expect(status == 0 and "estimates" not in text, f"the first sweep ended with {status}", text)

# how far the bytes may be off: with experts they also depend on where rows are routed
changes = {"seed=1": {"moe": 0.01, "lemoe": 0.01}, "order.planner=random": dict.fromkeys(("lemoe", "moe", "ft", "none"), 0.05)}
ratios = []
for change, tolerances in changes.items():
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
            said, peak = file["cost/predicted_bytes"][-1], file["cost/peak_bytes"][:].max()
            tolerance = tolerances.get(run.split("-")[1].split("_")[0], 0)
            expect(abs(said - peak) <= tolerance * peak, f"{change}, {run}: {said} bytes were said, {peak} were used")
            if "none" not in run:
                ratios.append(file["cost/predicted_step_seconds"][-1] / file["train/seconds"][:].mean())
print("arenas as said; seconds an update, said over measured: " + " ".join(f"{ratio:.2f}" for ratio in ratios))
sweep.remove()
