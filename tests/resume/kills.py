#!/usr/bin/python3
"""kills.py PROGRAM TP N: one run is killed with SIGKILL, all its ranks or one of them, at N random moments, and started
again each time; in the end it equals the undisturbed run. While it goes on, every published file opens whenever it is
looked at. LEMOE_LONG=1: 50 kills."""
import os
import random
import shutil
import signal
import sys
import time

import resume  # noqa: F401  (finds harness)
from harness import finish, ranks_of
from resume import LONG, SEED, Run, expect, poller

program, tp, kills = sys.argv[1], int(sys.argv[2]), 50 if LONG else int(sys.argv[3])
chance = random.Random(f"{SEED} {tp}")
run = Run(program, "stable", tp, edits=60, steps=40)
run.run_calm()
began = time.monotonic()
run.go(run.folder / "timed", "checkpoint.every_seconds=0.05")
whole = time.monotonic() - began


def kill(process):
    """A rank, or everybody: launcher and ranks are processes of this test's own launch."""
    ranks = ranks_of(process)
    one = [ranks[chance.choice(sorted(ranks))]] if ranks and chance.random() < 0.5 else []
    for number in one or [process.pid, *ranks.values()]:
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            pass


done = completed = 0
out = run.folder / "killed"
with poller(run.folder) as looks:
    while done < kills:
        process = run.begin(out, "checkpoint.every_seconds=0.05")
        time.sleep(chance.uniform(0, 0.6 * whole))
        if process.poll() is None:
            kill(process)
            done += 1
        status, text = finish(process, 60)
        if status == 0 and done < kills:  # from the beginning again
            run.expect_same(out, "complete after kills")
            shutil.rmtree(out)
            completed += 1
    run.finish_and_compare(out, f"after {done} kills ({completed} ends in between)", "checkpoint.every_seconds=0.05")
expect(len(looks) > 0, "nobody looked")
print(f"{done} kills at TP {tp}, {len(looks)} looks at every published file")
run.remove()
