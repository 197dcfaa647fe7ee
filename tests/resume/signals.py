#!/usr/bin/python3
"""signals.py PROGRAM: SIGUSR1 stops a run at its next update with exit status 75, alone and as a team of two; SIGINT and
SIGTERM do without a launcher. The same command goes on from there, and the end equals the undisturbed run."""
import os
import signal
import sys
import time

import h5py

import resume  # noqa: F401  (finds harness)
from harness import finish, wait_until
from resume import Run, expect

program = sys.argv[1]
INTERRUPTED = 75


def steps_in(path):
    """Updates published so far; 0 without a file."""
    if not path.exists():
        return 0
    with h5py.File(path) as file:
        return len(file["/train/loss"]) if "/train/loss" in file else 0


def stop_and_go_on(case, tp, number):
    run = Run(program, case, tp, edits=24, steps=600)  # some seconds, however fast the machine
    run.run_calm()
    out = run.folder / "stopped"
    published = out / "runs" / (run.id(run.calm) + ".h5")
    process = run.begin(out)
    log = out / "runs" / run.id(run.calm) / "run.log"
    wait_until(lambda: log.exists() and "unedited" in log.read_text(), 60, "the base scores")
    time.sleep(0.3)
    os.kill(process.pid, number)
    asked = time.monotonic()
    status, text = finish(process, 60)
    took = time.monotonic() - asked
    name = signal.Signals(number).name
    expect(status == INTERRUPTED, f"{case} at TP {tp}: {name} gave exit status {status}", text)
    with h5py.File(published) as file:
        expect(file.attrs["status"] == "interrupted", f"status is {file.attrs['status']}", text)
    done, whole = steps_in(published), steps_in(run.calm / "runs" / published.name)
    expect(0 < done < whole, f"{name}: stopped with {done} of {whole} updates done", text)
    expect(len(run.checkpoints(out)) > 0, "no checkpoint")
    print(f"{case} at TP {tp}: {name} after {done} of {whole} updates, {took:.2f} s to the end of the process", flush=True)
    run.finish_and_compare(out, "goes on")
    run.remove()


stop_and_go_on("stable", 1, signal.SIGUSR1)
stop_and_go_on("stable", 2, signal.SIGUSR1)
stop_and_go_on("moe", 1, signal.SIGUSR1)
stop_and_go_on("ft_m", 1, signal.SIGTERM)
stop_and_go_on("forced", 1, signal.SIGINT)
