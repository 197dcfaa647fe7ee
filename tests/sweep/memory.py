#!/usr/bin/python3
"""memory.py PROGRAM: memory is planned before it is taken, and then taken exactly: /cost/predicted_bytes is what the
arenas held at most, to the byte, for every editor, routers that send rows anywhere, both kinds of experts, minibatches,
teams and orders. And a launch whose runs need more than the machine has is refused before anything is made."""
import pathlib
import re
import subprocess
import sys
import tempfile

import h5py

from harness import ROOT, Sweep, expect

SWEEPS = {  # axes, and what is overridden: three seeds of data would be three times the same
    "editors": ("edit.method: [lemoe, moe, ft_m, none], parallel.tensor: [1, 2]", ()),
    "routers": ("edit.method: [lemoe], lemoe.router: [literal, frozen_proj, per_expert_proj, centroid, fitted, nearest, "
                "oracle], lemoe.gate: [raw, renorm]", ()),
    "tokens": ("edit.method: [lemoe], lemoe.granularity: [entity, token], lemoe.expert.kind: [ffn, lora], "
               "order.planner: [random]", ("lemoe.expert.init=zero_down",)),
    "null": ("edit.method: [lemoe], lemoe.null: [cosine, key], lemoe.features: [embedding_mean, last_hidden], "
             "lemoe.minibatch: [0, 3]", ("lemoe.router=fitted", "lemoe.gate=renorm", "lemoe.null_rule=mid", "order.planner=kmeans")),
    "moe": ("edit.method: [moe], moe.router: [token, anchor], moe.top_k: [1, 2], moe.expert.kind: [ffn, lora], "
            "moe.minibatch: [0, 3]", ("parallel.micro_batch_tokens=64",)),
}
SKIPS = {"routers": "[" + ", ".join(f"{{lemoe.router: {r}, lemoe.gate: raw}}" for r in
                                    ("centroid", "fitted", "nearest", "oracle")) + "]"}
# prompts that are edited again, whose earlier features replay forgets: keys so wide that replay is what takes most
REPLAY = {
    "fitted": ("edit.method: [lemoe], lemoe.null: [none, key], lemoe.granularity: [instance, entity, token]",
               ("lemoe.router=fitted", "lemoe.gate=renorm", "lemoe.key_dim=6144", "lemoe.router_steps=2")),
    "forced": ("edit.method: [lemoe], lemoe.null: [none, key], lemoe.router: [forced, per_expert_proj]",
               ("lemoe.router_ce=1", "lemoe.replay=true", "lemoe.key_dim=6144")),
}
REPLAY_SKIPS = {"fitted": "[{lemoe.granularity: token, lemoe.null: key}]", "forced": "[{lemoe.router: per_expert_proj, lemoe.null: key}]"}


def check(name, sweep, *overrides):
    """Runs a sweep; how many runs took what was planned: all of them."""
    status, text = sweep.run(2, *overrides)
    expect(status == 0, f"{name}: the sweep ended with {status}", text)
    for run in sweep.ids():
        with h5py.File(sweep.out / "runs" / (run + ".h5")) as file:
            said, peak = file["cost/predicted_bytes"][:], file["cost/peak_bytes"][:]
            expect((said == said[0]).all() and peak.max() == said[0], f"{name}, {run}: planned {said}, took {peak}")
    n = len(sweep.ids())
    sweep.remove()
    return n


n = 0
for name, (axes, overrides) in SWEEPS.items():
    sweep = Sweep(sys.argv[1], axes, edits=20, batch_size=7, steps=2, skip=SKIPS.get(name, "[]"))
    n += check(name, sweep, *overrides)
with tempfile.TemporaryDirectory(prefix="lemoe-test-") as folder:
    conflicts = pathlib.Path(folder) / "conflicts.json"
    subprocess.run([sys.executable, ROOT / "configs/quickstart/make_conflicts.py", "8", conflicts], check=True)
    for name, (axes, overrides) in REPLAY.items():
        sweep = Sweep(sys.argv[1], axes, edits=32, batch_size=8, steps=2, skip=REPLAY_SKIPS[name])
        n += check(name, sweep, f"data.path={conflicts}", *overrides)

# what a dry run says of an order of many edits
sweep = Sweep(sys.argv[1], "edit.method: [ft_m], order.planner: [kmeans]", edits=1280, batch_size=160, steps=1)
quick = ("eval.immediate=false", "eval.milestones=0", "eval.scorers=[tok]")
status, text = sweep.run(1, "--dry-run", *quick)
said = re.search(r"^t-ft_m-.* kmeans seed 0 +1 +([0-9.]+) MB", text, re.M)
expect(status == 0 and said, f"the dry run ended with {status}, or says no memory of the run's own order", text)
status, text = sweep.run(1, *quick)
expect(status == 0, f"the sweep ended with {status}", text)
with h5py.File(sweep.out / "runs" / (sweep.ids()[0] + ".h5")) as file:
    peak = file["cost/peak_bytes"][:].max()
expect(f"{peak / 1e6:.1f}" == said[1], f"a dry run says {said[1]} MB, and {peak} bytes were taken")
sweep.remove()

sweep = Sweep(sys.argv[1], "edit.method: [lemoe]", edits=20, batch_size=7)
status, text = sweep.run(2, "lemoe.expert.width=10000000")  # weights, gradients and moments: over 100 GB
expect(status == 1 and re.search(r"needs \d+ MB on 1 rank of a node.* a node has \d+ MB", text), "not refused", text)
expect(not sweep.out.exists(), "a run without room left something behind")
sweep.remove()
print(f"{n} runs took what was planned, to the byte")
