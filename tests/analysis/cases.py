"""What the tests of analysis/ share: where the real results lie, scripts run as users run them, spoilt copies."""

import contextlib
import importlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from functools import cache
from pathlib import Path

import h5py
from lemoe_analysis import load

RESULTS = Path(os.environ["LEMOE_TEST_RESULTS"])
SCRIPTS = Path(__file__).resolve().parents[2] / "analysis"
SWEEP, LOST, FAILED, SCORERS = (RESULTS / name for name in ("sweep", "lost", "failed", "scorers"))
METRICS = ("reliability", "generality", "locality")


@cache
def sweep() -> load.Results:
    return load.open_results([SWEEP])


def run_files(folder: Path = SWEEP) -> list[Path]:
    return sorted((folder / "runs").glob("*.h5"))


def find(method: str, planner: str = "file", seed: str = "0", preset: str | None = None) -> load.Run:
    """The one run of the sweep with these settings."""
    wanted = {"edit.method": method, "order.planner": planner, "seed": seed}
    wanted |= {"lemoe.preset": preset} if preset else {}
    (found,) = [r for r in sweep().complete if all(r.config.get(key) == value for key, value in wanted.items())]
    return found


def raw(run: load.Run, path: str):
    """A dataset as it is in the file, without the loader."""
    with h5py.File(run.path) as file:
        return file[path][...]


def script(name: str, *arguments, **environment) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPTS / f"{name}.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)


def call(name: str, *arguments) -> subprocess.CompletedProcess:
    """The script's main in this process: a hundred times faster than starting it, and an exception fails the test."""
    out, errors = io.StringIO(), io.StringIO()
    main = importlib.import_module(f"lemoe_analysis.{name}").main
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        status = main([str(argument) for argument in arguments])
    return subprocess.CompletedProcess(name, status, out.getvalue(), errors.getvalue())


class Case(unittest.TestCase):
    """A test with a folder of its own."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def copy(self, run: load.Run | Path, name: str | None = None) -> Path:
        source = run if isinstance(run, Path) else run.path
        return Path(shutil.copy(source, self.folder / (name or source.name)))

    def change(self, path: Path, work) -> Path:
        """Spoils a copy in place."""
        with h5py.File(path, "r+") as file:
            work(file)
        return path

    def assert_not_cut_off(self, picture):
        """All text lies inside the figure."""
        picture.figure.draw_without_rendering()
        box = picture.figure.get_tightbbox().padded(-0.02)
        width, height = picture.figure.get_size_inches()
        self.assertTrue(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, (picture.name, box))

    def assert_one_message(self, done: subprocess.CompletedProcess, *parts: str, status: int = 1):
        """Exit status, one line that says it, and no traceback."""
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        self.assertEqual(len(errors), 1, done.stderr)
        for part in parts:
            self.assertIn(part, errors[0])
