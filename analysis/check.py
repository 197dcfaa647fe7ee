#!/usr/bin/env python3
"""Validates result files - runs and sweep.h5 - against the schema that `lemoe-run --describe-schema` prints.

One line for everything that is wrong, with its place; exit status 1 if there is any. The schema is asked of the program
or, with --schema, taken from a file; these scripts keep no copy of it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
from lemoe_analysis.common import KIND, ResultsError, ask_lemoe_run, guarded

TYPES = {"float64": np.dtype("<f8"), "int64": np.dtype("<i8"), "int32": np.dtype("<i4")}
STATUS = {"complete", "running", "interrupted", "failed"}
REQUIRED = ["schema_version", "run_id", "status", "error", "started_at", "volatile_attributes"]
SCALE_ATTRIBUTES = {"CLASS", "NAME", "REFERENCE_LIST", "DIMENSION_LIST", "DIMENSION_LABELS"}


class Checker:
    """Compares one open file with the schema and collects what differs."""

    def __init__(self, file: h5py.File, schema: dict):
        self.file, self.schema = file, schema
        self.is_sweep = "runs" in file
        self.rows = schema["sweep" if self.is_sweep else "datasets"]
        self.axes = {axis["name"]: axis for axis in schema["axes"]}
        self.scales = {axis["scale"]: axis for axis in schema["axes"]}
        self.violations: list[str] = []

    def expect(self, condition: object, text: str) -> bool:
        if not condition:
            self.violations.append(text)
        return bool(condition)

    def find_row(self, path: str) -> tuple[dict | None, str]:
        """The schema's row for a path, and what stands for its <kind> or <key>."""
        for row in self.rows:
            if row["path"] == path:
                return row, ""
        # The longest pattern first: locality_<kind>_all before locality_<kind>.
        for row in sorted(self.rows, key=lambda row: -len(row["path"])):
            pattern = re.escape(row["path"]).replace("<kind>", "([a-z0-9_]+)").replace("<key>", "([^/]+)")
            match = re.fullmatch(pattern, path)
            if match and match.groups():
                return row, match.group(1)
        return None, ""

    def check_attribute_types(self, path: str, item: h5py.HLObject) -> None:
        for name in item.attrs:
            kind = h5py.h5a.open(item.id, name.encode()).get_type()
            place = f"{path}@{name}"
            if name in SCALE_ATTRIBUTES:
                continue
            self.expect(not isinstance(kind, h5py.h5t.TypeEnumID), f"{place}: an enumeration or boolean")
            self.expect(not isinstance(kind, h5py.h5t.TypeReferenceID), f"{place}: a reference")
            if isinstance(kind, h5py.h5t.TypeStringID):
                is_utf8 = kind.is_variable_str() and kind.get_cset() == h5py.h5t.CSET_UTF8
                self.expect(is_utf8, f"{place}: text that is not variable-length UTF-8")

    def check_text(self, path: str, item: h5py.HLObject, name: str, wanted: str) -> None:
        value = item.attrs.get(name)
        self.expect(isinstance(value, str) and value == wanted, f"{path}@{name}: {value!r} where {wanted!r} is due")

    def check_axis(self, path: str, dataset: h5py.Dataset, index: int, name: str) -> None:
        axis = self.axes[name]
        dimension = dataset.dims[index]
        self.expect(dimension.label == name, f"{path}: axis {index} is labelled {dimension.label!r}, not {name!r}")
        if not self.expect(len(dimension) == 1, f"{path}: axis {index} has {len(dimension)} scales, not 1"):
            return
        scale = dimension[0]
        self.expect(scale.name == axis["scale"], f"{path}: axis {index} has scale {scale.name}, not {axis['scale']}")
        self.expect(len(scale) == dataset.shape[index], f"{path}: axis {index} and its scale differ in length")

    def check_scale(self, path: str, dataset: h5py.Dataset, axis: dict) -> None:
        self.expect(h5py.h5ds.is_scale(dataset.id), f"{path}: not a dimension scale")
        self.expect(dataset.dtype == TYPES[axis["type"]], f"{path}: type {dataset.dtype}")
        self.expect(dataset.ndim == 1 and len(dataset) > 0, f"{path}: shape {dataset.shape}")
        self.check_text(path, dataset, "units", axis["units"])
        self.check_text(path, dataset, "long_name", axis["long_name"])
        wanted = np.arange(len(dataset))
        if axis["name"] == "expert_final":
            wanted[-1] = -1
        self.expect(np.array_equal(dataset[:], wanted), f"{path}: values are not a plain count")

    def check_fill(self, path: str, dataset: h5py.Dataset, row: dict) -> None:
        fill = dataset.attrs.get("_FillValue")
        if row["fill"] is None:
            self.expect(fill is None, f"{path}: a fill value where there is none")
        elif self.expect(
            fill is not None and np.asarray(fill).dtype == dataset.dtype,
            f"{path}: _FillValue missing or not of the dataset's type",
        ):
            wanted = float("nan") if row["fill"] == "NaN" else row["fill"]
            same = all(
                np.array_equal(value, wanted, equal_nan=row["fill"] == "NaN") for value in (fill, dataset.fillvalue)
            )
            self.expect(same, f"{path}: fill {fill} and {dataset.fillvalue}, not {row['fill']}")

    def check_metric(self, path: str, dataset: h5py.Dataset, row: dict) -> None:
        for name in KIND:
            if name in row:
                self.check_text(path, dataset, name, row[name])
            else:
                self.expect(name not in dataset.attrs, f"{path}@{name}: not a metric")
        if "protocol" not in row:
            return
        values = dataset[...]
        present = values[~np.isnan(values)]
        self.expect(dataset.attrs.get("n") == present.size, f"{path}@n: {dataset.attrs.get('n')}, not {present.size}")
        low, high = (0, np.inf) if row["units"] == "nat" else (0, 1)
        self.expect(np.all((present >= low) & (present <= high)), f"{path}: values outside [{low}, {high}]")

    def check_dataset(self, path: str, dataset: h5py.Dataset) -> None:
        if path in self.scales:
            self.check_scale(path, dataset, self.scales[path])
            return
        row, name = self.find_row(path)
        if not self.expect(row, f"{path}: not in the schema"):
            return
        if row["type"] == "string":
            kind = h5py.check_string_dtype(dataset.dtype)
            is_utf8 = kind and kind.length is None and kind.encoding == "utf-8"
            self.expect(is_utf8, f"{path}: type {dataset.dtype}")
        else:
            self.expect(dataset.dtype == TYPES[row["type"]], f"{path}: type {dataset.dtype}, not {row['type']}")
        self.check_text(path, dataset, "units", row["units"])
        self.check_text(path, dataset, "long_name", row["long_name"].replace("<kind>", name))
        self.expect(dataset.attrs.get("volatile", 0) == row["volatile"], f"{path}@volatile: not {row['volatile']}")
        self.check_fill(path, dataset, row)
        self.check_metric(path, dataset, row)
        if self.expect(dataset.ndim == len(row["axes"]), f"{path}: {dataset.ndim} axes, not {len(row['axes'])}"):
            for index, axis in enumerate(row["axes"]):
                self.check_axis(path, dataset, index, axis)

    def check_object(self, path: str, item: h5py.HLObject) -> None:
        self.check_attribute_types(path, item)
        plist = item.id.get_create_plist()
        if isinstance(item, h5py.Dataset):
            # A boolean is an enumeration in HDF5, and h5py reads it as numpy's bool.
            self.expect(item.dtype.kind != "b" and not h5py.check_enum_dtype(item.dtype), f"{path}: a boolean")
            self.expect(not h5py.check_ref_dtype(item.dtype), f"{path}: references")
            self.expect(not plist.get_obj_track_times(), f"{path}: carries its time of writing")
            self.check_dataset(path, item)
        else:
            tracked = plist.get_link_creation_order() & h5py.h5p.CRT_ORDER_TRACKED
            self.expect(tracked, f"{path}: creation order is not tracked")

    def check_root(self) -> None:
        known = {row["name"]: row for row in self.schema["attributes"]}
        attributes = self.file.attrs
        for name in REQUIRED[:1] if self.is_sweep else REQUIRED:
            self.expect(name in attributes, f"/@{name}: missing")
        version = attributes.get("schema_version")
        self.expect(version == self.schema["schema_version"], f"/@schema_version: {version}")
        for name in attributes:
            if name in known:
                kind = str if known[name]["type"] == "string" else np.integer
                self.expect(isinstance(attributes[name], kind), f"/@{name}: not of type {known[name]['type']}")
        if self.is_sweep:
            return
        self.expect(attributes.get("status") in STATUS, f"/@status: {attributes.get('status')!r}")
        volatile = set(attributes.get("volatile_attributes", "").split(",")) - {""}
        for name in attributes:
            if name in known and known[name]["volatile"]:
                self.expect(name in volatile, f"/@volatile_attributes: {name} is missing")
        for name in volatile:
            self.expect(name in attributes, f"/@volatile_attributes: there is no {name}")

    def check_consistency(self) -> None:
        matrix = self.file.get("/routing/consistency")
        if not isinstance(matrix, h5py.Dataset):
            return
        for i, row in enumerate(matrix[...]):
            sums = np.all(np.isnan(row)) or abs(row.sum() - 1) < 1e-9
            self.expect(sums, f"/routing/consistency: row {i} sums to {row.sum()}, not 1")

    def run(self) -> list[str]:
        self.check_object("/", self.file["/"])
        self.check_root()
        # External links are not followed: what they point to is a file of its own.
        self.file.visititems(lambda name, item: self.check_object("/" + name, item))
        self.check_consistency()
        return self.violations


def violations_of(path: Path, schema: dict) -> list[str]:
    """What is wrong with a file; one that cannot be opened has one thing wrong."""
    try:
        with h5py.File(path, "r") as file:
            return Checker(file, schema).run()
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:  # whatever h5py makes of damage
        return [f"not a readable HDF5 file ({error})"]


def files_below(path: Path) -> Iterator[Path]:
    """A file itself, or the published files of an output folder."""
    if not path.exists():
        raise ResultsError(f"{path}: no such file or folder")
    if path.is_file():
        yield path
        return
    found = [p for p in [path / "sweep.h5", *sorted((path / "runs").glob("*.h5")), *sorted(path.glob("*.h5"))]
             if p.is_file() and not p.name.startswith(".")]  # fmt: skip
    if not found:
        raise ResultsError(f"{path}: no results there: neither runs/*.h5 nor sweep.h5")
    yield from dict.fromkeys(found)


def read_schema(path: Path | None) -> dict:
    try:
        text = path.read_text("utf-8") if path else ask_lemoe_run("--describe-schema")
        schema = json.loads(text)
        return {name: schema[name] for name in ("schema_version", "attributes", "axes", "datasets", "sweep")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ResultsError(f"{path or 'lemoe-run --describe-schema'}: not a schema ({error})") from error


def main(arguments: Sequence[str] | None = None) -> int:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="run files, sweep.h5 or output folders")
    made.add_argument("--schema", type=Path, metavar="FILE", help="what lemoe-run --describe-schema printed")
    options = made.parse_args(arguments)

    def work() -> int:
        schema = read_schema(options.schema)
        files = list(dict.fromkeys(file for path in options.paths for file in files_below(path)))
        found = {file: violations_of(file, schema) for file in files}
        for file, violations in found.items():
            print("\n".join(f"{file}: {violation}" for violation in violations) if violations else f"{file}: valid")
        bad = sum(bool(violations) for violations in found.values())
        print(f"{len(found)} file{'s' * (len(found) != 1)}, {bad} with something wrong", file=sys.stderr)
        return 1 if bad else 0

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
