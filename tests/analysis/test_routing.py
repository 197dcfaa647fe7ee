"""Routing: the consistency matrix and what else is drawn, recomputed from the routes in the files."""

import unittest

import numpy as np
from cases import Case, find, raw, sweep
from lemoe_analysis import routing, style

STABLE = [("lemoe", planner, seed, "stable") for planner in ("file", "kmeans") for seed in "01"]
PAPER = [(*key[:3], "paper") for key in STABLE]


class Numbers(Case):
    @classmethod
    def setUpClass(cls):
        style.use()
        cls.made = routing.build(sweep())

    def numbers(self, name):
        return self.made.item(name).numbers

    def test_pictures(self):
        self.assertEqual([i.name for i in self.made.items], ["routing", "consistency", "agreement", "gates", "margins"])

    def test_consistency_matrix_from_the_routes_of_every_edit(self):
        frame = self.numbers("consistency")
        for label, keys in (("LEMoE (paper)", PAPER), ("LEMoE (stable)", STABLE)):
            matrices = []
            for key in keys:
                trained, final = (raw(find(*key), f"/routing/{name}_expert") for name in ("train", "final"))
                counts = np.zeros((3, 4))
                for i, j in zip(trained, final):
                    counts[i, j] += 1  # -1, no expert, is the last column
                matrices.append(counts / counts.sum(axis=1, keepdims=True))
            own = frame[frame.method == label].pivot(index="trained expert", columns="final expert", values="share")
            np.testing.assert_allclose(own[[0, 1, 2, -1]], np.mean(matrices, axis=0), atol=1e-12)

    def test_rows_sum_to_one_and_the_picture_shows_them(self):
        frame = self.numbers("consistency")
        sums = frame.groupby(["method", "trained expert"]).share.sum()
        np.testing.assert_allclose(sums[sums > 0], 1)
        shown = self.made.item("consistency").figure.axes[0]
        own = frame[frame.method == shown.get_title()].pivot(
            index="trained expert", columns="final expert", values="share"
        )
        image = shown.images[0].get_array()
        np.testing.assert_allclose(image[:, :-1], own.drop(columns=-1))
        np.testing.assert_allclose(image[:, -1], own[-1])
        self.assertEqual(shown.get_xticklabels()[-1].get_text(), "none")
        self.assertEqual(len(shown.texts), image.size, "every cell has its value")

    def test_agreement_at_the_end_is_the_share_of_kept_routes(self):
        frame = self.numbers("agreement")
        for key in (*PAPER[:1], *STABLE[3:]):
            run = find(*key)
            trained = raw(run, "/routing/train_expert")
            for text, name in (("prompt", "final"), ("paraphrase", "paraphrase")):
                kept = (raw(run, f"/routing/{name}_expert") == trained).mean()
                own = frame[(frame.run == run.id) & (frame.text == text)].set_index("edits").agreement
                self.assertAlmostEqual(own[60], kept, 12)

    def test_gates_by_batch(self):
        run = find(*PAPER[2])
        batch = raw(run, "/plan/batch")
        own = self.numbers("gates").query("run == @run.id").set_index("batch")
        for b in range(3):
            before, after = (raw(run, f"/routing/gate_{m}")[batch == b].mean() for m in ("train", "final"))
            self.assertAlmostEqual(own.gate_train[b], before, 12)
            self.assertAlmostEqual(own.drift[b], after - before, 12)

    def test_margins_of_every_edit(self):
        frame = self.numbers("margins")
        run = find(*STABLE[0])
        own = frame[frame.run == run.id]
        np.testing.assert_array_equal(own.margin, raw(run, "/routing/margin"))
        np.testing.assert_array_equal(own.kept, raw(run, "/routing/final_expert") == raw(run, "/routing/train_expert"))
        self.assertNotIn("MoE", {axis.get_title() for axis in self.made.item("margins").figure.axes}, "it has none")

    def test_table(self):
        row = self.numbers("routing").set_index("method").loc["LEMoE (stable)"]
        runs = [find(*key) for key in STABLE]
        diagonals = [np.nanmean(np.diagonal(raw(run, "/routing/consistency"))) for run in runs]
        self.assertAlmostEqual(row.consistency, np.mean(diagonals), 12)
        to_none = [(raw(run, "/routing/locality_expert") == -1).mean() for run in runs]
        self.assertAlmostEqual(row.locality_to_none, np.mean(to_none), 12)

    def test_an_expert_on_which_nothing_was_trained_is_left_out(self):
        matrix = np.array([[1.0, 0, 0], [np.nan, np.nan, np.nan]])
        self.assertEqual(routing.mean_diagonal(matrix), 1.0)


if __name__ == "__main__":
    unittest.main()
