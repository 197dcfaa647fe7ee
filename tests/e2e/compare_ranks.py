#!/usr/bin/python3
"""compare_ranks.py A.h5 B.h5 [FACTOR TIES]: the same run by teams of different sizes, or on different devices.

Before training, NLLs agree to 1e-5, relative and over all edits. Scores and routes are equal but for near-ties, which
are counted and printed: at most 1 % of the values of a dataset, and 2 % once training has amplified the last bits.
FACTOR widens the bounds on NLLs, TIES is the share of near-ties instead of those. Needs h5py.
"""
import sys

import h5py
import numpy as np

NLL_BASE, NLL_TRAINED = 1e-5, 1e-4  # largest relative difference
TIES_BASE, TIES_TRAINED = 0.01, 0.02  # largest share of values that differ


def relative_difference(a, b):
    """|a - b| / (|b| + floor) of the whole dataset. A logit of 10 is rounded to 1e-6 in fp32, and what the model knows
    has an NLL of a thousandth: hence the floor, a tenth of a nat a value."""
    assert np.array_equal(np.isnan(a), np.isnan(b)), "missing values differ"
    return np.sqrt(np.nansum((a - b) ** 2)) / (np.sqrt(np.nansum(b ** 2)) + 0.1 * np.sqrt(a.size))


def count_differences(a, b):
    assert a.shape == b.shape
    return int(np.sum(~((a == b) | (np.isnan(a.astype(float)) & np.isnan(b.astype(float))))))


def compare_scores(a, b, moment, limits, lines):
    nll_limit, tie_limit = limits
    for name in a[f"/eval/{moment}"]:
        path = f"/eval/{moment}/{name}"
        x, y = a[path][:], b[path][:]
        if name.endswith("_nll"):
            difference = relative_difference(x, y)
            assert difference <= nll_limit, f"{path}: relative difference {difference:.2e}"
            lines.append(f"{moment} {name} {difference:.1e}")
        else:
            n = count_differences(x, y)
            assert n <= tie_limit * x.size, f"{path}: {n} of {x.size} differ"
            if n:
                lines.append(f"{moment} {name}: {n} of {x.size} near-ties")


def compare_routes(a, b, tie_limit, lines):
    for name in a.get("/routing", {}):
        if not name.endswith("_expert"):
            continue
        x, y = a[f"/routing/{name}"][:], b[f"/routing/{name}"][:]
        n = count_differences(x, y)
        assert n <= tie_limit * x.size, f"/routing/{name}: {n} of {x.size} differ"
        if n:
            lines.append(f"{name}: {n} of {x.size} near-ties")


def main():
    if len(sys.argv) not in (3, 5):
        sys.exit(__doc__)
    factor = float(sys.argv[3]) if len(sys.argv) == 5 else 1.0
    ties = [float(sys.argv[4])] * 2 if len(sys.argv) == 5 else [TIES_BASE, TIES_TRAINED]
    lines = []
    with h5py.File(sys.argv[1], "r") as a, h5py.File(sys.argv[2], "r") as b:
        for path in ("/edit/record", "/edit/prompt_tokens", "/plan/batch", "/train/batch"):
            if path in a:
                assert np.array_equal(a[path][:], b[path][:]), path
        compare_scores(a, b, "base", (NLL_BASE * factor, ties[0]), lines)
        for moment in ("immediate", "final"):
            compare_scores(a, b, moment, (NLL_TRAINED * factor, ties[1]), lines)
        compare_routes(a, b, ties[1], lines)
        teams = ["%d on %s" % (file.attrs["tensor_parallel"], file.attrs["device"]) for file in (a, b)]
    worst = {}
    for line in lines:
        if "near-ties" not in line:
            moment, _, value = line.split()
            worst[moment] = max(worst.get(moment, 0), float(value))
    near = [line for line in lines if "near-ties" in line]
    nlls = ", ".join(f"{moment} {value:.0e}" for moment, value in worst.items())
    print(f"{sys.argv[1].split('/')[-1]}: teams of {teams[0]} and {teams[1]}: NLL within {nlls}; "
          f"{'; '.join(near) if near else 'no near-tie'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
