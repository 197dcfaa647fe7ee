#!/usr/bin/python3
"""compare_h5.py A.h5 B.h5 [--ignore-attribute NAME ...]: are two published files equal, dataset by dataset, bit by bit?

Datasets with `volatile = 1` and the root attributes that either file names in `volatile_attributes` may differ. Prints
one difference a line and exits 1, or exits 0. Needs h5py (Debian's python3-h5py).
"""
import argparse
import sys

import h5py
import numpy as np

SCALE_ATTRIBUTES = {"REFERENCE_LIST", "DIMENSION_LIST"}


def objects(file):
    found = {}
    file.visititems(lambda name, item: found.__setitem__("/" + name, item))
    return found


def same_value(a, b):
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.kind == "O":
        return a.tolist() == b.tolist()
    return a.tobytes() == b.tobytes()


def first_difference(a, b):
    a, b = np.asarray(a), np.asarray(b)
    for index in np.ndindex(a.shape):
        if not same_value(a[index], b[index]):
            return f"at {list(index)}: {a[index]!r} and {b[index]!r}"
    return "in a way that cannot be shown"


def compare_attributes(path, a, b, ignored, differences):
    for name in sorted((set(a.attrs) | set(b.attrs)) - ignored):
        if name not in a.attrs or name not in b.attrs:
            differences.append(f"{path}@{name}: only in the {'first' if name in a.attrs else 'second'}")
        elif not same_value(a.attrs[name], b.attrs[name]):
            differences.append(f"{path}@{name}: {a.attrs[name]!r} and {b.attrs[name]!r}")


def compare_datasets(path, a, b, differences):
    if a.dtype != b.dtype or a.shape != b.shape:
        differences.append(f"{path}: {a.dtype}{list(a.shape)} and {b.dtype}{list(b.shape)}")
        return
    scales = [[[scale.name for scale in dimension.values()] for dimension in item.dims] for item in (a, b)]
    if scales[0] != scales[1]:
        differences.append(f"{path}: different axes, {scales[0]} and {scales[1]}")
    values = a[...], b[...]
    if not same_value(*values):
        differences.append(f"{path}: differs {first_difference(*values)}")


def is_volatile(item):
    return item.attrs.get("volatile", 0) == 1


def compare(first, second, ignored):
    differences = []
    root_ignored = set(ignored) | {"volatile_attributes"}
    for file in (first, second):
        root_ignored |= set(file.attrs.get("volatile_attributes", "").split(","))
    compare_attributes("/", first, second, root_ignored, differences)
    a, b = objects(first), objects(second)
    for path in sorted(set(a) | set(b)):
        items = [found[path] for found in (a, b) if path in found]
        if any(is_volatile(item) for item in items):
            continue
        if len(items) == 1:
            differences.append(f"{path}: only in the {'first' if path in a else 'second'}")
        elif type(items[0]) is not type(items[1]):
            differences.append(f"{path}: a group in one, a dataset in the other")
        else:
            compare_attributes(path, *items, SCALE_ATTRIBUTES, differences)
            if isinstance(items[0], h5py.Dataset):
                compare_datasets(path, *items, differences)
    return differences


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("--ignore-attribute", action="append", default=[], metavar="NAME")
    arguments = parser.parse_args()
    with h5py.File(arguments.first, "r") as first, h5py.File(arguments.second, "r") as second:
        differences = compare(first, second, arguments.ignore_attribute)
    for difference in differences:
        print(difference)
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
