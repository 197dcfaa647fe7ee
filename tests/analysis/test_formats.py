"""Files the ecosystem opens: every published file in h5py, xarray, h5netcdf, ncdump and h5dump, and in pandas."""

import shutil
import subprocess
import unittest
import warnings

import h5netcdf
import h5py
import xarray
from cases import FAILED, LOST, SWEEP, Case, run_files
from lemoe_analysis.load import Run

FILES = [path for folder in (SWEEP, LOST, FAILED) for path in run_files(folder)]
GROUPS = ("edit", "plan", "train", "eval/base", "eval/immediate", "eval/final", "eval/milestone", "routing", "cost")


class Opens(Case):
    def test_h5py_reads_every_value(self):
        for path in FILES:
            with h5py.File(path) as file:
                values = []
                file.visititems(lambda name, item: values.append(item[...]) if isinstance(item, h5py.Dataset) else None)
                self.assertGreater(len(values), 10)

    def test_h5netcdf_has_dimensions_and_values(self):
        for path in FILES:
            with h5netcdf.File(path, "r") as file:
                self.assertEqual(file["/edit"].variables["id"].dimensions, ("edit_index",))
                self.assertEqual(file["/edit"].variables["id"].shape, (60,))

    def test_xarray_opens_every_group(self):
        for path in FILES:
            with h5py.File(path) as file:
                there = [group for group in GROUPS if group in file]
            self.assertIn("plan", there)
            for group in there:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    with xarray.open_dataset(path, group=group, engine="h5netcdf") as dataset:
                        dataset.load()
                self.assertGreater(len(dataset.data_vars), 0)

    def test_xarray_sees_units_and_axes(self):
        with xarray.open_dataset(FILES[0], group="eval/final", engine="h5netcdf") as dataset:
            self.assertEqual(dataset.reliability.attrs["units"], "1")
            self.assertEqual(dataset.reliability.sizes, {"edit_index": 60})

    def tool(self, *command: str):
        if not shutil.which(command[0]):
            print(f"skipped: {command[0]} is not installed")
            self.skipTest(f"no {command[0]}")
        for path in [*FILES, SWEEP / "sweep.h5"]:
            done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 0, f"{path}: {done.stderr}")
            self.assertNotIn("error", done.stderr.lower())

    def test_ncdump(self):
        self.tool("ncdump", "-h")

    def test_h5dump(self):
        self.tool("h5dump", "-A")

    def test_pandas_frames_of_every_axis(self):
        for path in FILES:
            run = Run(path)
            for axis in {v.axes for v in run.variables.values() if len(v.axes) == 1}:
                frame = run.frame(axis[0])
                self.assertGreater(len(frame.columns), 0)
            self.assertEqual(len(run.frame("edit")), 60)


if __name__ == "__main__":
    unittest.main()
