#!/usr/bin/python3
"""sharing.py PROGRAM: launches that share an output folder. Two of the same sweep at the same time do every run once
between them; four shards at the same time, and a single job, leave the same folder; a launcher that does not match the
MPI library is noticed."""
import os
import subprocess
import sys

import h5py

from harness import Sweep, compare_folders, expect, finish

AXES = "edit.method: [lemoe, moe, ft_m, none], seed: [0, 1]"
sweep = Sweep(sys.argv[1], AXES, name="two")

# the first copy waits for nobody: what one launch has begun, the other leaves or finds finished
launches = [sweep.start(2), sweep.start(2)]
results = [finish(process, 120) for process in launches]
for status, text in results:
    expect(status == 0, f"one of two launches ended with {status}", text)
texts = "".join(text for _, text in results)
ids = sweep.ids()
expect(len(ids) == 8, f"{len(ids)} runs of 8", texts)
for run in ids:
    n = texts.count(f"{run}: begins on")
    expect(n == 1, f"{run} was begun {n} times", texts)
with h5py.File(sweep.out / "sweep.h5") as file:
    expect(set(file["status"]) == {b"complete"}, f"sweep.h5 says {list(file['status'])}", texts)

# shards
together, sweep.file, sweep.out = sweep.out, sweep.write("shards"), sweep.folder / "shards"
launches = [sweep.start(1, "--shard", f"{i}/4") for i in (1, 2, 3, 4)]
results = [finish(process, 120) for process in launches]
for status, text in results:
    expect(status == 0 and text.count(": begins on") == 2, f"a shard ended with {status}", text)
expect(sweep.ids() == ids, f"the shards did {sweep.ids()}")
compare_folders(together, sweep.out, ids)
with h5py.File(sweep.out / "sweep.h5") as file:
    expect(set(file["status"]) == {b"complete"} and len(file["runs"]) == 8, f"sweep.h5 says {list(file['status'])}")

# every process believes to be rank 0
for number, expected in (("0", 1), ("1", 0)):
    environment = dict(os.environ, SLURM_STEP_ID="0", SLURM_STEP_NUM_TASKS="4", SLURM_PROCID=number)
    result = subprocess.run([sweep.program, str(sweep.file), "--dry-run"], env=environment, capture_output=True, text=True)
    expect(result.returncode == 1, f"a launch of singletons: {result.returncode}", result.stderr)
    expect(result.stderr.count("do not match") == expected, f"process {number} says", result.stderr)
sweep.remove()
print("two launches and four shards share a folder; mismatched launchers are refused")
