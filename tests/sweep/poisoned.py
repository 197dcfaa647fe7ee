#!/usr/bin/python3
"""poisoned.py PROGRAM: a run that kills its rank is set aside, and the rest completes. The program is linked with an
editor that does so (poisoned_editor.c); the same command, again and again, until it ends by itself. One that dies
already while its memory is planned costs no launch at all."""
import json
import subprocess
import sys

from harness import Sweep, expect, finish_killed

sweep = Sweep(sys.argv[1], "edit.method: [ft_m, poison, none], parallel.tensor: [1, 2]", edits=24, batch_size=8, steps=2)
deaths = 0
for launch in range(12):
    process = sweep.start(2)
    status, text = finish_killed(process, 120)
    if status in (0, 1, 2, 75):
        break
    deaths += 1
    print(f"launch {launch + 1} died, status {status}", flush=True)
result = subprocess.run([sweep.program, "--status", str(sweep.out), "--json"], capture_output=True, text=True)
words = {row["id"]: row["status"] for row in json.loads(result.stdout)}
poisoned = [run for run in words if "-poison-" in run]
expect(status == 2, f"the last launch ended with {status}", text)
expect(len(words) == 6 and len(poisoned) == 2, f"six runs, two poisoned: {words}", text)
for run, word in words.items():
    expect(word == ("quarantined" if run in poisoned else "complete"), f"{run} is {word}", text)
# the first death comes behind what was committed until then, the others behind the same: three without progress each
for run in poisoned:
    evidence = (sweep.out / "runs" / run / "deaths").read_text()
    expect(evidence.count("found dead") == 3, f"{run}: the evidence", evidence)
expect("quarantined" in text.split("not complete", 1)[1], "the closing table does not name them", text)
sweep.remove()

# while memory is planned: seen and said by the dry run, and the first launch completes the rest
sweep = Sweep(sys.argv[1], "edit.method: [ft_m, poison_plan, none], parallel.tensor: [1, 2]", edits=24, batch_size=8, steps=2)
status, text = sweep.run(2, "--dry-run")
expect(status == 0 and "4 to do, 2 not to be begun: it dies while its memory is planned" in text and
       not sweep.out.exists(), f"the dry run ended with {status}, does not say it, or wrote something", text)
said = "the process that planned its memory was killed by signal 11 (Segmentation fault), twice"
for launch in range(1, 5):
    status, text = sweep.run(2)
    ending = text.split("not complete", 1)[1]
    expect(status == 2, f"launch {launch} ended with {status}", text)
    expect(ending.count(said) == (2 if launch < 4 else 0), f"launch {launch}: the closing table", text)
    expect(ending.count("quarantined") == (0 if launch < 4 else 2), f"launch {launch}: quarantined", text)
    result = subprocess.run([sweep.program, "--status", str(sweep.out), "--json"], capture_output=True, text=True)
    rows = json.loads(result.stdout)
    early = [row for row in rows if "-poison_plan-" in row["id"]]
    expect(len(rows) == 6 and len(early) == 2, f"launch {launch}: six runs", result.stdout)
    for row in rows:
        word = ("lost" if launch < 4 else "quarantined") if row in early else "complete"
        deaths_of = min(launch, 3) if row in early else 0
        expect(row["status"] == word and row["deaths"] == deaths_of, f"launch {launch}: {row}", text)
status, text = sweep.run(2, "--retry-failed")
expect(status == 2 and text.split("not complete", 1)[1].count(said) == 2, "--retry-failed does not try again", text)
sweep.remove()
print(f"{deaths} launches died; two poisoned runs were set aside after three deaths each, four others completed; two that "
      "die while they are planned cost nothing")
