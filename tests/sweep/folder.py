#!/usr/bin/python3
"""folder.py PROGRAM: what one output folder holds, however many launches have worked in it. sweep.h5 has every run, and
--republish makes it again; damage is said wherever it is come upon and stays one run's; what is refused has written
nothing; what killed launches had begun to write is swept; hostile names stay text."""
import json
import os
import re
import shutil
import subprocess
import sys
import time

import h5py

from harness import Sweep, expect

sweep = Sweep(sys.argv[1], "edit.method: [none, ft_m], order.planner: [random, file]", edits=8, batch_size=4, steps=1)
table = sweep.out / "sweep.h5"
runs = sweep.out / "runs"


def command(*arguments):
    result = subprocess.run([sweep.program, *arguments], capture_output=True, text=True)
    return result.returncode, result.stdout + result.stderr


def status_rows():
    status, text = command("--status", str(sweep.out), "--json")
    expect(status == 0, f"--status: {status}", text)
    return {row["id"]: row for row in json.loads(text)}


def read(path):
    """{column: values}, and the names of the links."""
    with h5py.File(path) as file:
        columns = {"links": list(file["runs"])}
        file.visititems(lambda name, item: columns.update({name: item[:].tolist()} if isinstance(item, h5py.Dataset) else {}))
        return columns


def same(found, wanted, what, without=()):
    for name in sorted(set(found) | set(wanted)):
        if name not in without:
            expect(str(found.get(name)) == str(wanted.get(name)), f"{what}: {name} is {found.get(name)}, not {wanted.get(name)}")


def texts(columns, name):
    return [value.decode() for value in columns[name]]


# every run of the folder, whoever ran it; again from the journals alone
status, text = sweep.run(1)
expect(status == 0, f"the sweep ended with {status}", text)
first = read(table)
expect(set(name for name in first if name.startswith("axis/")) == {"axis/edit.method", "axis/order.planner"}, f"axes: {set(first)}")
expect(texts(first, "axis/order.planner") == ["random", "file"] * 2, "the sweep's own order")
status, text = command("--republish", str(sweep.out))
expect(status == 0, f"--republish: {status}", text)
same(read(table), first, "--republish")

status, text = sweep.run(1, "edit.method=moe", "moe.layer=5", "moe.max_steps=1", "order.planner=file", "seed=3")
expect(status == 0, f"a second launch ended with {status}", text)
both = read(table)
expect(len(both["id"]) == 5 and len(both["links"]) == 5, f"{len(both['id'])} rows, {both['links']}")
expect(texts(both, "id")[1:] == texts(first, "id") and "-moe-" in texts(both, "id")[0], "its own run, then the others")
expect(texts(both, "axis/edit.method") == ["moe", "none", "none", "ft_m", "ft_m"], f"{both['axis/edit.method']}")
expect(texts(both, "axis/order.planner") == ["file"] + ["random", "file"] * 2, f"{both['axis/order.planner']}")
expect(set(texts(both, "device")) == {"cpu"} and set(texts(both, "status")) == {"complete"}, "device and status")
status, text = sweep.run(1)
expect(status == 0, f"the first sweep again: {status}", text)
again = read(table)
expect(texts(again, "id") == texts(first, "id") + texts(both, "id")[:1], f"the first, then the other: {again['id']}")
status, text = command("--republish", str(sweep.out))
expect(status == 0 and sorted(texts(read(table), "id")) == sorted(texts(again, "id")), "--republish of both", text)

with h5py.File(runs / (texts(first, "id")[0] + ".h5")) as file:
    expect(file.attrs["swept_keys"] == "edit.method,order.planner" and file.attrs["sweep_place"] == 0, "the run's sweep")

# damage of a run that has ended: said, and only its own
ids = texts(again, "id")
bad, h5 = runs / (ids[0] + ".journal"), runs / (ids[0] + ".h5")
whole = bad.read_bytes()
data = bytearray(whole)
data[len(data) // 2] ^= 1
bad.write_bytes(data)
for run in ids:
    (runs / (run + ".h5")).unlink()
table.unlink()
row = status_rows()[ids[0]]
expect(row["status"] == "unreadable" and "damaged at byte" in row["error"], f"--status: {row}")
status, text = command("--republish", str(sweep.out))
expect(status == 1 and text.count("damaged at byte") == 1 and "1 of 5" in text, f"--republish of a damaged one: {status}", text)
expect(all((runs / (run + ".h5")).exists() == (run != ids[0]) for run in ids), "the others are published", text)
columns = read(table)
expect(texts(columns, "status").count("unreadable") == 1 and texts(columns, "status").count("complete") == 4, f"{columns['status']}")
expect(len(columns["links"]) == 4, f"{columns['links']}")
status, text = sweep.run(1)
expect(status == 1 and "damaged at byte" in text and "--salvage" in text, f"only the damaged one left: {status}", text)
(runs / (ids[1] + ".journal")).unlink()
status, text = sweep.run(1)
expect(status == 2 and "damaged at byte" in text.split("not complete", 1)[1], f"a damaged one and one to do: {status}", text)
expect(not h5.exists() and bad.read_bytes() == data, "a damaged journal was touched")
status, text = command("--republish", str(sweep.out), "--salvage")
expect(status == 0 and h5.exists(), f"--salvage: {status}", text)
status, text = sweep.run(1)
expect(status == 0, f"after --salvage: {status}", text)
bad.write_bytes(whole)
h5.unlink()

# names that mean something in JSON or HDF5
for name in ('a"b', "c\\d\n", "e\u00fc"):
    shutil.copy(bad, runs / (name + ".journal"))
expect(set(status_rows()) == set(ids) | {'a"b', "c\\d\n", "e\u00fc"}, f"{set(status_rows())}")
for name in ('a"b', "c\\d\n", "e\u00fc"):
    (runs / (name + ".journal")).unlink()

# what killed launches had begun to write
begun = [sweep.out / name for name in (".sweep.h5.99999", "cache/.prefix-0123.bin.99999", "cache/.measured.txt.99999",
                                       f"runs/.{ids[0]}.h5.99999")]
young = sweep.out / "cache/.prefix-4567.bin.99999"
notes = sweep.out / ".notes.1"
for path in begun + [young, notes]:
    path.write_text("")
for path in begun + [notes]:
    os.utime(path, (time.time() - 3600,) * 2)
status, text = sweep.run(1)
expect(status == 0 and h5.exists(), f"with leftovers: {status}", text)
expect(not [path for path in begun if path.exists()], f"left: {[path for path in begun if path.exists()]}")
expect(young.exists() and notes.exists(), "what may be under way, or is not ours, is left alone")

# a launch that is refused has counted no death, and a dry run neither
sweep.out, sweep.file = sweep.folder / "refused", sweep.write("refused")
wide = ("edit.method=lemoe", "lemoe.layer=5", "order.planner=file", "lemoe.expert.width=10000000")
status, text = sweep.run(1, *wide)
found = re.search(r"(t-lemoe-\S+?):? needs \d+ MB", text)
expect(status == 1 and found, f"not refused: {status}", text)
claim = sweep.out / "runs" / found[1] / "claim"
claim.parent.mkdir(parents=True)
claim.write_text("begun\n")
lease = claim.with_name("claim.lease")
lease.write_text("lemoe-lease 1\nhost elsewhere\npid 4\nnamespace 1\nboot other\njob 77\nstart 2020-01-01T00:00:00Z\n"
                 f"renewed {int(time.time()) - 3600:020d}\n")
before = {path: path.read_text() for path in claim.parent.iterdir()}
for more in ((), ("--retry-failed",), ("--quarantine", "1", "--dry-run")):
    status, text = sweep.run(1, *wide, *more)
    expect({path: path.read_text() for path in claim.parent.iterdir()} == before, f"{more}: status {status}, written", text)
row = status_rows()[found[1]]
expect(row["status"] == "lost" and row["deaths"] == 1, f"--status: {row}")
status, text = sweep.run(1, *wide, "--quarantine", "1")
expect(status == 2 and "quarantined" in text, f"one death is enough: {status}", text)
expect((claim.parent / "deaths").read_text().count("found dead") == 1 and not lease.exists(), "the evidence")
sweep.remove()
print("every run in the table, damage said, nothing left or written that should not be")
