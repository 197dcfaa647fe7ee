#!/usr/bin/python3
"""check_outputs.py FOLDER --runs N --edits N --batches N: what a launch that ended well leaves in its output folder.

Every run is complete and listed in sweep.h5 with the means of its own file; every adaptor can be read. Needs h5py.
"""
import argparse
import glob
import json
import math
import os
import struct
import sys

import h5py
import numpy as np

ITEM_BYTES = {"F32": 4, "BF16": 2}


def mean(values):
    present = values[~np.isnan(values)]
    return (present.mean() if present.size else math.nan), present.size


def check_run(path, arguments):
    with h5py.File(path, "r") as file:
        assert file.attrs["status"] == "complete" and file.attrs["error"] == "", file.attrs["error"]
        assert len(file["/edit/id"]) == arguments.edits
        assert sorted(file["/edit/record"][:]) == sorted(set(file["/edit/record"][:])), "an edit twice"
        assert file["/plan/batch"][:].max() + 1 == arguments.batches
        assert np.all(np.diff(file["/plan/batch"][:]) >= 0), "editing order"
        for moment in ("base", "immediate", "final"):
            for nll in ("target_nll", "paraphrase_nll", "locality_nll"):
                values = file[f"/eval/{moment}/{nll}"][:]
                assert np.all(np.isfinite(values)) and np.all(values >= 0), f"/eval/{moment}/{nll}"
        if file.attrs["method"] != "none":
            assert np.all(np.isfinite(file["/train/loss"][:])), "training loss"


def check_row(folder, sweep, index):
    name = sweep["id"][index].decode()
    assert sweep["status"][index].decode() == "complete", f"{name} in sweep.h5"
    assert isinstance(sweep["runs"].get(name, getlink=True), h5py.ExternalLink), f"{name}: no link"
    with h5py.File(os.path.join(folder, "runs", name + ".h5"), "r") as file:
        for moment in ("base", "immediate", "final"):
            for metric in ("reliability", "generality", "locality"):
                path = f"/eval/{moment}/{metric}"
                value, n = mean(file[path][:]) if path in file else (math.nan, 0)
                listed = sweep[f"{moment}/{metric}"][index]
                assert abs(listed - value) < 1e-12 or (math.isnan(listed) and math.isnan(value)), f"{name}: {path}"
                assert sweep[f"{moment}/{metric}_n"][index] == n, f"{name}: {path}, count"


def check_adaptor(path):
    """Reads it as safetensors: header, types, shapes, and that the data is covered exactly."""
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    at = 0
    tensors = {name: tensor for name, tensor in header.items() if name != "__metadata__"}
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = tensor["data_offsets"]
        assert begin == at and end - begin == math.prod(tensor["shape"]) * ITEM_BYTES[tensor["dtype"]], name
        words = np.frombuffer(data[begin:end], "<u2" if tensor["dtype"] == "BF16" else "<u4")
        wide = words.astype("<u4") << 16 if tensor["dtype"] == "BF16" else words
        assert np.all(np.isfinite(wide.view("<f4"))), f"{name} is not finite"
        at = end
    assert at == len(data) and tensors, path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    for name in ("--runs", "--edits", "--batches"):
        parser.add_argument(name, type=int, required=True)
    arguments = parser.parse_args()
    runs = sorted(glob.glob(os.path.join(arguments.folder, "runs", "*.h5")))
    assert len(runs) == arguments.runs, f"{len(runs)} run files"
    for path in runs:
        check_run(path, arguments)
    with h5py.File(os.path.join(arguments.folder, "sweep.h5"), "r") as sweep:
        listed = sorted(name.decode() for name in sweep["id"][:])
        assert listed == [os.path.basename(path)[:-3] for path in runs], listed
        for index in range(len(listed)):
            check_row(arguments.folder, sweep, index)
    for path in runs:
        adaptor = os.path.join(path[:-3], "adaptor.safetensors")
        with h5py.File(path, "r") as file:
            is_edited = file.attrs["method"] != "none"
        assert os.path.exists(adaptor) == is_edited, adaptor
        if is_edited:
            check_adaptor(adaptor)
    return 0


if __name__ == "__main__":
    sys.exit(main())
