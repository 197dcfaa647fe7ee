#!/usr/bin/python3
"""routing_table.py FOLDER...: what routers kept, one row a configuration, over its seeds (docs/routing.md).

Whole answers; C: mean diagonal of the routing consistency matrix; C par: share of paraphrases that go to the expert of
their edit. Mean over the seeds, smallest and largest in brackets where they differ by more than 0.02. Rows in the order
of the sweep. Needs h5py and numpy.
"""
import sys

import h5py
import numpy as np

SCORES = {
    "immediate rel": "immediate/reliability_all",
    "final rel": "final/reliability_all",
    "final gen": "final/generality_all",
    "near": "final/locality_all",
    "same": "final/locality_same_all",
    "far": "final/locality_far_all",
}


def measures(path):
    with h5py.File(path, "r") as file:
        row = {name: np.nanmean(file[f"eval/{key}"]) if f"eval/{key}" in file else np.nan for name, key in SCORES.items()}
        row["C"] = row["C par"] = np.nan
        if "routing/consistency" in file:
            row["C"] = np.nanmean(np.diagonal(file["routing/consistency"][:, :-1]))
            row["C par"] = np.mean(file["routing/paraphrase_expert"][:] == file["routing/train_expert"][:])
        return row


def cell(values):
    low, high = np.min(values), np.max(values)
    if np.isnan(low):
        return "-"
    return f"{np.mean(values):.2f}" + (f" ({low:.2f}-{high:.2f})" if high - low > 0.02 else "")


def print_table(folder):
    groups = {}
    with h5py.File(f"{folder}/sweep.h5", "r") as sweep:
        axes = [axis for axis in sorted(sweep["axis"]) if axis != "seed"]
        columns = [sweep[f"axis/{axis}"].asstr()[:] for axis in axes]
        for i, run in enumerate(sweep["id"].asstr()[:]):
            if sweep["status"].asstr()[i] != "complete":
                sys.exit(f"{folder}: run {run} is not complete")
            groups.setdefault(tuple(c[i] for c in columns), []).append(measures(f"{folder}/runs/{run}.h5"))
    names = [*SCORES, "C", "C par"]
    print("| " + " | ".join([*(axis.split(".", 1)[-1] for axis in axes), "seeds", *names]) + " |")
    print("|---" * (len(axes) + 1 + len(names)) + "|")
    for key, rows in groups.items():
        cells = [cell(np.array([row[name] for row in rows])) for name in names]
        print("| " + " | ".join([*(k or "-" for k in key), str(len(rows)), *cells]) + " |")


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for folder in sys.argv[1:]:
        print_table(folder)
        print()


if __name__ == "__main__":
    main()
