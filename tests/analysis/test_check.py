"""check.py: accepts what lemoe-run publishes, and says what is wrong where."""

import json
import unittest

import h5py
import numpy as np
from cases import FAILED, LOST, SWEEP, Case, find, run_files, script
from lemoe_analysis.check import Checker, read_schema

BREAKS = {  # place the message has to name -> what spoils it
    "/plan/batch@units": lambda f: f["/plan/batch"].attrs.__delitem__("units"),
    "/plan/extra: not in the schema": lambda f: f.__setitem__("/plan/extra", [1.0]),
    "/routing/consistency: axis 1": lambda f: f["/routing/consistency"].dims[1].detach_scale(f["/expert_final_index"]),
    "/plan/batch@flag: an enumeration or boolean": lambda f: f["/plan/batch"].attrs.__setitem__("flag", True),
    "/eval/final/reliability: values outside [0, 1]": lambda f: f["/eval/final/reliability"].__setitem__(0, 1.5),
    "/eval/final/reliability@scorer": lambda f: f["/eval/final/reliability"].attrs.__setitem__("scorer", "all"),
    "/eval/final/reliability@protocol": lambda f: f["/eval/final/reliability"].attrs.__delitem__("protocol"),
    "/eval/final/generality@n": lambda f: f["/eval/final/generality"].attrs.__setitem__("n", 3),
    "/routing/consistency: row 0 sums to": lambda f: f["/routing/consistency"].__setitem__(0, 0.5),
    "/train/loss@volatile": lambda f: f["/train/loss"].attrs.__setitem__("volatile", 1),
    "/cost/tokens: _FillValue": lambda f: f["/cost/tokens"].attrs.__delitem__("_FillValue"),
    "/@status: 'done'": lambda f: f.attrs.__setitem__("status", "done"),
    "/@schema_version: 2": lambda f: f.attrs.__setitem__("schema_version", 2),
    "/@run_id: missing": lambda f: f.attrs.__delitem__("run_id"),
    "/@volatile_attributes: git_commit is missing": lambda f: f.attrs.__setitem__("volatile_attributes", "hosts"),
    "/more: creation order is not tracked": lambda f: f.create_group("/more"),
    "/edit_index: values are not a plain count": lambda f: f["/edit_index"].__setitem__(0, 5),
}


class Accepts(Case):
    def test_everything_published(self):
        done = script("check", SWEEP, LOST, FAILED)
        self.assertEqual(done.returncode, 0, done.stdout)
        files = sum(len(run_files(folder)) + 1 for folder in (SWEEP, LOST, FAILED))
        self.assertEqual(done.stdout.count(": valid\n"), files)
        self.assertIn(f"{files} files, 0 with something wrong", done.stderr)


class Refuses(Case):
    def test_each_break_by_its_place(self):
        schema = read_schema(None)
        run = find("lemoe", preset="stable")
        for place, spoil in BREAKS.items():
            with self.subTest(place):
                path = self.change(self.copy(run, "broken.h5"), spoil)
                with h5py.File(path) as file:
                    violations = Checker(file, schema).run()
                self.assertTrue(any(place in v for v in violations), violations)

    def test_script_names_file_and_place(self):
        path = self.change(self.copy(find("moe")), BREAKS["/@status: 'done'"])
        done = script("check", path)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stdout, f"{path}: /@status: 'done'\n")

    def test_spoilt_sweep_table(self):
        path = self.change(
            self.copy(SWEEP / "sweep.h5"), lambda f: f["/final/locality"].attrs.__setitem__("moment", "base")
        )
        done = script("check", path)
        self.assertIn("/final/locality@moment: 'base' where 'final' is due", done.stdout)

    def test_files_that_cannot_be_opened(self):
        for name, data in (
            ("empty.h5", b""),
            ("text.h5", b"no HDF5"),
            ("torn.h5", run_files()[0].read_bytes()[:20000]),
        ):
            path = self.folder / name
            path.write_bytes(data)
            done = script("check", path)
            self.assertEqual(done.returncode, 1)
            self.assertEqual(len(done.stdout.splitlines()), 1, done.stdout)
            self.assertIn(f"{path}: not a readable HDF5 file", done.stdout)
            self.assertNotIn("Traceback", done.stderr)

    def test_wrong_schema(self):
        schema = self.folder / "schema.json"
        schema.write_text(json.dumps({"schema_version": 1}))
        self.assert_one_message(script("check", SWEEP, "--schema", schema), str(schema), "not a schema")
        full = dict(read_schema(None), schema_version=99)
        schema.write_text(json.dumps(full))
        done = script("check", run_files()[0], "--schema", schema)
        self.assertIn("/@schema_version: 1", done.stdout)

    def test_nothing_to_check(self):
        self.assert_one_message(script("check", self.folder / "nowhere"), "no such file or folder")
        self.assert_one_message(script("check", self.folder), "no results there")
        self.assert_one_message(script("check", SWEEP, LEMOE_RUN="/nonexistent"), "/nonexistent --describe-schema")


class Values(Case):
    def test_nan_fill_is_no_violation(self):
        path = self.copy(find("ft_m"))
        self.change(path, lambda f: f["/eval/final/reliability"].__setitem__(0, np.nan))
        done = script("check", path)
        self.assertIn("/eval/final/reliability@n: 60, not 59", done.stdout, "a value less is noticed by its count")
        self.assertEqual(len(done.stdout.splitlines()), 1)


if __name__ == "__main__":
    unittest.main()
