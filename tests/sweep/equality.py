#!/usr/bin/python3
"""equality.py PROGRAM: a run of a sweep gives what the same run gives alone, whatever ran before it on those ranks and
however its neighbours are formed. A sweep of three methods at TP 1, 2 and 4 on 8 ranks; then each run by itself."""
import subprocess
import sys

import h5py

from harness import Sweep, compare_folders, expect

sweep = Sweep(sys.argv[1], "edit.method: [lemoe, moe, ft_m, none], parallel.tensor: [1, 2, 4]")
status, text = sweep.run(8)
expect(status == 0, f"the sweep ended with {status}", text)
ids = sweep.ids()
expect(len(ids) == 12, f"{len(ids)} runs of 12", text)
expect((sweep.out / "sweep.h5").exists(), "sweep.h5 is missing", text)

alone = sweep.write("alone")
for method in ("lemoe", "moe", "ft_m", "none"):
    for tensor in (1, 2, 4):
        sweep.file = alone
        status, text = sweep.run(tensor, f"edit.method={method}", f"parallel.tensor={tensor}")
        expect(status == 0, f"{method} on {tensor} ended with {status}", text)
sweep.out, together = sweep.folder / "alone", sweep.out
expect(sweep.ids() == ids, f"alone the runs are {sweep.ids()}, together {ids}")
compare_folders(together, sweep.out, ids)

# sweep.h5 comes from the journals: lost, it is made again
before = h5py.File(together / "sweep.h5")
rows = {row: (before["status"][i], before["final/reliability"][i], before["axis/parallel.tensor"][i])
        for i, row in enumerate(before["id"])}
before.close()
(together / "sweep.h5").unlink()
result = subprocess.run([sweep.program, "--republish", str(together)], capture_output=True, text=True)
expect(result.returncode == 0, "--republish", result.stdout + result.stderr)
after = h5py.File(together / "sweep.h5")
again = {row: (after["status"][i], after["final/reliability"][i], after["axis/parallel.tensor"][i])
         for i, row in enumerate(after["id"])}
expect(rows == again and set(after["runs"]) == set(ids), f"sweep.h5 was {rows}, made again {again}")

status, text = sweep.run(3)  # on too few ranks for TP 4: refused before anything starts
expect(status == 1 and "parallel.tensor" in text, f"3 ranks for TP 4: {status}", text)
sweep.remove()
print("12 runs at TP 1, 2 and 4 side by side equal the same runs alone")
