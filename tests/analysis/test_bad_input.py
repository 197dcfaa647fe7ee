"""Broken, empty, mixed-protocol and half-written input: one clear message from every script, and nothing written."""

import unittest

import numpy as np
from cases import Case, call, find, script

MAKERS = ("table", "forgetting", "routing", "order", "similarity", "cost", "report")


class EveryScript(Case):
    def refuse(self, *parts: str, paths: list):
        for name in MAKERS:
            with self.subTest(name):
                out = self.folder / "written"
                self.assert_one_message(call(name, *paths, "--output", out), *parts)
                self.assertFalse(
                    out.exists() and any(p for p in out.iterdir() if p.name != "index.html"), "nothing is written"
                )
        with self.subTest("compare"):
            self.assert_one_message(call("compare", find("moe").path, *paths[-1:]), *parts)

    def test_as_started_by_a_user(self):
        for name in (*MAKERS, "watch", "check"):
            done = script(name, self.folder / "nowhere", *(["--once"] if name == "watch" else []))
            self.assert_one_message(done, "nowhere: no")

    def test_missing(self):
        self.refuse("nowhere: no such file or folder", paths=[self.folder / "nowhere"])

    def test_empty_folder(self):
        empty = self.folder / "empty"
        empty.mkdir()
        self.refuse("no results there: neither runs/*.h5 nor sweep.h5", paths=[empty])

    def test_half_written(self):
        torn = self.folder / "torn.h5"
        torn.write_bytes(find("moe").path.read_bytes()[:30000])
        self.refuse("torn.h5: not a readable HDF5 file", "lemoe-run --republish", paths=[torn])

    def test_no_hdf5(self):
        text = self.folder / "text.h5"
        text.write_text("no HDF5\n")
        self.refuse("text.h5: not a readable HDF5 file", paths=[text])

    def test_hdf5_of_something_else(self):
        other = self.change(self.copy(find("moe"), "other.h5"), lambda f: f.attrs.__delitem__("run_id"))
        self.refuse("other.h5: an HDF5 file, but not one of a run", paths=[other])

    def test_newer_schema(self):
        newer = self.change(self.copy(find("moe"), "newer.h5"), lambda f: f.attrs.__setitem__("schema_version", 9))
        self.refuse("newer.h5: schema version 9 is newer", paths=[newer])

    def test_only_a_file_being_written(self):
        folder = self.folder / "out" / "runs"
        folder.mkdir(parents=True)
        (folder / ".run.h5").write_bytes(b"half")
        self.refuse("no results there", paths=[folder.parent])


class Mixed(Case):
    def test_mixed_protocols(self):
        """Every script that would put the two on one axis or into one average says which files differ in what."""
        path = self.folder / "free.h5"
        for name, datasets in {
            "table": ["/eval/final/generality"],
            "forgetting": ["/eval/immediate/locality"],
            "order": ["/eval/final/reliability"],
            "similarity": ["/eval/final/reliability"],
        }.items():
            for kind, value in (("protocol", "free_decoding"), ("scorer", "all"), ("moment", "base")):
                with self.subTest(f"{name}, {kind}"):
                    self.copy(find("moe", "kmeans"), path.name)
                    self.change(path, lambda f: [f[d].attrs.__setitem__(kind, value) for d in datasets])
                    done = call(name, find("moe").path, path, "--output", self.folder / "out")
                    self.assert_one_message(
                        done, "refusing", datasets[0], kind, repr(value), str(path), str(find("moe").path)
                    )
                    self.assertFalse((self.folder / "out").exists())


class Partial(Case):
    def spoil(self, change):
        return self.change(self.copy(find("lemoe", preset="stable"), "spoilt.h5"), change)

    def report(self, path):
        """Whatever is missing, every section is made or says what it lacks."""
        done = call("report", path, "--output", self.folder / "out")
        self.assertIn(done.returncode, (0, 1))
        self.assertEqual(done.stderr.count("error: "), done.returncode, done.stderr)
        return (self.folder / "out" / "index.html").read_text("utf-8")

    def test_missing_groups(self):
        """A complete file without some of its groups: eval.final: false, an editor that does not route, one batch."""
        for group, said in (
            ("/routing", "no run of an editor that routes"),
            ("/eval/final", "no run has both immediate and final scores"),
            ("/eval/immediate", "no run has both immediate and final scores"),
            ("/eval/milestone", "Forgetting by position"),
            ("/cost", "no predictions"),
            ("/train", "Time, memory"),
            ("/plan/similarity", "no run has both a plan"),
        ):
            with self.subTest(group):
                self.assertIn(said, self.report(self.spoil(lambda f: f.__delitem__(group))))

    def test_nothing_but_nan(self):
        def blank(file):
            for moment in ("base", "immediate", "final"):
                for metric in ("reliability", "generality", "locality", "target_nll"):
                    if metric in file[f"/eval/{moment}"]:
                        file[f"/eval/{moment}/{metric}"][...] = np.nan
            file["/routing/margin"][...] = np.nan
            file["/routing/gate_final"][...] = np.nan

        self.assertIn("no run has both immediate and final scores", self.report(self.spoil(blank)))

    def test_no_plan(self):
        page = self.report(self.spoil(lambda f: f.__delitem__("/plan")))
        self.assertIn("complete, but without a plan", page)

    def test_where_nothing_can_be_written(self):
        blocked = self.folder / "file"
        blocked.write_text("in the way")
        for name in MAKERS:
            self.assert_one_message(call(name, find("moe").path, "--output", blocked / "report"), str(blocked))


if __name__ == "__main__":
    unittest.main()
