#!/usr/bin/python3
"""planning.py PROGRAM: orders are planned before their runs begin. The coordinator prepares those that take no loaded
model, from the first run on; the team works out the others. What a dry run shows is what the runs then do, and the kept
plans are gone when a run is complete."""
import re
import sys

import h5py

from harness import Sweep, expect

sweep = Sweep(sys.argv[1], "order.planner: [random, kmeans], order.features: [embedding_mean, entity_mean, last_hidden], "
                           "edit.method: [lemoe, moe, ft_m]", steps=1)
status, text = sweep.run(2, "--dry-run")
expect(status == 0 and not sweep.out.exists(), f"the dry run ended with {status}, or wrote something", text)
lines = text.splitlines()
lines = lines[[line.startswith("orders ") for line in lines].index(True) + 1:]
shown = [re.split("  +", line)[-1] for line in lines if line.startswith(("random", "kmeans"))]
left = [line for line in shown if line == "worked out by the team of the run"]
expect(len(shown) == 6 and len(left) == 2, f"orders shown: {shown}", text)

status, text = sweep.run(2)
expect(status == 0, f"the sweep ended with {status}", text)
orders = set()
for run in sweep.ids():
    with h5py.File(sweep.out / "runs" / (run + ".h5")) as file:
        config = file.attrs["config_yaml"]
        edits = " ".join(map(str, file["edit/id"][:12]))
    log = (sweep.out / "runs" / run / "run.log").read_text()
    who = "worked out by the team" if "last_hidden" in config else "prepared beforehand"
    expect(who in log, f"{run}: not {who}", log)
    expect(not (sweep.out / "runs" / run / "plan").exists(), f"{run}: its plan is still there")
    if "last_hidden" not in config:
        orders.add(edits)
expect(orders == {line.removesuffix(" ...") for line in shown if line not in left}, f"shown {shown}, done {orders}", text)
sweep.remove()
print("18 runs in the orders that the dry run showed, 12 of them prepared by the coordinator")
