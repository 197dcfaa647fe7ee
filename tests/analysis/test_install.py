"""pip installs the scripts as a package with commands; without them in the working directory nothing is missing."""

import os
import subprocess
import sys
import unittest

from cases import SCRIPTS, SWEEP, Case

COMMANDS = ("report", "table", "forgetting", "routing", "order", "similarity", "cost", "compare", "watch", "check")


class Installed(Case):
    def setUp(self):
        super().setUp()
        for needed in ("pip", "setuptools", "wheel"):
            if subprocess.run([sys.executable, "-c", f"import {needed}"], capture_output=True, check=False).returncode:
                print(f"skipped: this Python has no {needed} to install with")
                self.skipTest(f"no {needed}")

    def test_as_a_package(self):
        import shutil

        source = self.folder / "source"
        shutil.copytree(SCRIPTS, source, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
        target = self.folder / "target"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
        done = subprocess.run([*pip, "--target", target, source], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        environment = {**os.environ, "PYTHONPATH": str(target)}
        for name in COMMANDS:
            self.assertTrue((target / "bin" / f"lemoe-{name}").is_file(), name)
        where = {"cwd": self.folder, "env": environment}
        module = [sys.executable, "-m", "lemoe_analysis.table", SWEEP, "--output", self.folder / "out"]
        done = subprocess.run(module, **where, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        command = [target / "bin" / "lemoe-check", SWEEP / "sweep.h5"]
        done = subprocess.run(command, **where, capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stdout), (0, f"{SWEEP / 'sweep.h5'}: valid\n"), done.stderr)


if __name__ == "__main__":
    unittest.main()
