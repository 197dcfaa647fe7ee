#!/usr/bin/python3
"""check_contradictions.py RUN.h5 CONFLICTS.json: what a run makes of a stream by configs/quickstart/make_conflicts.py.

Whatever the method: an edit whose prompt got another target since has no final score, every other edit has one. Of
`lemoe` with a nearest-edit router also: the prompt goes to the expert of the latest edit, and it says that target.

Needs h5py.
"""
import json
import sys

import h5py
import numpy as np


def check_scores(file, part, n):
    """Half of the first batch is contradicted by the first half of the third."""
    contradicted = np.flatnonzero(part == "contradicting")
    want = np.full(len(part), -1)
    want[: len(contradicted)] = contradicted
    assert np.array_equal(file["/edit/superseded_by"][:], want)
    gone = want >= 0
    assert gone.sum() == n // 2
    prompts = file["/edit/prompt"][:]
    assert np.array_equal(prompts[gone], prompts[contradicted])
    for name in ("reliability", "generality", "reliability_all", "target_nll", "paraphrase_nll"):
        assert np.array_equal(np.isnan(file[f"/eval/final/{name}"][:]), gone), name
        assert not np.isnan(file[f"/eval/immediate/{name}"][:]).any(), name
    assert not np.isnan(file["/eval/final/locality"][:]).any()
    return gone, contradicted


def check_nearest(file, part, gone, contradicted, n):
    trained, final = file["/routing/train_expert"][:], file["/routing/final_expert"][:]
    assert np.array_equal(trained, np.arange(len(part)) // n)
    assert np.array_equal(final[gone], trained[contradicted]), "a contradicted prompt goes to the latest edit's expert"
    assert np.array_equal(final[~gone], trained[~gone]), "and every other to its own, two facts of one subject too"
    assert np.nanmean(file["/eval/final/reliability_all"][:][contradicted]) >= 0.9
    assert np.nanmean(file["/eval/final/reliability_all"][:][part == "other_fact"]) >= 0.9
    consistency = file["/routing/consistency"][:]
    assert np.allclose(np.diagonal(consistency), 1.0), consistency


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[2], encoding="utf-8") as f:
        part = np.array([record["part"] for record in json.load(f)])
    n = int((part == "first").sum())
    with h5py.File(sys.argv[1], "r") as file:
        gone, contradicted = check_scores(file, part, n)
        if "router: nearest" in file.attrs["config_yaml"]:
            check_nearest(file, part, gone, contradicted, n)
    return 0


if __name__ == "__main__":
    sys.exit(main())
