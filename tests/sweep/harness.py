"""What the tests of whole sweeps share: a launch of the program on the embedded model in a folder of its own, and looks
at what it left. Nothing outside that folder is touched."""
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
SKIPPED = 77  # ctest's SKIP_RETURN_CODE

SWEEP = """\
name: t
model: {{path: {root}/configs/quickstart/model, dtype: fp32}}
data: {{kind: zsre, path: {root}/configs/quickstart/data.json, edits: {edits}}}
edit: {{batch_size: {batch_size}}}
{editors}
checkpoint: {{every_seconds: 1}}
output: {{dir: {out}, publish_seconds: 0}}
sweep:
  axes: {{{axes}}}
  skip: {skip}
"""


# as env.sh has it
MPI = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1",
       "OMPI_MCA_hwloc_base_binding_policy": "none", "OMPI_MCA_mpi_yield_when_idle": "1", "OMPI_MCA_orte_execute_quiet": "1"}


class Sweep:
    """One sweep file, its output folder and the launches of it."""

    def __init__(self, program, axes, edits=24, batch_size=8, steps=4, name="sweep", skip="[]"):
        self.program = os.path.abspath(program)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="lemoe-test-"))
        self.skip = skip
        self.axes, self.edits, self.batch_size, self.steps = axes, edits, batch_size, steps
        self.n_launch = 0
        self.file = self.write(name)
        self.out = self.folder / name

    def write(self, name):
        path = self.folder / (name + ".yaml")
        path.write_text(SWEEP.format(root=ROOT, out=self.folder / name, edits=self.edits, batch_size=self.batch_size,
                                     editors=self.editors(), axes=self.axes, skip=self.skip))
        return path

    def editors(self):
        """The section of each editor that the sweep uses."""
        return "\n".join(f"{name}: {{layer: 5, lr: 1.0e-3, max_steps: {self.steps}}}" for name in ("lemoe", "moe", "ft_m")
                         if "edit.method" not in self.axes or re.search(rf"\b{name}\b", self.methods()))

    def methods(self):
        return re.search(r"edit.method: \[(.*?)\]", self.axes)[1]

    def environment(self):
        """Temporary files and shared memory of this launch lie in a folder of its own."""
        self.n_launch += 1
        scratch = self.folder / f"tmp{self.n_launch}"
        scratch.mkdir()
        return dict(os.environ, **MPI, TMPDIR=str(scratch), OMPI_MCA_btl_vader_backing_directory=str(scratch),
                    LEMOE_STDERR_TTY="0"), scratch

    def start(self, n_rank, *arguments):
        environment, scratch = self.environment()
        command = [self.program, str(self.file), *arguments]
        if n_rank > 0:
            command = ["mpirun", "-n", str(n_rank), *command]
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True, start_new_session=True, cwd=self.folder)
        process.scratch = scratch
        return process

    def run(self, n_rank, *arguments, seconds=300):
        process = self.start(n_rank, *arguments)
        return finish(process, seconds)

    def ids(self):
        return sorted(path.name[:-len(".journal")] for path in (self.out / "runs").glob("*.journal"))

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)


def ranks_of(process):
    """Processes of the program below a launcher, {rank: process number}; not what these have started themselves."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            values = pathlib.Path("/proc", entry, "environ").read_bytes().split(b"\0")
            session = os.getsid(int(entry))
        except OSError:
            continue
        if session != process.pid and not belongs(int(entry), process.pid):
            continue
        for value in values:
            if value.startswith(b"OMPI_COMM_WORLD_RANK="):
                found[int(entry)] = int(value.split(b"=")[1])
    return {rank: number for number, rank in found.items() if parent_of(number) not in found}


def parent_of(number):
    try:
        return int(pathlib.Path("/proc", str(number), "stat").read_text().rsplit(")", 1)[1].split()[1])
    except (OSError, IndexError, ValueError):
        return 0


def belongs(number, ancestor):
    while number > 1:
        if number == ancestor:
            return True
        number = parent_of(number)
    return False


def shared_memory_of(process):
    """Files of /dev/shm that a launch's ranks have mapped: Open MPI's, unless the environment puts them elsewhere."""
    found = set()
    for number in ranks_of(process).values():
        try:
            maps = pathlib.Path("/proc", str(number), "maps").read_text()
        except OSError:
            continue
        found.update(line.split(maxsplit=5)[5].removesuffix(" (deleted)") for line in maps.splitlines() if "/dev/shm/" in line)
    return found


def processes_with(folder):
    """Living processes that were started with their temporary files in that folder."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            values = pathlib.Path("/proc", entry, "environ").read_bytes().split(b"\0") if entry.isdigit() else []
        except OSError:
            continue
        if any(value.startswith(f"TMPDIR={folder}".encode()) for value in values):
            found.append((int(entry), pathlib.Path("/proc", entry, "comm").read_text().strip()))
    return found


def finish(process, seconds):
    """(status, text) of a launch; one that takes longer is a hang, and fails the test."""
    try:
        text, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        end(process)
        text, _ = process.communicate()
        print(text)
        fail(f"the launch did not end within {seconds} s")
    shutil.rmtree(process.scratch, ignore_errors=True)
    return process.returncode, text


def finish_killed(process, seconds):
    """The same for a launch of which something was killed. Every rank has to be gone in that time; the mpirun of Open MPI
    4.1 may stay, dead-locked in PMIx_server_finalize, when a rank died while it was connecting. That is not ours."""
    try:
        text, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        if ranks_of(process):
            return finish(process, 0.1)
        print("mpirun hung after all its ranks had ended; ended it")
        process.kill()
        text, _ = process.communicate()
    shutil.rmtree(process.scratch, ignore_errors=True)
    return process.returncode, text


def end(process):
    """Only what this test started."""
    for number in list(ranks_of(process).values()) + [process.pid]:
        try:
            os.kill(number, signal.SIGKILL)
        except OSError:
            pass


def wait_until(condition, seconds, what):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return
        time.sleep(0.02)
    fail(f"waited {seconds} s for {what}")


def compare(a, b):
    """Differences of two published files in what may not differ, as text; "" for equal files. config_yaml holds the
    output folder."""
    tool = ROOT / "tests/e2e/compare_h5.py"
    result = subprocess.run(["/usr/bin/python3", str(tool), str(a), str(b), "--ignore-attribute", "config_yaml"],
                            capture_output=True, text=True)
    return "" if result.returncode == 0 else (result.stdout + result.stderr) or "they differ"


def compare_folders(a, b, ids):
    for run in ids:
        difference = compare(a / "runs" / (run + ".h5"), b / "runs" / (run + ".h5"))
        if difference:
            fail(f"{run} differs:\n{difference}")


def expect(condition, text, output=""):
    if not condition:
        if output:
            print(output)
        fail(text)


def fail(text):
    print("FAILED:", text)
    sys.exit(1)


def skip(text):
    print("skipped:", text)
    sys.exit(SKIPPED)
