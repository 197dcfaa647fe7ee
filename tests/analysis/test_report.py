"""report.py: one page with everything in it, looked at with a parser and in a browser; what is not complete, shown."""

import base64
import re
import shutil
import subprocess
import unittest
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import numpy as np
from cases import FAILED, LOST, SWEEP, Case, find, run_files, script, sweep
from lemoe_analysis import table

FIGURES = ("forgetting-scatter", "forgetting-stream", "retention", "milestones-reliability", "milestones-generality",
           "milestones-locality", "consistency", "agreement", "gates", "margins", "order-planners",
           "similarity-batches", "cost-methods")  # fmt: skip
if find("moe").has("/cost/predicted_bytes"):
    FIGURES += ("predicted",)
TABLES = (
    "scores-final-tok",
    "scores-final-all",
    "scores-immediate-tok",
    "forgetting",
    "routing",
    "order",
    "similarity",
    "cost",
)
VOID = {"meta", "img", "br", "link", "hr"}


class Page(HTMLParser):
    """Checks that tags are balanced and gathers what there is."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.links, self.images, self.ids, self.text = [], [], [], [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [attrs["href"]] if "href" in attrs else []
        self.images += [attrs] if tag == "img" else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        self.text.append(data)


class Complete(Case):
    @classmethod
    def setUpClass(cls):
        cls.report = SWEEP / "report"
        shutil.rmtree(cls.report, ignore_errors=True)
        cls.done = script("report", SWEEP)
        cls.page = Page((cls.report / "index.html").read_text("utf-8"))
        cls.text = " ".join(" ".join(cls.page.text).split())

    def test_ends_well_and_names_its_page(self):
        self.assertEqual((self.done.returncode, self.done.stderr), (0, ""))
        self.assertEqual(self.done.stdout, f"{self.report / 'index.html'}\n")

    def test_every_picture_is_embedded(self):
        self.assertTrue(all(image["alt"] for image in self.page.images))
        self.assertEqual(len(set(self.page.ids)), len(self.page.ids), "no name twice: it is that of a file, too")
        self.assertEqual(len(self.page.images), len(FIGURES))
        for image in self.page.images:
            head, _, data = image["src"].partition(",")
            self.assertEqual(head, "data:image/png;base64")
            self.assertTrue(base64.b64decode(data).startswith(b"\x89PNG"))

    def test_nothing_comes_from_the_network(self):
        source = (self.report / "index.html").read_text("utf-8")
        self.assertEqual(re.findall(r"(?:https?:)?//[a-z]", re.sub(r"base64,[^\"]*", "", source)), [])
        for link in self.page.links:
            if link.startswith("#"):
                self.assertIn(link[1:], self.page.ids)
            else:
                self.assertTrue((self.report / link).is_file(), link)

    def test_files_beside_it(self):
        for name in FIGURES:
            for kind, magic in (("png", b"\x89PNG"), ("pdf", b"%PDF"), ("csv", b"")):
                data = (self.report / f"{name}.{kind}").read_bytes()
                self.assertTrue(data.startswith(magic) and len(data) > 100, f"{name}.{kind}")
        for name in TABLES:
            self.assertIn(r"\bottomrule", (self.report / f"{name}.tex").read_text("utf-8"))

    def test_numbers_in_the_page_are_those_of_the_table(self):
        frame = table.score_frame(sweep(), "final", "tok").set_index("method")
        row = frame.loc["LEMoE (stable)"]
        self.assertIn(
            f"LEMoE (stable) {row.reliability:.3f} ± {row.reliability_std:.3f}".replace(" ", ""),
            self.text.replace(" ", ""),
        )

    def test_provenance_and_runs(self):
        run = find("moe")
        for part in (run.id, run.attributes["model_fingerprint"], run.attributes["git_commit"], "17 complete"):
            self.assertIn(part, self.text)

    def test_the_same_results_give_the_same_bytes(self):
        again = script("report", SWEEP, "--output", self.folder)
        self.assertEqual(again.returncode, 0, again.stderr)
        for name in ("retention.png", "consistency.pdf", "scores-final-tok.tex", "index.html"):
            self.assertEqual((self.folder / name).read_bytes(), (self.report / name).read_bytes(), name)

    def browser(self, *arguments: str) -> subprocess.CompletedProcess:
        program = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
        if not program:
            print("skipped: no chromium, so the page was not opened in a browser")
            self.skipTest("no chromium")
        command = [
            program,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={self.folder}/profile",
        ]
        command += [*arguments, f"file://{self.report}/index.html"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def test_in_a_browser(self):
        """Wide and as narrow as a phone: every picture decodes, and nothing but tables is wider than the page."""
        page = (self.report / "index.html").read_text("utf-8")
        probe = """<script>addEventListener("load", () => { document.title = JSON.stringify([
            [...document.images].filter(i => i.complete && i.naturalWidth > 300).length,
            document.documentElement.scrollWidth <= innerWidth, innerWidth]); });</script>"""
        probed = self.folder / "index.html"
        probed.write_text(page.replace("</body>", probe + "</body>"), "utf-8")
        self.report = self.folder
        for width in (1200, 500):
            dom = self.browser(f"--window-size={width},900", "--dump-dom").stdout
            title = re.search(r"<title>(\[.*?\])</title>", dom)
            self.assertIsNotNone(title, dom[:500])
            self.assertEqual(title.group(1), f"[{len(FIGURES)},true,{width}]")

    def test_looks_like_something(self):
        picture = self.folder / "page.png"
        self.browser("--window-size=800,2400", f"--screenshot={picture}")
        pixels = matplotlib.image.imread(picture)[:, :, :3]
        self.assertEqual(pixels.shape, (2400, 800, 3))
        inked = pixels.min(axis=(1, 2)) < 0.5
        self.assertGreater(inked.mean(), 0.33, "text and figures all the way down")
        self.assertGreater(len(np.unique((pixels * 255).astype(int).reshape(-1, 3), axis=0)), 100, "in colour")

    def test_printable(self):
        paper = self.folder / "page.pdf"
        self.browser(f"--print-to-pdf={paper}")
        self.assertGreater(len(re.findall(rb"/Type\s*/Page\b", paper.read_bytes())), 2)


class Incomplete(Case):
    def test_lost_waiting_and_failed_runs_are_shown(self):
        done = script("report", LOST, FAILED, "--output", self.folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        text = " ".join(" ".join(Page((self.folder / "index.html").read_text("utf-8")).text).split())
        self.assertIn("4 of 5 runs are not in these numbers", text)
        for part in ("lost", "waiting", "failed", "nan", "counted once"):
            self.assertIn(part, text)
        self.assertEqual(done.stderr.count("note: not in these numbers: "), 4)
        rows = (self.folder / "scores-final-tok.csv").read_text("utf-8")
        self.assertEqual(rows.count("FT-M,final,tok,1,"), 1, "the complete run of both folders is one run")

    def test_nothing_complete_is_one_message_and_a_page_of_statuses(self):
        (lost,) = [p for p in run_files(LOST) if "running" in str(load_status(p))]
        folder = self.folder / "out" / "runs"
        folder.mkdir(parents=True)
        shutil.copy(lost, folder)
        done = script("report", folder.parent)
        self.assert_one_message(done, "no complete run to take numbers from")
        self.assertIn("running", (folder.parent / "report" / "index.html").read_text("utf-8"))

    def test_mixed_protocols_are_refused_where_they_would_mix(self):
        other = self.change(self.copy(find("moe", "kmeans")),
                            lambda f: f["/eval/final/reliability"].attrs.__setitem__("protocol", "free"))  # fmt: skip
        done = script("report", find("moe").path, other, "--output", self.folder / "report")
        self.assert_one_message(done, "refusing", "/eval/final/reliability", "'free'", str(other))
        page = (self.folder / "report" / "index.html").read_text("utf-8")
        self.assertIn('class="refused"', page)
        self.assertIn('id="about-cost"', page)
        self.assertTrue((self.folder / "report" / "cost.csv").is_file(), "what does not mix is still there")


def load_status(path: Path) -> str:
    from lemoe_analysis.load import Run

    return Run(path).status


if __name__ == "__main__":
    unittest.main()
