#!/usr/bin/python3
"""cuts.py PROGRAM CUT_OFF TP CASE...: a run with a checkpoint after every update is ended at the k-th write of its
journal, fsync or rename - before it, in the middle, after it - and started again. Every time what comes out equals the
undisturbed run. A few k by default, and the last ones of the first case; with LEMOE_LONG=1 every k of the first case in
the rank that writes journal and results, and many of the other ranks and cases."""
import random
import shutil
import sys

from resume import LONG, SEED, Run, expect, open_all, poller

program, cut_off, tp, cases = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]
HOWS = ["before", "torn", "after"]
FEW, MANY = 2, 24
LAST = 12  # behind the end of the run: its last publishing, and the table of runs


def count(run):
    """How often a file is made durable or visible in an undisturbed run, by the first rank."""
    file = run.folder / "count"
    with run.cut(count=file, rank=0):
        status, text = run.go(run.folder / "counted", "checkpoint.every_seconds=0")
    expect(status == 0, "the counted run failed", text)
    run.expect_same(run.folder / "counted", "checkpoints alone change nothing")
    return int(file.read_text())


def cut_and_go_on(run, k, rank, how):
    out = run.folder / f"cut{k}"
    with run.cut(at=k, how=how, rank=rank), poller(out):
        status, text = run.go(out, "checkpoint.every_seconds=0")
    if status == 0:  # other ranks write less than the first, and clocks decide on some commits of that
        run.expect_same(out, f"rank {rank} never came to moment {k}")
        shutil.rmtree(out)
        return
    open_all(out)
    run.finish_and_compare(out, f"ended {how} moment {k} in rank {rank}", "checkpoint.every_seconds=0")


for case in cases:
    chance = random.Random(f"{SEED} {case} {tp}")
    run = Run(program, case, tp, cut_off)
    run.run_calm()
    n = count(run)
    some = sorted(chance.sample(range(1, n + 1), min(MANY if LONG else FEW, n)))
    moments = [(k, chance.randrange(tp), chance.choice(HOWS)) for k in some]
    if case == cases[0] and LONG:
        moments += [(k, 0, chance.choice(HOWS)) for k in range(1, n + 1)]
    elif case == cases[0]:
        moments += [(k, 0, "before") for k in range(n - LAST, n + 1)]
    print(f"{case} at TP {tp}: {n} moments in rank 0, {len(moments)} ends", flush=True)
    for k, rank, how in moments:
        cut_and_go_on(run, k, rank, how)
    run.remove()
