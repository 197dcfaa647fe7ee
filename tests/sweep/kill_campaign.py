#!/usr/bin/python3
"""kill_campaign.py PROGRAM [KILLS]: random ranks, or the whole launch, are killed at random moments of a 12-run sweep at
TP 1, 2 and 4, each time followed by the same command. At no moment is there an .h5 that plain h5py cannot open; in the
end every run equals that of an undisturbed sweep, and nothing is left behind."""
import glob
import os
import random
import shutil
import signal
import sys
import time

import h5py

from harness import (Sweep, compare_folders, expect, fail, finish, finish_killed, processes_with, ranks_of, shared_memory_of,
                     wait_until)

kills = int(sys.argv[2]) if len(sys.argv) > 2 else 8
seed = int(os.environ.get("LEMOE_SEED", "1"))
chance = random.Random(seed)
print(f"{kills} kills, LEMOE_SEED={seed}")
sweep = Sweep(sys.argv[1], "edit.method: [lemoe, moe, ft_m, none], parallel.tensor: [1, 2, 4]", name="calm")
status, text = sweep.run(4)
expect(status == 0, f"the undisturbed sweep ended with {status}", text)
calm, ids = sweep.out, sweep.ids()
sweep.file, sweep.out = sweep.write("killed"), sweep.folder / "killed"


def open_all():
    """Every published file opens, at this very moment."""
    for path in glob.glob(str(sweep.out / "**" / "*.h5"), recursive=True):
        if os.path.basename(path).startswith("."):
            continue
        try:
            with h5py.File(path) as file:
                file.attrs["schema_version"]
        except FileNotFoundError:
            continue
        except OSError as error:
            fail(f"{path} cannot be opened: {error}")


def kill_one(process):
    """A rank, or the launcher with all ranks; returns what was killed."""
    ranks = ranks_of(process)
    if ranks and chance.random() < 0.7:
        rank = chance.choice(sorted(ranks))
        os.kill(ranks[rank], signal.SIGKILL)
        return f"rank {rank}"
    for number in [process.pid, *ranks.values()]:
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return "the launch"


done = restarts = 0
shared = set()
while done < kills:
    process = sweep.start(4, "--quarantine", "off")
    until = time.monotonic() + chance.uniform(0.3, 6)
    while time.monotonic() < until and process.poll() is None:
        open_all()
        time.sleep(0.05)
    if process.poll() is not None:  # it was all done: from the beginning again
        status, text = finish(process, 1)
        expect(status == 0, f"an undisturbed end with status {status}, after {done} kills", text)
        compare_folders(calm, sweep.out, ids)
        shutil.rmtree(sweep.out)
        restarts += 1
        continue
    shared |= shared_memory_of(process)
    what = kill_one(process)
    status, text = finish_killed(process, 30)
    if status == 0:  # it had just ended by itself
        continue
    done += 1
    wait_until(lambda: not ranks_of(process), 10, f"the last rank to go after {what} was killed")
    open_all()

process = sweep.start(4, "--quarantine", "off")
text, _ = process.communicate(timeout=300)
expect(process.returncode == 0, f"the last launch ended with {process.returncode}", text)
expect(sweep.ids() == ids, "the runs are not the same", text)
compare_folders(calm, sweep.out, ids)
left = [path for path in sweep.out.rglob(".*") if path.name != ".sweep"]
expect(not left, f"left behind: {left}")
# of processes, shared memory and temporary folders: what the last launch had is gone by itself. What a killed mpirun
# leaves (its session folder, and a segment a rank) is Open MPI's, lies where the environment of that launch said, and went
# with that folder
left = [path for path in process.scratch.rglob("*")]
expect(not left, f"the last launch left in its temporary folder: {left}")
shutil.rmtree(process.scratch)
expect(not glob.glob(str(sweep.folder / "tmp*")), "a launch's own temporary folder is left")
wait_until(lambda: not processes_with(sweep.folder), 10, "the last process to go")
left = [path for path in shared if os.path.exists(path)]
expect(not left, f"left in shared memory: {left}")
sweep.remove()
print(f"{done} kills, {restarts} sweeps completed in between: every run as undisturbed, every file opened at every look")
