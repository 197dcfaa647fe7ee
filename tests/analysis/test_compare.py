"""compare.py: differences in configuration and in numbers, by method and by edit."""

import csv
import unittest

import numpy as np
from cases import SWEEP, Case, find, raw, script

PAPER, STABLE = ("lemoe", "file", "0", "paper"), ("lemoe", "kmeans", "1", "stable")


class Runs(Case):
    def compare(self, a, b):
        done = script("compare", a, b, "--output", self.folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        tables = {}
        for path in self.folder.glob("*.csv"):
            with open(path, encoding="utf-8") as file:
                tables[path.stem] = list(csv.DictReader(file))
        return done.stdout, tables

    def test_edits_are_paired_by_record_whatever_their_order(self):
        a, b = find(*PAPER), find(*STABLE)
        text, tables = self.compare(a.path, b.path)
        by_record = [dict(zip(raw(run, "/edit/record"), raw(run, "/eval/final/reliability"))) for run in (a, b)]
        differences = np.array([by_record[1][record] - by_record[0][record] for record in by_record[0]])
        row = next(r for r in tables["compare-edits"] if (r["moment"], r["metric"]) == ("final", "reliability"))
        self.assertAlmostEqual(float(row["difference"]), differences.mean(), 12)
        self.assertAlmostEqual(float(row["standard_error"]), differences.std(ddof=1) / np.sqrt(60), 12)
        self.assertEqual((int(row["better"]), int(row["worse"])), ((differences > 0).sum(), (differences < 0).sum()))
        moved = tables["compare-moved"]
        changes = [abs(float(r["B"]) - float(r["A"])) for r in moved]
        self.assertEqual(changes, sorted(np.abs(differences), reverse=True)[: len(moved)])
        keys = {r["key"]: (r["A"], r["B"]) for r in tables["compare-config"]}
        self.assertEqual(keys["lemoe.preset"], ("paper", "stable"))
        self.assertEqual(keys["order.planner"], ("file", "kmeans"))
        self.assertEqual(keys["seed"], ("0", "1"))
        self.assertNotIn("lemoe.lr", keys)
        self.assertIn("lemoe.preset", text)

    def test_a_run_and_itself(self):
        text, tables = self.compare(find(*PAPER).path, find(*PAPER).path)
        self.assertIn("Configuration and provenance are equal.", text)
        self.assertTrue(all(float(row["difference"]) == 0 for row in tables["compare-edits"]))

    def test_folders_method_by_method(self):
        _, tables = self.compare(SWEEP, find("moe").path)
        row = next(
            r
            for r in tables["compare-methods"]
            if (r["method"], r["moment"], r["metric"]) == ("MoE", "final", "locality")
        )
        runs = [find("moe", planner, seed) for planner in ("file", "kmeans") for seed in "01"]
        means = [np.nanmean(raw(run, "/eval/final/locality")) for run in runs]
        self.assertAlmostEqual(float(row["A"]), np.mean(means), 12)
        self.assertAlmostEqual(float(row["B"]), means[0], 12)
        self.assertEqual((row["runs_A"], row["runs_B"]), ("4", "1"))
        only_a = next(r for r in tables["compare-methods"] if r["method"] == "FT-M")
        self.assertEqual((only_a["B"], only_a["runs_B"]), ("", "0"))


class Refuses(Case):
    def test_other_protocol(self):
        other = self.change(
            self.copy(find("moe")), lambda f: f["/eval/final/locality"].attrs.__setitem__("protocol", "free")
        )
        self.assert_one_message(script("compare", find("moe").path, other), "protocol", "'free'", str(other))

    def test_other_data(self):
        other = self.change(self.copy(find("moe")), lambda f: f.attrs.__setitem__("data_fingerprint", "0"))
        self.assert_one_message(script("compare", find("moe").path, other), "no dataset in common")


if __name__ == "__main__":
    unittest.main()
