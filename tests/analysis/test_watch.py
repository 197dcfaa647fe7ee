"""watch.py: a sweep as it is, as text and as a page; and one that really runs, to its end."""

import os
import subprocess
import sys
import unittest
from html.parser import HTMLParser

from cases import FAILED, LOST, RESULTS, SCRIPTS, SWEEP, Case, find, raw, script, sweep
from lemoe_analysis import load, watch


class Looks(Case):
    def test_what_has_happened_to_each_run(self):
        frame = watch.progress_frame(load.open_results([LOST])).set_index("status")
        self.assertEqual(list(frame.index), ["lost", "waiting", "complete"], "what to look at first is on top")
        self.assertEqual((frame.loc["complete"].done, frame.loc["complete"].batches), (3, 3))
        self.assertLess(frame.loc["lost"].done, 3)
        failed = watch.progress_frame(load.open_results([FAILED])).iloc[0]
        self.assertEqual(failed.status, "failed")
        self.assertIn("nan", failed.reason)

    def test_numbers_of_a_run(self):
        run = find("moe", "kmeans", "1")
        frame = watch.progress_frame(sweep()).set_index("run")
        self.assertAlmostEqual(frame.loc[run.id].loss, raw(run, "/train/loss")[-1], 12)
        self.assertAlmostEqual(frame.loc[run.id].reliability, raw(run, "/eval/final/reliability").mean(), 12)

    def test_time_left_is_batches_left_at_the_pace_so_far(self):
        run = find("moe")
        path = self.copy(run)

        def half(file):
            file["/cost/seconds"][1:] = float("nan")
            file.attrs["status"] = "running"

        (entry,) = load.open_results([self.change(path, half)]).entries
        row = watch.run_row(entry)
        self.assertEqual((row["done"], row["batches"]), (1, 3))
        self.assertAlmostEqual(row["seconds left"], 2 * raw(run, "/cost/seconds")[0], 9)

    def test_durations(self):
        self.assertEqual(
            [watch.duration(s) for s in (7, 61, 7322, float("nan"))], ["7 s", "1 min 01 s", "2 h 02 min", ""]
        )

    def test_once_as_text(self):
        done = script("watch", LOST, "--once")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("3 runs: 1 lost, 1 waiting, 1 complete", done.stdout)
        self.assertNotIn("\x1b", done.stdout, "no escape sequences where it is no terminal")

    def test_as_a_page(self):
        page = self.folder / "page.html"
        done = script("watch", LOST, "--once", "--page", page, "--every", "7")
        self.assertEqual(done.returncode, 0, done.stderr)
        text = page.read_text("utf-8")
        self.assertIn('<meta http-equiv="refresh" content="7">', text)
        self.assertIn('<td class="lost">', text)
        self.assertNotIn("http://", text)
        HTMLParser().feed(text)

    def test_ends_by_itself(self):
        self.assertEqual(script("watch", SWEEP).returncode, 0)
        self.assertEqual(script("watch", FAILED).returncode, 2, "over, but not all is complete")

    def test_nothing_there(self):
        self.assert_one_message(script("watch", self.folder / "nowhere", "--once"), "no results there")
        self.assert_one_message(script("watch", self.folder / "nowhere", "--wait", "0.2", "--every", "0.1"), "no such folder")


class Follows(Case):
    def test_a_running_sweep_to_its_end(self):
        out = self.folder / "out"
        text = (RESULTS / "lost.yaml").read_text("utf-8").replace(str(LOST), str(out))
        (self.folder / "sweep.yaml").write_text(text)
        command = [sys.executable, "-u", str(SCRIPTS / "watch.py"), str(out), "--every", "0.2"]
        watching = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertEqual(watching.stderr.readline(), f"{out}: waiting for the first run\n")
        sweeping = [os.environ["LEMOE_RUN"], str(self.folder / "sweep.yaml")]
        done = subprocess.run(sweeping, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        text, errors = watching.communicate(timeout=60)
        self.assertEqual((watching.returncode, errors), (0, ""))
        self.assertIn("◐ running", text)
        self.assertTrue(text.strip().splitlines()[0].startswith(f"{out}: "))
        self.assertIn("3 runs: 3 complete", text)


if __name__ == "__main__":
    unittest.main()
