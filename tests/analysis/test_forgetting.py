"""Forgetting: the numbers behind each picture, recomputed from the files."""

import unittest

import numpy as np
from cases import METRICS, Case, find, raw, sweep
from lemoe_analysis import forgetting, groups, style


class Numbers(Case):
    @classmethod
    def setUpClass(cls):
        style.use()
        cls.made = forgetting.build(sweep())
        (cls.block,) = groups.blocks_of(sweep().complete)

    def numbers(self, name):
        return self.made.item(name).numbers

    def test_all_pictures_are_there(self):
        self.assertEqual([item.name for item in self.made.items],
                         ["forgetting", "forgetting-scatter", "forgetting-stream", "retention",
                          *(f"milestones-{metric}" for metric in METRICS)])  # fmt: skip
        self.assertEqual(self.made.notes, [])

    def test_scatter_holds_each_batch_of_each_run(self):
        frame = self.numbers("forgetting-scatter")
        self.assertEqual(len(frame), 16 * 3 * 3)  # runs that edit, batches, metrics
        run = find("moe", "kmeans", "1")
        batch = raw(run, "/plan/batch")
        for metric in METRICS:
            own = frame[(frame.run == run.id) & (frame.metric == metric)].set_index("batch")
            for b in range(3):
                before, after = (
                    np.nanmean(raw(run, f"/eval/{m}/{metric}")[batch == b]) for m in ("immediate", "final")
                )
                self.assertAlmostEqual(own.immediate[b], before, 12)
                self.assertAlmostEqual(own.final[b], after, 12)
                self.assertAlmostEqual(own.forgetting[b], before - after, 12)

    def test_the_last_batch_has_forgotten_nothing(self):
        frame = self.numbers("forgetting-scatter")
        self.assertTrue((frame[frame.batch == 2].forgetting.abs() < 1e-12).all())

    def test_stream_is_mean_and_spread_over_runs(self):
        points, stream = self.numbers("forgetting-scatter"), self.numbers("forgetting-stream")
        own = points[(points.method == "LEMoE (paper)") & (points.metric == "reliability") & (points.batch == 0)]
        row = stream[(stream.method == "LEMoE (paper)") & (stream.metric == "reliability") & (stream.batch == 0)].iloc[
            0
        ]
        self.assertEqual(row.runs, 4)
        self.assertAlmostEqual(row["mean"], own.forgetting.mean(), 12)
        self.assertAlmostEqual(row["std"], own.forgetting.std(ddof=1), 12)

    def test_table_agrees_with_whole_runs(self):
        frame = self.numbers("forgetting")
        row = frame[(frame.method == "MoE") & (frame.metric == "reliability")].iloc[0]
        runs = [find("moe", planner, seed) for planner in ("file", "kmeans") for seed in "01"]
        changes = [
            np.nanmean(raw(r, "/eval/immediate/reliability")) - np.nanmean(raw(r, "/eval/final/reliability"))
            for r in runs
        ]
        self.assertAlmostEqual(row.forgetting, np.mean(changes), 12)
        self.assertAlmostEqual(row.forgetting_std, np.std(changes, ddof=1), 12)
        self.assertAlmostEqual(row.immediate - row.final, row.forgetting, 12)

    def test_milestone_matrix_is_the_mean_of_the_files_matrices(self):
        frame = self.numbers("milestones-generality")
        runs = [find("lemoe", planner, seed, "stable") for planner in ("file", "kmeans") for seed in "01"]
        mean = np.mean([raw(run, "/eval/milestone/generality") for run in runs], axis=0)
        done = raw(runs[0], "/eval/milestone/batches")
        own = frame[frame.method == "LEMoE (stable)"].set_index(["batches edited", "batch"]).score
        for t, after in enumerate(done):
            for s in range(after):
                self.assertAlmostEqual(own[after, s], mean[t, s], 12)
        self.assertEqual(len(own), sum(done), "only what was edited by then")

    def test_the_last_milestone_is_the_final_score(self):
        run = find("ft_m")
        np.testing.assert_allclose(raw(run, "/eval/milestone/reliability")[-1], run.by_batch("/eval/final/reliability"))

    def test_retention_weighs_batches_by_their_edits(self):
        frame = self.numbers("retention")
        run = find("ft_m", "kmeans", "1")
        own = frame[(frame.run == run.id) & (frame.metric == "locality")].set_index("edits").score
        self.assertEqual(list(own.index), [20, 40, 60])
        self.assertAlmostEqual(own[60], np.nanmean(raw(run, "/eval/final/locality")), 12)

    def test_curves_show_these_numbers(self):
        figure = self.made.item("retention").figure
        frame = self.numbers("retention")
        axis = figure.axes[0]
        lines = {c.get_label(): c.lines[0] for c in axis.containers}
        for method, own in frame[frame.metric == "reliability"].groupby("method"):
            np.testing.assert_allclose(lines[method].get_ydata().astype(float), own.groupby("edits").score.mean())
        self.assertEqual(axis.get_xlabel(), "edits so far")

    def test_heat_map_shows_the_matrix(self):
        figure = self.made.item("milestones-reliability").figure
        matrix = forgetting.milestone_matrix(self.block.edited[0], "reliability")
        np.testing.assert_array_equal(figure.axes[0].images[0].get_array().filled(np.nan), matrix.to_numpy())


if __name__ == "__main__":
    unittest.main()
