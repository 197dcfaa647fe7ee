"""Similarity: within and between batches, and correlations, against other ways to compute them."""

import unittest

import numpy as np
import pandas as pd
from cases import Case, find, raw, sweep
from lemoe_analysis import similarity, style


class Numbers(Case):
    @classmethod
    def setUpClass(cls):
        style.use()
        cls.made = similarity.build(sweep())
        cls.frame = cls.made.pictures[0].numbers

    def test_points_are_batches(self):
        self.assertEqual(len(self.frame), 16 * 3)
        run = find("moe", "kmeans")
        matrix = raw(run, "/plan/similarity")
        own = self.frame[self.frame.run == run.id].set_index("batch")
        for b in range(3):
            self.assertAlmostEqual(own.within[b], matrix[b, b], 12)
            self.assertAlmostEqual(own.between[b], (matrix[b].sum() - matrix[b, b]) / 2, 12)
            final = raw(run, "/eval/final/reliability")[raw(run, "/plan/batch") == b]
            self.assertAlmostEqual(own.reliability[b], final.mean(), 12)

    def test_run_level_is_the_plans_within_and_between(self):
        run = find("moe", "kmeans")
        matrix = raw(run, "/plan/similarity")
        row = similarity.run_frame(self.frame).query("run == @run.id").iloc[0]
        self.assertAlmostEqual(row.within, np.diagonal(matrix).mean(), 12)
        self.assertAlmostEqual(row["between"], matrix[np.triu_indices(3, 1)].mean(), 12)  # mean over pairs b < c
        self.assertAlmostEqual(row.difference, row["within"] - row["between"], 12)

    def test_correlations(self):
        table = self.made.tables[0].numbers
        own = self.frame[self.frame.method == "MoE"]
        row = table[(table.method == "MoE") & (table.unit == "batches") & (table.similarity == "within")].iloc[0]
        self.assertEqual(row.n, 12)
        self.assertAlmostEqual(row.r, own[["within", "reliability"]].corr().iloc[0, 1], 12)
        self.assertAlmostEqual(row.rho, own[["within", "reliability"]].corr(method="spearman").iloc[0, 1], 12)

    def test_correlation_of_what_does_not_vary(self):
        one, two = pd.Series([1.0, 1, 1]), pd.Series([1.0, 2, 3])
        self.assertTrue(np.isnan(similarity.correlate(one, two)[0]))
        self.assertTrue(np.isnan(similarity.correlate(two[:2], two[:2])[0]), "two points lie on a line anyway")
        r, rho, n = similarity.correlate(pd.Series([1, 2, 3, np.nan]), pd.Series([1, 4, 9, 2.0]))
        self.assertEqual((round(rho, 12), n), (1.0, 3))
        self.assertLess(r, 1)

    def test_points_in_the_picture(self):
        axis = self.made.pictures[0].figure.axes[0]
        drawn = np.concatenate([c.get_offsets() for c in axis.collections])
        np.testing.assert_allclose(np.sort(drawn[:, 0]), np.sort(self.frame.within))
        self.assertIn("cosine similarity", axis.get_xlabel())

    def test_a_batch_without_pairs_has_no_similarity(self):
        within, between = similarity.batch_similarities(np.array([[np.nan, 0.5], [0.5, 0.9]]))
        np.testing.assert_array_equal(within, [np.nan, 0.9])
        np.testing.assert_array_equal(between, [0.5, 0.5])
        self.assertTrue(np.isnan(similarity.batch_similarities(np.array([[0.9]]))[1][0]))


if __name__ == "__main__":
    unittest.main()
