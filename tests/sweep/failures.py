#!/usr/bin/python3
"""failures.py PROGRAM: one failure stays one failure. A run that fails, is retried, is followed by nothing
(--fail-fast); a rank that is killed; a run during which launches die until it is set aside; exit statuses."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import harness
from harness import Sweep, expect, finish, ranks_of, wait_until

AXES = "edit.method: [lemoe, moe, ft_m, none]"
sweep = Sweep(sys.argv[1], AXES, steps=20, edits=40)


def status_of():
    text = subprocess.run([sweep.program, "--status", str(sweep.out), "--json"], capture_output=True, text=True)
    expect(text.returncode == 0, "--status failed", text.stdout + text.stderr)
    return {row["id"]: row["status"] for row in json.loads(text.stdout)}


def plan():
    """A dry run says what it would do and writes nothing. Ids of all runs, and that of moe."""
    status, text = sweep.run(2, "--dry-run")
    expect(status == 0 and not sweep.out.exists(), "the dry run wrote something", text)
    runs = [line.split()[0] for line in text.splitlines() if line.startswith("t-")]
    expect(len(runs) == 4, f"4 runs in the plan, not {len(runs)}", text)
    return runs, next(run for run in runs if "-moe-" in run)


ids, moe = plan()

# a run that cannot write its results fails; the others do not notice
(sweep.out / "runs" / (moe + ".journal")).mkdir(parents=True)
status, text = sweep.run(2)
expect(status == 2, f"one failed run of four: status {status}", text)
expect("not complete" in text and moe in text.split("not complete", 1)[1], "the closing table does not name it", text)
expect(sum(word == "complete" for word in
           (line.split()[2] for line in text.splitlines() if " complete after " in line)) == 3, "three complete", text)
(sweep.out / "runs" / (moe + ".journal")).rmdir()
status, text = sweep.run(2)
expect(status == 0, f"again without the obstacle: status {status}", text)
expect(set(status_of().values()) == {"complete"}, f"--status: {status_of()}")

# --fail-fast: nothing more is begun (if none of the runs could begin, the launch would be refused instead)
sweep.out, before = sweep.folder / "fast", sweep.out
sweep.file = sweep.write("fast")
(sweep.out / "runs").mkdir(parents=True)
obstacles = [sweep.out / "runs" / (run + ".journal") for run in ids if "-none-" not in run]
for path in obstacles:
    path.mkdir()
status, text = sweep.run(1, "--fail-fast")
expect(status == 2 and text.count(": FAILED after") == 1, f"--fail-fast: status {status}", text)
expect("3 runs not begun" in text, "--fail-fast does not say what is left", text)
for path in obstacles:
    path.rmdir()


def kill_during(run, arguments=()):
    """A rank dies while that run is under way; the whole job has to end within 30 s. It dies in the second or more that
    the run needs before it can commit anything: without cached prefixes."""
    shutil.rmtree(sweep.out / "cache", ignore_errors=True)
    launched = time.time()
    process = sweep.start(2, "--only", run, *arguments)
    lease = sweep.out / "runs" / run / "claim.lease"

    def has_begun():
        ranks = ranks_of(process)
        is_claimed = 0 in ranks and lease.exists() and f"pid {ranks[0]}\n" in lease.read_text()
        claim = lease.with_suffix("")
        return is_claimed and claim.stat().st_size > 0 and claim.stat().st_mtime > launched  # it says "begun", anew

    wait_until(has_begun, 60, "the run to begin")
    os.kill(ranks_of(process)[0], signal.SIGKILL)  # the rank that works on it
    began = time.monotonic()
    result = finish(process, 30)
    print(f"a killed rank ended the job within {time.monotonic() - began:.1f} s, status {result[0]}")
    wait_until(lambda: not ranks_of(process), 10, "the last rank to go")
    expect(status_of()[run] == "lost", f"--status after a death: {status_of()}")
    return result


# three deaths without progress: set aside, with the evidence; two do not suffice, and `off` never does
short = sweep.edits, sweep.batch_size, sweep.steps
sweep.edits, sweep.batch_size, sweep.steps = 1280, 640, 2
sweep.file, sweep.out = sweep.write("slow"), sweep.folder / "slow"
_, moe = plan()


def three_deaths():
    """False when a kill came so late that the run had committed something, which is progress: no evidence then. A journal
    that only says whose it is has less than 4 KB."""
    journal = sweep.out / "runs" / (moe + ".journal")
    for death in range(3):
        status, text = kill_during(moe, ("--quarantine", "off"))
        if journal.exists() and journal.stat().st_size > 4096:
            return False
        expect(status not in (0, 1, 2, 75), f"death {death}: status {status}", text)
    return True


for attempt in range(10):
    shutil.rmtree(sweep.out, ignore_errors=True)
    if three_deaths():
        break
else:
    harness.fail("every kill came too late")
status, text = sweep.run(2)
evidence = sweep.out / "runs" / moe / "deaths"
expect(status == 2 and "quarantined" in text, f"after three deaths: status {status}, evidence: "
       f"{evidence.read_text() if evidence.exists() else None}", text)
expect(evidence.read_text().count("found dead") == 3, "the evidence", evidence.read_text())
expect(status_of()[moe] == "quarantined", f"--status: {status_of()}")
expect(list(status_of().values()).count("complete") == 3, f"the rest completes: {status_of()}", text)
status, text = sweep.run(2, "--quarantine", "off")
expect(status == 0, f"--quarantine off: status {status}", text)
expect(not evidence.exists(), "a complete run has no evidence left")

# a signal with time: 75, and the same command goes on
sweep.edits, sweep.batch_size, sweep.steps = short
sweep.file, sweep.out = sweep.write("signal"), sweep.folder / "signal"
process = sweep.start(2)
wait_until(lambda: len(list((sweep.out / "runs").glob("*/claim.lease"))) > 0, 60, "the sweep to begin")
time.sleep(0.5)
process.send_signal(signal.SIGUSR1)
status, text = finish(process, 60)
expect(status == 75, f"SIGUSR1: status {status}", text)
status, text = sweep.run(2)
expect(status == 0, f"the same command again: status {status}", text)
harness.compare_folders(before, sweep.out, ids)

sweep.remove()
print("failed, retried, fail-fast, killed, quarantined, signalled: as promised")
