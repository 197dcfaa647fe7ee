#!/usr/bin/python3
"""check_schema.py FILE.h5 SCHEMA.json: does a published file keep to `lemoe-run --describe-schema`?

Run files and sweep.h5 alike. Prints one violation a line and exits 1, or exits 0. Needs h5py (Debian's python3-h5py).
"""
import json
import re
import sys

import h5py
import numpy as np

TYPES = {"float64": np.dtype("<f8"), "int64": np.dtype("<i8"), "int32": np.dtype("<i4")}
STATUS = {"complete", "running", "interrupted", "failed"}
REQUIRED = ["schema_version", "run_id", "status", "error", "started_at", "volatile_attributes"]
SCALE_ATTRIBUTES = {"CLASS", "NAME", "REFERENCE_LIST", "DIMENSION_LIST", "DIMENSION_LABELS"}


class Checker:
    def __init__(self, file, schema):
        self.file, self.schema = file, schema
        self.is_sweep = "runs" in file
        self.rows = schema["sweep" if self.is_sweep else "datasets"]
        self.axes = {axis["name"]: axis for axis in schema["axes"]}
        self.scales = {axis["scale"]: axis for axis in schema["axes"]}
        self.violations = []

    def expect(self, condition, text):
        if not condition:
            self.violations.append(text)
        return condition

    def find_row(self, path):
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

    def check_attribute_types(self, path, item):
        for name in item.attrs:
            kind = h5py.h5a.open(item.id, name.encode()).get_type()
            place = f"{path}@{name}"
            if name in SCALE_ATTRIBUTES:
                continue
            self.expect(not isinstance(kind, h5py.h5t.TypeEnumID), f"{place}: an enumeration or boolean")
            self.expect(not isinstance(kind, h5py.h5t.TypeReferenceID), f"{place}: a reference")
            if isinstance(kind, h5py.h5t.TypeStringID):
                self.expect(kind.is_variable_str() and kind.get_cset() == h5py.h5t.CSET_UTF8,
                            f"{place}: text that is not variable-length UTF-8")

    def check_text(self, path, item, name, wanted):
        value = item.attrs.get(name)
        self.expect(isinstance(value, str) and value == wanted, f"{path}@{name}: {value!r} where {wanted!r} is due")

    def check_axis(self, path, dataset, index, name):
        axis = self.axes[name]
        dimension = dataset.dims[index]
        self.expect(dimension.label == name, f"{path}: axis {index} is labelled {dimension.label!r}, not {name!r}")
        if not self.expect(len(dimension) == 1, f"{path}: axis {index} has {len(dimension)} scales, not 1"):
            return
        scale = dimension[0]
        self.expect(scale.name == axis["scale"], f"{path}: axis {index} has scale {scale.name}, not {axis['scale']}")
        self.expect(len(scale) == dataset.shape[index], f"{path}: axis {index} and its scale differ in length")

    def check_scale(self, path, dataset, axis):
        self.expect(h5py.h5ds.is_scale(dataset.id), f"{path}: not a dimension scale")
        self.expect(dataset.dtype == TYPES[axis["type"]], f"{path}: type {dataset.dtype}")
        self.expect(dataset.ndim == 1 and len(dataset) > 0, f"{path}: shape {dataset.shape}")
        self.check_text(path, dataset, "units", axis["units"])
        self.check_text(path, dataset, "long_name", axis["long_name"])
        wanted = np.arange(len(dataset))
        if axis["name"] == "expert_final":
            wanted[-1] = -1
        self.expect(np.array_equal(dataset[:], wanted), f"{path}: values are not a plain count")

    def check_fill(self, path, dataset, row):
        fill = dataset.attrs.get("_FillValue")
        if row["fill"] is None:
            self.expect(fill is None, f"{path}: a fill value where there is none")
        elif self.expect(fill is not None and np.asarray(fill).dtype == dataset.dtype,
                         f"{path}: _FillValue missing or not of the dataset's type"):
            wanted = float("nan") if row["fill"] == "NaN" else row["fill"]
            same = np.isnan(fill) if row["fill"] == "NaN" else fill == wanted
            own = np.isnan(dataset.fillvalue) if row["fill"] == "NaN" else dataset.fillvalue == wanted
            self.expect(same and own, f"{path}: fill {fill} and {dataset.fillvalue}, not {row['fill']}")

    def check_metric(self, path, dataset, row):
        for name in ("protocol", "scorer", "moment"):
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

    def check_dataset(self, path, dataset):
        if path in self.scales:
            self.check_scale(path, dataset, self.scales[path])
            return
        row, name = self.find_row(path)
        if not self.expect(row, f"{path}: not in the schema"):
            return
        if row["type"] == "string":
            kind = h5py.check_string_dtype(dataset.dtype)
            self.expect(kind and kind.length is None and kind.encoding == "utf-8", f"{path}: type {dataset.dtype}")
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

    def check_object(self, path, item):
        self.check_attribute_types(path, item)
        plist = item.id.get_create_plist()
        if isinstance(item, h5py.Dataset):
            # A boolean is an enumeration in HDF5, and h5py reads it as numpy's bool.
            self.expect(item.dtype.kind != "b" and not h5py.check_enum_dtype(item.dtype), f"{path}: a boolean")
            self.expect(not h5py.check_ref_dtype(item.dtype), f"{path}: references")
            self.expect(not plist.get_obj_track_times(), f"{path}: carries its time of writing")
            self.check_dataset(path, item)
        else:
            self.expect(plist.get_link_creation_order() & h5py.h5p.CRT_ORDER_TRACKED,
                        f"{path}: creation order is not tracked")

    def check_root(self):
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

    def check_consistency(self):
        matrix = self.file.get("/routing/consistency")
        if not isinstance(matrix, h5py.Dataset):
            return
        for i, row in enumerate(matrix[...]):
            sums = np.all(np.isnan(row)) or abs(row.sum() - 1) < 1e-9
            self.expect(sums, f"/routing/consistency: row {i} sums to {row.sum()}, not 1")

    def run(self):
        self.check_object("/", self.file["/"])
        self.check_root()
        # External links are not followed: what they point to is a file of its own.
        self.file.visititems(lambda name, item: self.check_object("/" + name, item))
        self.check_consistency()
        return self.violations


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[2], encoding="utf-8") as text:
        schema = json.load(text)
    with h5py.File(sys.argv[1], "r") as file:
        violations = Checker(file, schema).run()
    for violation in violations:
        print(f"{sys.argv[1]}: {violation}")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
