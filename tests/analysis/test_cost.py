"""Cost: time and memory by method; predictions against measurements where files hold them."""

import unittest

import h5py
import numpy as np
from cases import Case, find, raw, sweep
from lemoe_analysis import cost, load, style


class Numbers(Case):
    @classmethod
    def setUpClass(cls):
        style.use()
        cls.made = cost.build(sweep())

    def test_one_row_a_run(self):
        frame = self.made.pictures[0].numbers
        self.assertEqual(len(frame), 17)
        run = find("moe", "kmeans", "1")
        row = frame[frame.run == run.id].iloc[0]
        seconds = raw(run, "/cost/seconds").sum()
        self.assertAlmostEqual(row.seconds_per_edit, seconds / 60, 12)
        self.assertEqual(row.peak_bytes, raw(run, "/cost/peak_bytes").max())
        steps = raw(run, "/train/seconds")
        self.assertAlmostEqual(row.tokens_per_second, raw(run, "/cost/tokens").sum() / steps.sum(), 6)
        self.assertAlmostEqual(row.step_seconds, np.median(steps), 12)
        saved = run.path.with_suffix("") / "adaptor.safetensors"
        self.assertAlmostEqual(row.saved_bytes_per_edit, saved.stat().st_size / 60, 9)

    def test_table_is_the_mean_by_method(self):
        runs, table = self.made.pictures[0].numbers, self.made.tables[0].numbers.set_index("method")
        for method, own in runs.groupby("method"):
            self.assertAlmostEqual(table.loc[method].seconds_per_edit, own.seconds_per_edit.mean(), 12)
            self.assertEqual(table.loc[method].runs, len(own))

    def test_times_of_different_machines_are_not_averaged(self):
        run = find("moe")
        other = self.change(self.copy(run), lambda f: f.attrs.__setitem__("tensor_parallel", np.int64(4)))
        self.change(other, lambda f: f.attrs.__setitem__("identity", "another"))
        made = cost.build(load.open_results([run.path, other]))
        self.assertEqual(len(made.tables[0].numbers), 2)
        self.assertIn("Machine", made.tables[0].shown)

    def predict(self, file: h5py.File):
        """What a program that plans would have written."""
        for name, values in (("predicted_bytes", np.full(3, 7_000_000)), ("predicted_step_seconds", np.full(3, 0.5))):
            if name in file["/cost"]:
                del file[f"/cost/{name}"]
            dataset = file["/cost"].create_dataset(name, data=values)
            dataset.dims[0].label = "batch"

    def test_predicted_against_measured(self):
        run = find("moe")
        path = self.change(self.copy(run), self.predict)
        made = cost.build(load.open_results([path]))
        frame = made.item("predicted").numbers.set_index("quantity")
        self.assertEqual(frame.loc["peak memory"].predicted, 7_000_000)
        self.assertAlmostEqual(frame.loc["peak memory"].ratio, raw(run, "/cost/peak_bytes").max() / 7_000_000, 12)
        self.assertAlmostEqual(frame.loc["step"].measured, np.median(raw(run, "/train/seconds")), 12)
        self.assert_not_cut_off(made.item("predicted"))

    def test_missing_predictions_are_said(self):
        def forget(file):
            for name in [n for n in file["/cost"] if n.startswith("predicted")]:
                del file[f"/cost/{name}"]

        made = cost.build(load.open_results([self.change(self.copy(find("moe")), forget)]))
        self.assertIn("no predictions", made.notes[0])
        self.assertEqual(len(made.pictures), 1)


if __name__ == "__main__":
    unittest.main()
