"""The loader: what it reads, what it calls things, what it refuses."""

import unittest

import h5py
import numpy as np
from cases import FAILED, LOST, SCORERS, SWEEP, Case, find, raw, run_files, sweep
from lemoe_analysis import groups, load
from lemoe_analysis.common import ResultsError


class Reads(Case):
    def test_every_run_of_a_sweep_is_an_entry(self):
        self.assertEqual({entry.id for entry in sweep().entries}, {path.stem for path in run_files()})
        self.assertEqual({entry.status for entry in sweep().entries}, {"complete"})
        self.assertEqual(sweep().notes, [])
        self.assertEqual(len(sweep().complete), 17)

    def test_paths_of_every_kind(self):
        for path in (SWEEP, SWEEP / "runs", SWEEP / "sweep.h5"):
            self.assertEqual(len(load.open_results([path]).complete), 17)
        two = load.open_results(run_files()[:2])
        self.assertEqual([run.path for run in two.complete], run_files()[:2])

    def test_frames_hold_what_the_file_holds(self):
        run = find("lemoe", preset="stable")
        frame = run.frame("edit")
        self.assertEqual(len(frame), 60)
        for path in ("/eval/final/reliability", "/routing/margin", "/plan/batch", "/edit/record"):
            np.testing.assert_array_equal(frame[path], raw(run, path))
        with h5py.File(run.path) as file:
            self.assertEqual(list(frame["/edit/prompt"]), list(file["/edit/prompt"].asstr()[:]))
            along_edit = [n for n in file["/eval/final"] if file["/eval/final"][n].dims[0].label == "edit"]
        self.assertEqual({c.rsplit("/", 1)[1] for c in frame if c.startswith("/eval/final/")}, set(along_edit))
        self.assertEqual(list(run.frame("step").columns), [c for c in run.variables if c.startswith("/train/")])
        np.testing.assert_array_equal(run.matrix("/routing/consistency"), raw(run, "/routing/consistency"))
        self.assertEqual(run.matrix("/routing/consistency").columns.name, "expert_final")

    def test_xarray_has_every_dataset_and_its_attributes(self):
        run = find("moe")
        dataset = run.xarray()
        self.assertEqual(len(dataset), len(run.variables))
        self.assertEqual(dataset.eval_final_reliability.dims, ("edit",))
        self.assertEqual(dataset.eval_final_reliability.attrs["scorer"], "tok")
        np.testing.assert_array_equal(dataset.plan_similarity, raw(run, "/plan/similarity"))
        self.assertEqual(dataset.attrs["run_id"], run.id)

    def test_means_by_batch(self):
        run = find("ft_m")
        values, batch = raw(run, "/eval/final/generality"), raw(run, "/plan/batch")
        wanted = [np.nanmean(values[batch == b]) for b in range(3)]
        np.testing.assert_allclose(run.by_batch("/eval/final/generality"), wanted, rtol=1e-14)

    def test_configuration_is_text_by_dotted_key(self):
        run = find("lemoe", preset="paper")
        self.assertEqual(run.config["lemoe.lr"], "0.001")
        self.assertEqual(run.config["eval.scorers"], "tok all")
        self.assertEqual(run.config["lemoe.expert.kind"], "ffn")

    def test_the_same_run_twice_counts_once(self):
        results = load.open_results([SWEEP, self.copy(find("moe"))])
        self.assertEqual(len(results.complete), 17)
        (repeated,) = results.left_out
        self.assertEqual((repeated.status, repeated.id), ("repeated", find("moe").id))

    def test_a_run_is_read_again_when_published_again(self):
        path = self.copy(find("moe"))
        first = load.read_run(path)
        self.assertIs(load.read_run(path), first)
        self.change(path, lambda file: file.attrs.__setitem__("device", "another"))
        self.assertEqual(load.read_run(path).attributes["device"], "another")


class Statuses(Case):
    def test_lost_waiting_and_failed_runs_are_entries_and_not_in_the_numbers(self):
        lost = {entry.status: entry for entry in load.open_results([LOST]).entries}
        self.assertEqual(set(lost), {"complete", "lost", "waiting"})
        self.assertIn("of 3 batches done", lost["lost"].reason)
        self.assertIsNone(lost["waiting"].run)
        self.assertEqual(len(load.open_results([LOST]).complete), 1)
        (failed,) = load.open_results([FAILED]).left_out
        self.assertEqual(failed.status, "failed")
        self.assertIn("nan", failed.reason)

    def test_without_the_program_statuses_are_the_files(self):
        import os
        from unittest import mock

        with mock.patch.dict(os.environ, {"LEMOE_RUN": "/nonexistent/lemoe-run"}):
            results = load.open_results([LOST])
        self.assertEqual({entry.status for entry in results.entries}, {"complete", "running", "waiting"})
        self.assertEqual(len(results.notes), 1)
        self.assertIn("a lost run reads running", results.notes[0])

    def test_a_file_behind_its_journal_is_not_taken_for_complete(self):
        import shutil

        folder = self.folder / "out"
        (folder / "runs").mkdir(parents=True)
        run = find("ft_m")
        for path in (run.path, run.path.with_suffix(".journal")):
            shutil.copy(path, folder / "runs")
        self.change(folder / "runs" / run.path.name, lambda file: file.attrs.__setitem__("status", "running"))
        (entry,) = load.open_results([folder]).entries
        self.assertEqual(entry.status, "unpublished")
        self.assertFalse(entry.is_counted)

    def test_salvaged_results_do_not_count(self):
        path = self.change(self.copy(find("ft_m")), lambda file: file.attrs.__setitem__("salvaged_bytes", 17))
        (entry,) = load.open_results([path]).entries
        self.assertEqual(entry.status, "salvaged")

    def test_one_unreadable_file_among_good_ones_is_shown(self):
        good = self.copy(find("ft_m"))
        folder = self.folder / "out" / "runs"
        folder.mkdir(parents=True)
        good.rename(folder / good.name)
        (folder / "torn.h5").write_bytes((folder / good.name).read_bytes()[:5000])
        (folder / ".half.h5").write_bytes(b"being written")
        results = load.open_results([folder.parent])
        self.assertEqual({e.id: e.status for e in results.entries}, {find("ft_m").id: "complete", "torn": "unreadable"})


class Refuses(Case):
    def test_other_protocols_scorers_and_moments(self):
        one = find("moe")
        for name, value in (("protocol", "free_decoding"), ("scorer", "all"), ("moment", "immediate")):
            path = self.copy(one, f"{name}.h5")
            self.change(path, lambda file: file["/eval/final/reliability"].attrs.__setitem__(name, value))
            other = load.Run(path)
            with self.assertRaises(ResultsError) as caught:
                load.gather([one, other], "/eval/final/reliability")
            for part in (name, repr(value), str(path), str(one.path), "/eval/final/reliability"):
                self.assertIn(part, str(caught.exception))
            load.gather([one, other], "/eval/final/generality")  # of one kind: fine

    def test_scorers_of_different_paths(self):
        run = find("moe")
        pair = [("a", run.variable("/eval/final/reliability")), ("b", run.variable("/eval/final/reliability_all"))]
        with self.assertRaisesRegex(ResultsError, "scorer is 'all' in b; 'tok' in a"):
            load.check_kind(pair)

    def test_moments_may_be_compared_but_not_scorers(self):
        run = find("moe")
        load.check_same_scoring([run], ["/eval/immediate/reliability", "/eval/final/reliability"])
        with self.assertRaises(ResultsError):
            load.check_same_scoring([run], ["/eval/immediate/reliability", "/eval/final/reliability_all"])


class Groups(Case):
    def test_repeats_are_seeds_and_orders_and_presets_are_methods(self):
        found = {group.label: group for group in groups.group_runs(sweep().complete)}
        self.assertEqual(set(found), {"LEMoE (paper)", "LEMoE (stable)", "MoE", "FT-M", "unedited"})
        self.assertEqual({label: len(g.runs) for label, g in found.items() if label != "unedited"},
                         dict.fromkeys(["LEMoE (paper)", "LEMoE (stable)", "MoE", "FT-M"], 4))  # fmt: skip
        (setting,) = groups.by_setting(found.values())
        self.assertEqual(setting.label, "quickstart, zsre, 60 edits")

    def test_split_by_planner(self):
        labels = [group.label for group in groups.group_runs(sweep().complete, ["order.planner"])]
        self.assertIn("MoE, planner kmeans", labels)
        self.assertEqual(len(labels), 9)

    def test_runs_that_differ_in_anything_else_never_share_a_group(self):
        def other_rate(file):
            file.attrs["config_yaml"] = file.attrs["config_yaml"].replace("lr: 0.001", "lr: 0.002")

        def other_numerics(file):
            file.attrs["numerics_version"] = 99

        def other_model(file):
            file.attrs["model_fingerprint"] = "f" * 32

        run = find("moe")
        for change, labels in (
            (other_rate, ["MoE, lr 0.001", "MoE, lr 0.002"]),
            (
                other_numerics,
                [f"MoE, numerics_version {run.attributes['numerics_version']}", "MoE, numerics_version 99"],
            ),
        ):
            other = load.Run(self.change(self.copy(run), change))
            self.assertEqual([group.label for group in groups.group_runs([run, other])], labels)
        other = load.Run(self.change(self.copy(run), other_model))
        settings = groups.by_setting(groups.group_runs([run, other]))
        self.assertEqual(len(settings), 2)
        self.assertEqual(len({setting.label for setting in settings}), 2, "told apart by name, too")

    def test_scorers_alone_do_not_split(self):
        runs = [find("ft_m"), *load.open_results([SCORERS]).complete]
        self.assertEqual([len(group.runs) for group in groups.group_runs(runs)], [2])
        found = load.gather(runs, "/eval/final/reliability")
        self.assertEqual([run for run, _ in found], runs[:1], "the other has no such score")


if __name__ == "__main__":
    unittest.main()
