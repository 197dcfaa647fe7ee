#!/usr/bin/python3
"""check_real_data.py RUN.h5 KIND DATA.json BATCH_SIZE: the stream is the file's first records, every one scored once at
each moment, and what is odd about them is counted. Needs h5py.
"""
import json
import sys

import h5py
import numpy as np

# What the files hold: fields, and counts taken from the files themselves (see their description beside the data).
KINDS = {
    "zsre": {
        "prompt": "src", "target": "alt", "paraphrase": "rephrase", "locality": ("loc", "loc_ans"),
        "counts": {"records_in_file": 1037, "targets_stripped": 15, "paraphrases_missing": 0, "localities_missing": 0}},
    "selfcheckgpt": {
        "prompt": "prompt", "target": "target_new", "paraphrase": None,
        "locality": ("locality_prompt", "locality_ground_truth"),
        "counts": {"records_in_file": 600, "targets_stripped": 0, "paraphrases_missing": 600, "localities_missing": 7}},
    "counterfact": {
        "prompt": "prompt", "target": "target_new", "paraphrase": "rephrase_prompt",
        "locality": ("locality_prompt", "locality_ground_truth"),
        "counts": {"records_in_file": 3000, "targets_stripped": 0, "paraphrases_missing": 0, "localities_missing": 0}},
}
MOMENTS = ("base", "immediate", "final")


def text(dataset):
    return [value.decode() for value in dataset[:]]


def check_stream(file, kind, records, batch_size):
    assert np.array_equal(file["/edit/record"][:], np.arange(len(records))), "not in file order"
    assert text(file["/edit/prompt"]) == [record[kind["prompt"]] for record in records]
    assert text(file["/edit/target"]) == [record[kind["target"]].strip() for record in records]
    assert text(file["/edit/subject"]) == [record["subject"] for record in records]
    assert np.all(file["/edit/prompt_tokens"][:] > 1) and np.all(file["/edit/target_tokens"][:] > 0)
    assert np.array_equal(file["/plan/batch"][:], np.arange(len(records)) // batch_size)


def superseded_by(kind, records):
    """The next record of the same prompt and another target; -1: none."""
    return np.array([next((j for j in range(i + 1, len(records)) if records[j][kind["prompt"]] == record[kind["prompt"]]
                           and records[j][kind["target"]].strip() != record[kind["target"]].strip()), -1)
                     for i, record in enumerate(records)])


def is_scored(kind, records, metric, in_force):
    """Which edits a metric is there for; the others are NaN: no such text, or another target by then."""
    if metric.startswith("locality"):
        return np.array([all(record[field].strip() for field in kind["locality"]) for record in records])
    if metric.startswith(("generality", "paraphrase")):
        return in_force & (kind["paraphrase"] is not None)
    return in_force


def check_scores(file, kind, records):
    by, batch = superseded_by(kind, records), file["/plan/batch"][:]
    assert np.array_equal(file["/edit/superseded_by"][:], by)
    in_force = {"base": np.full(len(by), True), "immediate": (by < 0) | (batch[by] > batch), "final": by < 0}
    for moment in MOMENTS:
        for name, dataset in file[f"/eval/{moment}"].items():
            values, there = dataset[:], is_scored(kind, records, name, in_force[moment])
            assert np.array_equal(np.isfinite(values), there), f"/eval/{moment}/{name}"
            assert dataset.attrs["n"] == there.sum(), f"/eval/{moment}/{name}@n"
            if name.endswith("_all"):
                assert set(np.unique(values[there])) <= {0.0, 1.0}, f"/eval/{moment}/{name}"


def check_rights(file):
    """A token-level score is a count of right tokens over the target's tokens; all right is the whole answer."""
    n = file["/edit/target_tokens"][:]
    for moment in MOMENTS:
        share = file[f"/eval/{moment}/reliability"][:]
        rights = share * n
        assert np.allclose(rights, np.round(rights), atol=1e-9, equal_nan=True), moment
        assert np.array_equal(share == 1, file[f"/eval/{moment}/reliability_all"][:] == 1), moment


def main():
    if len(sys.argv) != 5 or sys.argv[2] not in KINDS:
        sys.exit(__doc__)
    kind, batch_size = KINDS[sys.argv[2]], int(sys.argv[4])
    with open(sys.argv[3], encoding="utf-8") as data:
        records = json.load(data)
    with h5py.File(sys.argv[1], "r") as file:
        assert file.attrs["status"] == "complete" and file.attrs["error"] == "", file.attrs["error"]
        for name, wanted in kind["counts"].items():
            assert file.attrs[name] == wanted, f"{name}: {file.attrs[name]}, not {wanted}"
        assert file.attrs["records_skipped"] == 0 and file.attrs["subjects_not_in_prompt"] == 0
        records = records[:len(file["/edit/id"])]
        check_stream(file, kind, records, batch_size)
        check_scores(file, kind, records)
        check_rights(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
