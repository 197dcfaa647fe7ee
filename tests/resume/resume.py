"""What the tests of resuming share: one run of the program on the embedded model, undisturbed and disturbed, and the
comparison of the two."""
import contextlib
import glob
import os
import pathlib
import shutil
import sys
import threading
import time

import h5py

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "sweep"))
from harness import ROOT, Sweep, compare_folders, expect, fail  # noqa: E402

LONG = os.environ.get("LEMOE_LONG") == "1"
SEED = int(os.environ.get("LEMOE_SEED", "1"))

CONFIG = """\
name: t
model: {{path: {root}/configs/quickstart/model, dtype: fp32}}
data: {{kind: zsre, path: {root}/configs/quickstart/data.json, edits: {edits}}}
edit: {{method: {method}, batch_size: {batch_size}}}
output: {{publish_seconds: 0}}
"""
# Short, and far from converged: every update still changes every number.
SECTION = "{method}: {{layer: 5, lr: 1.0e-3, max_steps: {steps}, stop_loss: 0}}\n"

PAPER = ["lemoe.preset=paper"]
OWN = PAPER + ["lemoe.gate=renorm"]  # routers that use their expert at weight 1
CASES = {
    "none": [],
    "moe": [],
    "ft_m": [],
    "stable": ["lemoe.preset=stable"],
    "minibatches": ["lemoe.preset=stable", "lemoe.minibatch=3"],
    "tokens": PAPER + ["lemoe.granularity=token"],
    "parts": ["lemoe.preset=stable", "parallel.overlap=true"],
    "replay": PAPER + ["lemoe.router_ce=1", "lemoe.replay=true", "lemoe.expert.kind=lora"],
    **{router: PAPER + ["lemoe.router=" + router] for router in ("literal", "forced", "frozen_proj", "per_expert_proj")},
    **{router: OWN + ["lemoe.router=" + router] for router in ("fitted", "centroid", "nearest", "oracle")},
}


class Run(Sweep):
    """One case at one TP. Folders: calm (undisturbed) and whatever a test names. cut_off: path of the preloaded shim."""

    def __init__(self, program, case, tp=1, cut_off=None, edits=24, steps=5):
        self.case, self.tp, self.cut_off, self.extra = case, tp, cut_off, {}
        super().__init__(program, "", edits=edits, steps=steps)
        self.calm = self.folder / "calm"

    def write(self, name):
        method = self.case if self.case in ("none", "moe", "ft_m") else "lemoe"
        values = dict(root=ROOT, edits=self.edits, batch_size=self.batch_size, steps=self.steps, method=method)
        path = self.folder / (name + ".yaml")
        path.write_text(CONFIG.format(**values) + (SECTION.format(**values) if method != "none" else ""))
        return path

    def environment(self):
        values, scratch = super().environment()
        values.update(self.extra)
        return values, scratch

    def keys(self, out, *more):
        return [*CASES[self.case], f"parallel.tensor={self.tp}", f"output.dir={out}", *more]

    def begin(self, out, *more):
        """A launch in the background: under mpirun only where there is a team."""
        return self.start(self.tp if self.tp > 1 else 0, "--quarantine", "off", *self.keys(out, *more))

    def go(self, out, *more, seconds=120):
        return self.run(self.tp if self.tp > 1 else 0, "--quarantine", "off", *self.keys(out, *more), seconds=seconds)

    @contextlib.contextmanager
    def cut(self, **values):
        """Launches inside are cut off: at=, how=, rank=, count=."""
        self.extra = {"LD_PRELOAD": self.cut_off, **{"CUT_OFF_" + key.upper(): str(v) for key, v in values.items()}}
        try:
            yield
        finally:
            self.extra = {}

    def run_calm(self):
        status, text = self.go(self.calm)
        expect(status == 0, f"{self.case}: the undisturbed run ended with {status}", text)

    def id(self, out):
        (path,) = (out / "runs").glob("*.journal")
        return path.name[:-len(".journal")]

    def journal(self, out):
        return out / "runs" / (self.id(out) + ".journal")

    def checkpoints(self, out):
        """Files of numbered checkpoints of rank 0, oldest first."""
        return sorted((out / "runs" / self.id(out)).glob("checkpoint-[0-9]*-0"))

    def expect_same(self, out, what):
        """Equal in every dataset that may not differ, and in the adaptor; nothing left but results."""
        run = self.id(self.calm)
        print(f"  {what}", flush=True)
        compare_folders(self.calm, out, [run])
        adaptors = [folder / "runs" / run / "adaptor.safetensors" for folder in (self.calm, out)]
        expect(adaptors[0].exists() == adaptors[1].exists(), f"{what}: an adaptor in one folder only")
        if adaptors[0].exists():
            expect(adaptors[0].read_bytes() == adaptors[1].read_bytes(), f"{what}: the adaptor differs")
        left = [str(path) for path in (out / "runs").rglob("*") if path.name.startswith((".", "checkpoint-"))]
        expect(not left, f"{what}: left behind: {left}")

    def finish_and_compare(self, out, what, *more):
        status, text = self.go(out, *more)
        expect(status == 0, f"{what}: the launch after it ended with {status}", text)
        self.expect_same(out, what)
        shutil.rmtree(out)
        return text


def open_all(folder):
    """Every published file opens with plain h5py, at this very moment."""
    for name in glob.glob(str(folder / "**" / "*.h5"), recursive=True):  # unlike rglob, it bears folders that vanish
        path = pathlib.Path(name)
        if path.name.startswith("."):
            continue
        try:
            with h5py.File(path) as file:
                file.attrs["schema_version"]
        except FileNotFoundError:
            continue
        except OSError as error:
            fail(f"{path} cannot be opened: {error}")


@contextlib.contextmanager
def poller(folder):
    """Opens every published file, over and over, while the body runs. Gives a list whose length is the number of looks."""
    looks, problems, over = [], [], threading.Event()

    def look():
        while not over.is_set():
            try:
                open_all(folder)
            except BaseException as problem:  # an exit of this thread would go unseen
                problems.append(problem)
                return
            looks.append(1)
            time.sleep(0.005)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield looks
    finally:
        over.set()
        thread.join()
        expect(not problems, f"a published file could not be opened: {problems}")
