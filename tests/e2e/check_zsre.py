#!/usr/bin/python3
"""check_zsre.py RUN.h5 wise_zsre_mend_edit_1037.json: the stream is the file's records, every one scored once at each
moment, and what is odd about them is counted. Needs h5py.
"""
import json
import sys

import h5py
import numpy as np

# What the file holds, from the file itself: see its description beside the data.
COUNTS = {"records_in_file": 1037, "records_skipped": 0, "paraphrases_missing": 0, "localities_missing": 0,
          "subjects_not_in_prompt": 0, "targets_stripped": 15}


def text(dataset):
    return [value.decode() for value in dataset[:]]


def check_stream(file, records):
    assert np.array_equal(file["/edit/record"][:], np.arange(len(records))), "not in file order"
    assert text(file["/edit/prompt"]) == [record["src"] for record in records]
    assert text(file["/edit/target"]) == [record["alt"].strip() for record in records]
    assert text(file["/edit/subject"]) == [record["subject"] for record in records]
    assert np.all(file["/edit/prompt_tokens"][:] > 1) and np.all(file["/edit/target_tokens"][:] > 0)
    assert np.bincount(file["/plan/batch"][:]).tolist() == [208, 208, 208, 208, 205]


def check_scores(file):
    for moment in ("base", "immediate", "final"):
        for name, dataset in file[f"/eval/{moment}"].items():
            values = dataset[:]
            assert values.shape == (1037,) and np.all(np.isfinite(values)), f"/eval/{moment}/{name}"
            assert dataset.attrs["n"] == 1037, f"/eval/{moment}/{name}@n"
            if name.endswith("_all"):
                assert set(np.unique(values)) <= {0.0, 1.0}, f"/eval/{moment}/{name}"


def check_rights(file):
    """A token-level score is a count of right tokens over the target's tokens; all right is the whole answer."""
    n = file["/edit/target_tokens"][:]
    for moment in ("base", "immediate", "final"):
        share = file[f"/eval/{moment}/reliability"][:]
        rights = share * n
        assert np.allclose(rights, np.round(rights), atol=1e-9), moment
        assert np.array_equal(share == 1, file[f"/eval/{moment}/reliability_all"][:] == 1), moment


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[2], encoding="utf-8") as data:
        records = json.load(data)
    with h5py.File(sys.argv[1], "r") as file:
        for name, wanted in COUNTS.items():
            assert file.attrs[name] == wanted, f"{name}: {file.attrs[name]}, not {wanted}"
        check_stream(file, records)
        check_scores(file)
        check_rights(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
