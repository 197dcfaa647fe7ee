#!/usr/bin/python3
"""check_contradictions.py RUN.h5 CONFLICTS.json: what a run makes of a stream by configs/quickstart/make_conflicts.py.

Whatever the method: an edit whose very prompt got another target since has no final score, and no immediate one where
both stand in one batch; every other edit has its scores, also one that is contradicted in other words. Of `lemoe` with
a nearest-edit router also where prompts and paraphrases go, and which targets are said there.

Needs h5py.
"""
import json
import sys

import h5py
import numpy as np


def contradicted(records):
    """Of every edit, the place of the edit that contradicts it, in whatever words; -1 is none."""
    first = {r["subject"]: i for i, r in enumerate(records) if r["part"] == "first"}
    by = np.full(len(records), -1)
    for i, record in enumerate(records):
        if record["part"] == "contradicting":
            by[first[record["subject"]]] = i
    return by


def check_scores(file, by, batch):
    """Returns which edits are out of force at the end."""
    prompt = file["/edit/prompt"][:]
    by = np.where(prompt[by] == prompt, by, -1)  # other words are another prompt
    gone = by >= 0
    assert np.array_equal(file["/edit/superseded_by"][:], by)
    for name in ("reliability", "generality", "reliability_all", "target_nll", "paraphrase_nll"):
        assert not np.isnan(file[f"/eval/base/{name}"][:]).any(), name
        assert np.array_equal(np.isnan(file[f"/eval/immediate/{name}"][:]), gone & (batch[by] == batch)), name
        assert np.array_equal(np.isnan(file[f"/eval/final/{name}"][:]), gone), name
    assert not np.isnan(file["/eval/final/locality"][:]).any()
    return gone


def check_nearest(file, by, batch, gone):
    """Every prompt goes to its own edit's expert, a contradicted one to the later edit's."""
    trained, final = file["/routing/train_expert"][:], file["/routing/final_expert"][:]
    reliability, generality = (file[f"/eval/final/{name}_all"][:] for name in ("reliability", "generality"))
    old, new = np.flatnonzero(by >= 0), by[by >= 0]
    others = np.setdiff1d(np.arange(len(by)), np.concatenate([old, new]))
    assert np.array_equal(trained, batch)
    assert np.array_equal(final[gone], trained[by[gone]])
    assert np.array_equal(final[~gone], trained[~gone])
    assert np.allclose(np.diagonal(file["/routing/consistency"][:]), 1.0)
    assert reliability[others].mean() >= 0.9, "two facts of one subject too"
    if not gone.any():  # in other words: each wording says its own target, and the other's paraphrase with it
        paraphrase = file["/routing/paraphrase_expert"][:]
        assert np.array_equal(paraphrase[old], trained[new]) and np.array_equal(paraphrase[new], trained[old])
        assert reliability[old].mean() >= 0.9 and reliability[new].mean() >= 0.9
        assert generality[old].mean() <= 0.1 and generality[new].mean() <= 0.1
    elif (batch[old] == batch[new]).all():  # one expert was given both targets: not resolved, and seen in the loss
        assert reliability[new].mean() < 1.0
        assert file["/train/loss"][-1] > 0.04, "twice the loss at which a batch ends"
    else:
        assert reliability[new].mean() >= 0.9


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[2], encoding="utf-8") as f:
        by = contradicted(json.load(f))
    assert (by >= 0).any()
    with h5py.File(sys.argv[1], "r") as file:
        batch = file["/plan/batch"][:]
        gone = check_scores(file, by, batch)
        if "router: nearest" in file.attrs["config_yaml"]:
            check_nearest(file, by, batch, gone)
    return 0


if __name__ == "__main__":
    sys.exit(main())
