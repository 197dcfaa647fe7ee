"""Order: every run a point, planner by planner."""

import unittest

import numpy as np
from cases import METRICS, Case, find, raw, sweep
from lemoe_analysis import load, order, style
from matplotlib.collections import PathCollection


class Numbers(Case):
    @classmethod
    def setUpClass(cls):
        style.use()
        cls.made = order.build(sweep())

    def test_points_are_runs(self):
        frame = self.made.pictures[0].numbers
        self.assertEqual(len(frame), 16)
        run = find("moe", "kmeans", "1")
        row = frame[frame.run == run.id].iloc[0]
        self.assertEqual((row.planner, row.order), ("kmeans", "kmeans-0"))
        means = [np.nanmean(raw(run, f"/eval/final/{metric}")) for metric in METRICS]
        np.testing.assert_allclose([row[metric] for metric in METRICS], means)
        self.assertAlmostEqual(row.average, np.mean(means), 12)

    def test_every_run_is_drawn(self):
        axes = self.made.pictures[0].figure.axes
        points = [c.get_offsets() for c in axes[0].collections if isinstance(c, PathCollection)]
        drawn = np.sort(np.concatenate(points)[:, 1])
        np.testing.assert_allclose(drawn, np.sort(self.made.pictures[0].numbers.reliability))
        self.assertEqual([tick.get_text() for tick in axes[2].get_xticklabels()], ["file", "k-means"])

    def test_spread_by_planner_and_over_all(self):
        frame = self.made.tables[0].numbers
        self.assertEqual(list(frame[frame.method == "FT-M"].planner), ["file", "kmeans", "all"])
        runs = [find("moe", planner, seed) for planner in ("file", "kmeans") for seed in "01"]
        values = np.array([np.nanmean(raw(run, "/eval/final/reliability")) for run in runs])
        row = frame[(frame.method == "MoE") & (frame.planner == "all")].iloc[0]
        self.assertEqual((row.runs, row.orders), (4, 2))
        for name, wanted in (("reliability", values.mean()), ("reliability_std", values.std(ddof=1)),
                             ("reliability_min", values.min()), ("reliability_max", values.max())):  # fmt: skip
            self.assertAlmostEqual(row[name], wanted, 12)

    def test_one_order_is_no_spread_and_said_so(self):
        made = order.build(load.open_results([find("moe").path]))
        self.assertEqual(made.items, [])
        self.assertIn("one editing order", made.notes[0])

    def test_planners_stand_in_one_order(self):
        self.assertEqual(order.sort_planners(["zigzag", "kmeans", "file", "kmeans"]), ["file", "kmeans", "zigzag"])


if __name__ == "__main__":
    unittest.main()
