"""The main tables: numbers against plain means of what lies in the files, and the files they are written to."""

import csv
import unittest

import h5py
import numpy as np
from cases import METRICS, SCORERS, SWEEP, Case, find, raw, run_files, script, sweep
from lemoe_analysis import load, section, table


def by_hand(method, preset, path):
    """Means of each of a method's runs, straight from the files."""
    means = []
    for file_path in run_files():
        with h5py.File(file_path) as file:
            text = file.attrs["config_yaml"]
            if f"method: {method}\n" in text and (not preset or f"preset: {preset}\n" in text):
                means.append(float(np.nanmean(file[path][...])))
    return np.array(means)


class Numbers(Case):
    def test_mean_and_spread_over_seeds_and_orders(self):
        for scorer, ending in (("tok", ""), ("all", "_all")):
            for moment in ("final", "immediate"):
                frame = table.score_frame(sweep(), moment, scorer).set_index("method")
                for label, method, preset in (("LEMoE (paper)", "lemoe", "paper"), ("MoE", "moe", None)):
                    means = {m: by_hand(method, preset, f"/eval/{moment}/{m}{ending}") for m in METRICS}
                    row = frame.loc[label]
                    for metric, values in means.items():
                        self.assertAlmostEqual(row[metric], values.mean(), 12)
                        self.assertAlmostEqual(row[f"{metric}_std"], values.std(ddof=1), 12)
                    average = np.mean(list(means.values()), axis=0)
                    self.assertAlmostEqual(row["average"], average.mean(), 12)
                    self.assertAlmostEqual(row["average_std"], average.std(ddof=1), 12)
                    self.assertEqual((row.runs, row.seeds, row.orders), (4, 2, 2))
                    self.assertEqual(row.reliability_edits, 240)

    def test_the_unedited_model_comes_first(self):
        frame = table.score_frame(sweep(), "final", "tok")
        self.assertEqual(frame.method[0], table.BASE)
        self.assertAlmostEqual(frame.reliability[0], raw(find("none"), "/eval/base/reliability").mean(), 12)
        self.assertEqual(frame.locality[0], 1.0)

    def test_without_a_run_that_edits_nothing_the_base_row_is_what_runs_scored_first(self):
        frame = table.score_frame(load.open_results([find("moe").path]), "final", "tok")
        self.assertEqual((frame.method[0], frame.moment[0]), (table.BASE, "base"))
        self.assertAlmostEqual(frame.generality[0], raw(find("moe"), "/eval/base/generality").mean(), 12)
        self.assertTrue(np.isnan(frame.locality[0]), "locality before any edit is no measurement")

    def test_other_kinds_of_locality(self):
        frame = table.score_frame(sweep(), "final", "all").set_index("method")
        self.assertAlmostEqual(
            frame.loc["FT-M"].locality_far, by_hand("ft_m", None, "/eval/final/locality_far_all").mean(), 12
        )
        self.assertEqual(table.kinds_of_locality(sweep().complete, "final", "tok"), ["locality_far", "locality_same"])

    def test_rows_by_planner(self):
        frame = table.score_frame(sweep(), "final", "tok", ["order.planner"]).set_index("method")
        runs = [find("moe", "kmeans", seed) for seed in "01"]
        wanted = np.mean([raw(run, "/eval/final/reliability").mean() for run in runs])
        self.assertAlmostEqual(frame.loc["MoE, planner kmeans"].reliability, wanted, 12)

    def test_missing_scores_are_said(self):
        results = load.open_results([SWEEP, *run_files(SCORERS)])
        notes = "\n".join(table.build(results).notes)
        self.assertIn(f"{run_files(SCORERS)[0].stem} has no /eval/final/reliability", notes)
        row = table.score_frame(results, "final", "all").set_index("method").loc["FT-M"]
        self.assertEqual(row.runs, 5)

    def test_perplexity(self):
        run = find("moe")
        per_edit = raw(run, "/eval/final/target_nll") / raw(run, "/edit/target_tokens")
        found = table.perplexities(run, "final")
        self.assertAlmostEqual(found["mean"], np.exp(per_edit).mean(), 9)
        self.assertAlmostEqual(found["median"], np.median(np.exp(per_edit)), 9)
        self.assertAlmostEqual(found["of mean"], np.exp(per_edit.mean()), 9)

    def test_bold_is_the_best_edited_method_as_printed(self):
        made = table.score_table(sweep(), "final", "tok")
        edited = made.numbers[made.numbers.method != table.BASE]
        for metric, head in (("reliability", "Rel"), ("locality", "Loc")):
            best = edited[metric].round(3) == edited[metric].round(3).max()
            self.assertEqual(list(made.best[head][1:]), list(best))
        self.assertFalse(made.best.iloc[0].any())


class Files(Case):
    def test_csv_latex_and_text(self):
        done = script("table", SWEEP, "--output", self.folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(self.folder / "scores-final-tok.csv", encoding="utf-8") as file:
            rows = {row["method"]: row for row in csv.DictReader(file)}
        wanted = by_hand("lemoe", "stable", "/eval/final/reliability").mean()
        self.assertAlmostEqual(float(rows["LEMoE (stable)"]["reliability"]), wanted, 12)
        latex = (self.folder / "scores-final-tok.tex").read_text("utf-8")
        for part in (r"\toprule", r"\midrule", r"\bottomrule", r"LEMoE (stable) & ", rf"{wanted:.3f} $\pm$"):
            self.assertIn(part, latex)
        self.assertEqual(latex.count("{"), latex.count("}"))
        self.assertIn(f"LEMoE (stable)  {wanted:.3f} ±", done.stdout)
        self.assertEqual([p for p in self.folder.iterdir() if p.name.startswith(".")], [])

    def test_latex_of_odd_characters(self):
        import pandas as pd

        frame = pd.DataFrame({"Method": [r"a_b & 100% \{x} ^~"]})
        latex = section.as_latex(section.Table("t", "Caption_1", frame, frame))
        self.assertIn(r"a\_b \& 100\% \textbackslash{}\{x\} \textasciicircum{}\textasciitilde{}", latex)
        self.assertIn(r"\caption{Caption\_1}", latex)

    def test_numbers_as_text(self):
        self.assertEqual(section.number(-0.0001), "0.000")
        self.assertEqual(section.number(-0.25, 2), "−0.25")
        self.assertEqual(section.number(float("nan")), "–")
        self.assertEqual(section.with_spread(0.5, 0.1, 1), "0.500")
        self.assertEqual(section.bytes_text(3 * 2**20), "3.00 MiB")


if __name__ == "__main__":
    unittest.main()
