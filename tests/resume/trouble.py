#!/usr/bin/python3
"""trouble.py PROGRAM CUT_OFF: full disks, damaged or missing checkpoints, damaged journals and journals of a newer
version, owners alive and dead. Refused where it has to be, and never a wrong result."""
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import h5py
import numpy as np

import resume  # noqa: F401  (finds harness)
from harness import finish, wait_until
from resume import LONG, Run, expect, open_all

program, cut_off = sys.argv[1:3]
run = Run(program, "stable", 1, cut_off)
run.run_calm()
EVERY = "checkpoint.every_seconds=0"


def started(name, at=150):
    """A run that was ended somewhere in its second batch; its folder."""
    out = run.folder / name
    with run.cut(at=at, how="before"):
        status, text = run.go(out, EVERY)
    expect(status == 137, f"status {status} of a run that was ended", text)
    expect(len(run.checkpoints(out)) >= 2, "fewer than two checkpoints", text)
    return out


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def republish(out, *more):
    result = subprocess.run([run.program, "--republish", str(out), *more], capture_output=True, text=True)
    return result.returncode, result.stdout + result.stderr


def full_disk():
    """From the k-th moment on the disk is full: the run fails, the journal stays whole, and asked for again it goes on."""
    for k in range(8, 200, 8 if LONG else 48):
        out = run.folder / f"full{k}"
        with run.cut(at=k, how="full"):
            status, text = run.go(out, EVERY)
        expect(status == 2, f"status {status} with a full disk", text)
        expect("space" in text, "the message does not say why", text)
        open_all(out)
        status, text = republish(out)
        expect(status == 0 or "nothing was committed" in text, "the journal of a full disk is not whole", text)
        run.finish_and_compare(out, f"disk full from moment {k}, then --retry-failed", "--retry-failed", EVERY)


def damaged_checkpoints():
    for name, harm, warnings in (
            ("newest", lambda files: flip(files[-1], files[-1].stat().st_size // 2), 1),
            ("newest, cut short", lambda files: files[-1].write_bytes(files[-1].read_bytes()[:100]), 1),
            ("newest is gone", lambda files: files[-1].unlink(), 1),
            ("all are gone", lambda files: [file.unlink() for file in files], 2),
            ("all are empty", lambda files: [file.write_bytes(b"") for file in files], 2)):
        out = started("damaged")
        harm(run.checkpoints(out))
        text = run.finish_and_compare(out, f"checkpoints damaged: {name}", EVERY)
        expect(text.count("cannot be used") >= warnings, "no warning", text)
    out = started("part")
    (part,) = (out / "runs" / run.id(out)).glob("checkpoint-expert.0-0")
    flip(part, 5000)
    run.finish_and_compare(out, "a frozen expert is damaged", EVERY)


def another_team():
    """Copied from a run at TP 2: the name of the run differs, and so does what is in the files."""
    out, pair = started("one"), Run(program, "stable", 2, cut_off)
    with pair.cut(at=150, how="before", rank=0):
        status, text = pair.go(pair.folder / "two", EVERY)
    expect(len(pair.checkpoints(pair.folder / "two")) >= 2, f"no checkpoints at TP 2, status {status}", text)
    for own, other in zip(run.checkpoints(out), pair.checkpoints(pair.folder / "two")):
        shutil.copy(other, own)
    text = run.finish_and_compare(out, "checkpoints of another run", EVERY)
    expect("its identity is" in text, "not told apart by identity", text)
    pair.remove()


def damaged_journal():
    out = started("journal")
    journal = run.journal(out)
    flip(journal, journal.stat().st_size // 2)
    before = journal.read_bytes()
    status, text = run.go(out)
    expect(status in (1, 2) and "damaged at byte" in text and "--salvage" in text, f"not refused: {status}", text)
    expect(journal.read_bytes() == before, "a damaged journal was changed")
    status, text = republish(out)
    expect(status != 0 and "damaged at byte" in text, "republished without a word", text)
    status, text = republish(out, "--salvage")
    expect(status == 0, "not salvaged", text)
    open_all(out)
    n_same, n_steps = rows_as_calm(out)
    expect(n_same > 5 and n_steps > 0, f"{n_same} datasets and {n_steps} updates recovered", text)
    print(f"  a damaged journal: refused with its offset, salvaged: {n_same} datasets as they were, {n_steps} updates")
    shutil.rmtree(out)


def rows_as_calm(out):
    """What was salvaged is right where it is there: datasets equal to the undisturbed run's, and updates among these."""
    n_same = 0
    with h5py.File(out / "runs" / (run.id(out) + ".h5")) as found, \
            h5py.File(run.calm / "runs" / (run.id(out) + ".h5")) as calm:
        for path in ("/edit/record", "/edit/prompt", "/edit/target", "/edit/prompt_tokens", "/edit/target_tokens",
                     "/plan/batch", "/eval/base/reliability", "/eval/base/generality"):
            n_same += path in found and np.array_equal(found[path][:], calm[path][:])
        steps, losses = calm["/train/loss"][:], found["/train/loss"][:]
        lost = ~np.isfinite(losses)  # rows of a damaged frame are fill
        expect(np.array_equal(losses[~lost], steps[:len(losses)][~lost]), "a salvaged loss is another")
        return n_same, int((~lost).sum())


def newer_journal():
    out = started("newer")
    journal = run.journal(out)
    data = bytearray(journal.read_bytes())
    data[4] = 9
    journal.write_bytes(data)
    status, text = run.go(out)
    expect(status in (1, 2) and "journal format 9." in text, f"not refused: {status}", text)
    expect(journal.read_bytes() == bytes(data), "a newer journal was changed")
    print("  a journal of a newer version: refused")
    shutil.rmtree(out)


def second_launch():
    slow, never = Run(program, "stable", 1, cut_off, edits=24, steps=5000), "lemoe.stop_loss=0"
    out = slow.folder / "owned"
    first = slow.begin(out, never)
    wait_until(lambda: list((out / "runs").glob("*.journal")), 30, "the journal")
    time.sleep(0.5)
    second = slow.begin(out, never)
    time.sleep(1.5)
    if second.poll() is None:  # it may wait for what others hold
        os.kill(second.pid, signal.SIGUSR1)
    status, text = finish(second, 60)
    print(f"  a second launch ends with {status}:", *[line for line in text.splitlines() if str(first.pid) in line][:1])
    expect(str(first.pid) in text and socket.gethostname()[:60] in text, "the owner is not named", text)
    expect(first.poll() is None, "the first launch did not survive the second")
    os.kill(first.pid, signal.SIGUSR1)
    status, text = finish(first, 60)
    expect(status == 75, f"the first launch ended with {status}", text)
    slow.remove()


def lease_text(host, boot, renewed):
    return (f"lemoe-lease 1\nhost {host}\npid 4\nnamespace 1\nboot {boot}\njob 77\nstart 2020-01-01T00:00:00Z\n"
            f"renewed {renewed:020d}\n")


def leases():
    out = started("stale")
    lease = run.journal(out).with_name(run.journal(out).name + ".lease")
    lease.write_text(lease_text("elsewhere", "other-boot", int(time.time()) - 3600))
    run.finish_and_compare(out, "a stale lease of another machine is taken over", EVERY)
    out = started("fresh")
    lease = run.journal(out).with_name(run.journal(out).name + ".lease")
    lease.write_text(lease_text("elsewhere", "other-boot", int(time.time())))
    before = run.journal(out).read_bytes()
    process = run.begin(out)
    time.sleep(2)
    if process.poll() is None:
        os.kill(process.pid, signal.SIGUSR1)
    status, text = finish(process, 60)
    expect("elsewhere" in text and "77" in text, f"the owner is not named (status {status})", text)
    expect(run.journal(out).read_bytes() == before, "a journal with a living owner was changed")
    print(f"  a fresh lease of another machine: left alone, status {status}")


def read_only():
    """Permissions do not hold root back, so it becomes somebody else for the launch."""
    out = run.folder / "read_only"
    out.mkdir()
    out.chmod(0o555)
    run.folder.chmod(0o755)
    command = [run.program, str(run.file), *run.keys(out)]
    if os.getuid() == 0:
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
    values, scratch = run.environment()
    scratch.chmod(0o777)
    result = subprocess.run(command, env=dict(values, HOME=str(scratch)), cwd="/", capture_output=True, text=True)
    text = result.stdout + result.stderr
    if "setpriv" in text or "Permission denied" in text and str(run.program) in text:
        print("  a read-only output folder: not looked at, nobody else may start the program here")
        return
    expect(result.returncode == 1 and "writ" in text, f"status {result.returncode} with a read-only output", text)
    expect(not list(out.iterdir()), "something was written")
    print("  a read-only output folder: exit status 1, nothing written")


full_disk()
damaged_checkpoints()
another_team()
damaged_journal()
newer_journal()
second_launch()
leases()
read_only()
run.remove()
