#!/usr/bin/python3
"""null_table.py FOLDER...: what the null route let through in finished runs, one row a run (docs/routing.md).

kept: share of paraphrases that go to the expert of their edit; wrong: to another one; the other columns: share of
locality prompts that go to any expert. Needs h5py and numpy.
"""
import glob
import re
import sys

import h5py
import numpy as np


def setting(file, key):
    found = re.search(rf"^\s*{key}:\s*(\S+)", file.attrs["config_yaml"], re.M)
    return found.group(1) if found else "-"


def row(file):
    routing = file["/routing"]
    trained = routing["train_expert"][:]
    paraphrase = routing["paraphrase_expert"][:]
    kinds = {"near": "locality_expert", "same": "locality_same_expert", "far": "locality_far_expert"}
    return {
        "edits": len(trained),
        "rule": setting(file, "null_rule"),
        "tau": routing["threshold"][-1],
        "kept": np.mean(paraphrase == trained),
        "wrong": np.mean((paraphrase != trained) & (paraphrase >= 0)),
        **{name: np.mean(routing[k][:] >= 0) if k in routing else np.nan for name, k in kinds.items()},
    }


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    print("| edits | rule | tau | kept | wrong | near | same | far |\n|---|---|---|---|---|---|---|---|")
    rows = []
    for path in sorted(p for folder in sys.argv[1:] for p in glob.glob(f"{folder}/runs/*.h5")):
        with h5py.File(path, "r") as file:
            if file.attrs["status"] == "complete":
                rows.append(row(file))
    for r in sorted(rows, key=lambda r: (r["edits"], r["rule"])):
        values = ["-" if np.isnan(r[c]) else f"{r[c]:.3f}" for c in ("tau", "kept", "wrong", "near", "same", "far")]
        print(f"| {r['edits']:,} | {r['rule']} | " + " | ".join(values) + " |")


if __name__ == "__main__":
    main()
