#!/usr/bin/python3
"""check_no_op.py RUN.h5: a run of the editor `none` scores the same at every moment, and locality is exactly 1.

Needs h5py.
"""
import sys

import h5py
import numpy as np


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with h5py.File(sys.argv[1], "r") as file:
        assert file.attrs["method"] == "none"
        base = {name: dataset[:] for name, dataset in file["/eval/base"].items()}
        assert {"reliability", "generality", "target_nll", "paraphrase_nll", "locality_nll"} <= set(base), set(base)
        for moment in ("immediate", "final"):
            group = file[f"/eval/{moment}"]
            for name, values in base.items():
                assert group[name][:].tobytes() == values.tobytes(), f"/eval/{moment}/{name} is not that of base"
            localities = [name for name in group if name.startswith("locality") and name not in base]
            assert "locality" in localities, localities
            for name in localities:
                values = group[name][:]
                assert np.all((values == 1) | np.isnan(values)) and np.any(values == 1), f"/eval/{moment}/{name}"
    return 0


if __name__ == "__main__":
    sys.exit(main())
