"""The one loader of lemoe's result files: every script reads through it, so every script refuses the same mistakes.

A path may be an output folder (with runs/ and sweep.h5), a runs/ folder, a sweep.h5 or single run files:

    results = load.open_results(["results/zsre"])
    for run in results.complete:
        run.frame("edit")                   # pandas, one row an edit
        run.xarray()                        # the whole file
        run.values("/eval/final/reliability")

Numbers carry what they are (protocol, scorer, moment). `gather` hands out the same dataset of several runs and raises
ResultsError, naming the files, where they are of different kinds. Runs that are incomplete, failed, lost or unreadable
are entries like the others, with their status and reason, but never part of `complete`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import yaml
from lemoe_analysis.common import KIND, ResultsError, live_status

SCHEMA_VERSION = 1  # the newest that these scripts understand


# ---- one file ----


@dataclass(frozen=True)
class Variable:
    """One dataset: its values, the names of its axes, its attributes."""

    path: str
    values: np.ndarray
    axes: tuple[str, ...]
    attributes: dict[str, object]

    @property
    def kind(self) -> dict[str, str]:
        """protocol, scorer and moment; empty for what is not a metric."""
        return {name: str(self.attributes[name]) for name in KIND if name in self.attributes}


def _read_variable(dataset: h5py.Dataset) -> Variable:
    values = dataset.asstr()[...] if h5py.check_string_dtype(dataset.dtype) else dataset[...]
    axes = tuple(dimension.label for dimension in dataset.dims)
    hidden = {"DIMENSION_LIST", "DIMENSION_LABELS", "REFERENCE_LIST", "CLASS", "NAME", "_FillValue"}
    attributes = {name: dataset.attrs[name] for name in dataset.attrs if name not in hidden}
    return Variable(dataset.name, values, axes, attributes)


def _read_variables(file: h5py.File) -> dict[str, Variable]:
    """Every dataset below the root's groups; dimension scales are plain counts, and links to other files are theirs."""
    found: dict[str, Variable] = {}

    def visit(_name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and not h5py.h5ds.is_scale(item.id):
            found[item.name] = _read_variable(item)

    file.visititems(visit)
    return found


def flatten(tree: dict, prefix: str = "") -> dict[str, str]:
    """{'lemoe': {'lr': '1'}} -> {'lemoe.lr': '1'}, the dotted names used on the command line."""
    flat: dict[str, str] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flat.update(flatten(value, name + "."))
        else:
            flat[name] = " ".join(value) if isinstance(value, list) else str(value)
    return flat


class Run:
    """A run's file, read whole when it is opened: files are small, and a running sweep replaces them under our feet."""

    def __init__(self, path: Path):
        self.path = path
        try:
            with h5py.File(path, "r") as file:
                self.attributes = {name: file.attrs[name] for name in file.attrs}
                _check_root(path, self.attributes)
                self.variables = _read_variables(file)
        except (OSError, RuntimeError, KeyError, ValueError) as error:  # what h5py raises on damage, by its place
            raise ResultsError(
                f"{path}: not a readable HDF5 file ({error}). If its journal lies beside it, `lemoe-run --republish "
                f"{_output_folder(path)}` writes it again"
            ) from error

    def __repr__(self) -> str:
        return f"Run({self.id})"

    @property
    def id(self) -> str:
        return str(self.attributes["run_id"])

    @property
    def status(self) -> str:
        """As published; whether a run that says `running` is alive only its journal knows."""
        return str(self.attributes["status"])

    @property
    def identity(self) -> str:
        return str(self.attributes.get("identity", self.id))

    @cached_property
    def config(self) -> dict[str, str]:
        """The resolved configuration, dotted key to text. YAML's own guesses (1e-3 is text to it) are not wanted."""
        tree = yaml.load(str(self.attributes.get("config_yaml", "")), Loader=yaml.BaseLoader)
        return flatten(tree) if isinstance(tree, dict) else {}

    @property
    def method(self) -> str:
        return self.config.get("edit.method", str(self.attributes.get("method", "unknown")))

    @property
    def planner(self) -> str:
        return self.config.get("order.planner", "file")

    @property
    def n_edits(self) -> int:
        return len(self.variables["/plan/batch"].values) if "/plan/batch" in self.variables else 0

    @property
    def batch(self) -> np.ndarray:
        """The batch of each edit."""
        return self.values("/plan/batch")

    @property
    def n_batches(self) -> int:
        return int(self.batch.max()) + 1 if self.n_edits else 0

    @property
    def batches_done(self) -> int:
        """Batches with a row of cost, which every finished batch leaves."""
        seconds = self.variables.get("/cost/seconds")
        return int(np.isfinite(seconds.values).sum()) if seconds else 0

    def has(self, path: str) -> bool:
        return path in self.variables

    def variable(self, path: str) -> Variable:
        if path not in self.variables:
            raise ResultsError(f"{self.path}: has no dataset {path}")
        return self.variables[path]

    def values(self, path: str) -> np.ndarray:
        return self.variable(path).values

    def by_batch(self, path: str) -> np.ndarray:
        """Means of an edit-long dataset over each batch's edits, NaN left out."""
        return pd.Series(self.values(path)).groupby(self.batch).mean().reindex(range(self.n_batches)).to_numpy()

    def frame(self, axis: str) -> pd.DataFrame:
        """All datasets along one axis alone, as columns named by their path."""
        columns = {path: v.values for path, v in self.variables.items() if v.axes == (axis,)}
        return pd.DataFrame(columns).rename_axis(axis)

    def matrix(self, path: str) -> pd.DataFrame:
        """A dataset of two axes, with rows and columns named after them."""
        variable = self.variable(path)
        rows, columns = variable.axes
        return pd.DataFrame(variable.values).rename_axis(index=rows, columns=columns)

    def xarray(self):
        """The file as one xarray.Dataset: /eval/final/reliability is eval_final_reliability(edit)."""
        import xarray

        variables = {
            path.strip("/").replace("/", "_"): (v.axes, v.values, v.attributes) for path, v in self.variables.items()
        }
        return xarray.Dataset(variables, attrs=self.attributes)


def _check_root(path: Path, attributes: dict[str, object]) -> None:
    """Whether this is a run's file at all, and one that can be understood."""
    if "schema_version" not in attributes or "run_id" not in attributes:
        raise ResultsError(f"{path}: an HDF5 file, but not one of a run (no schema_version or no run_id)")
    version = int(attributes["schema_version"])
    if version > SCHEMA_VERSION:
        raise ResultsError(
            f"{path}: schema version {version} is newer than these scripts, which read up to {SCHEMA_VERSION}"
        )


def _output_folder(run_file: Path) -> Path:
    return run_file.parent.parent if run_file.parent.name == "runs" else run_file.parent


# ---- numbers of one kind ----


def check_kind(variables: Iterable[tuple[str, Variable]], purpose: str = "one average or axis") -> None:
    """Refuses to mix. The pairs are (where from, variable); the message says which files differ in what."""
    variables = list(variables)
    for name in KIND:
        places: dict[str, list[str]] = {}
        for place, variable in variables:
            places.setdefault(variable.kind.get(name, "none"), []).append(place)
        if len(places) > 1:
            said = "; ".join(f"{value!r} in {_listing(files)}" for value, files in sorted(places.items()))
            paths = ", ".join(sorted({variable.path for _, variable in variables}))
            raise ResultsError(f"refusing to put {paths} into {purpose}: {name} is {said}")


def _listing(files: list[str], at_most: int = 3) -> str:
    files = list(dict.fromkeys(files))
    more = f" and {len(files) - at_most} more" if len(files) > at_most else ""
    return ", ".join(files[:at_most]) + more


def gather(runs: Iterable[Run], path: str) -> list[tuple[Run, Variable]]:
    """A dataset of all runs that have it, checked to be of one kind."""
    found = [(run, run.variables[path]) for run in runs if run.has(path)]
    check_kind((str(run.path), variable) for run, variable in found)
    return found


def check_same_scoring(runs: Iterable[Run], paths: Sequence[str]) -> None:
    """For a comparison of moments: everything but the moment has to agree."""
    found = [(run, run.variables[path]) for run in runs for path in paths if run.has(path)]
    without_moment = [
        (str(run.path), Variable(v.path, v.values, v.axes, {**v.attributes, "moment": "any"})) for run, v in found
    ]
    check_kind(without_moment, "one comparison")


# ---- a folder ----


@dataclass
class Entry:
    """A run of a sweep, whatever became of it."""

    id: str
    status: str  # complete, running, interrupted, failed, lost, waiting, unreadable, unpublished
    reason: str = ""
    run: Run | None = None  # None: nothing to read (yet)

    @property
    def is_counted(self) -> bool:
        return self.run is not None and self.status == "complete"


@dataclass
class Results:
    """What lies under the paths given."""

    paths: list[Path]
    entries: list[Entry] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def complete(self) -> list[Run]:
        """The runs whose numbers may stand for themselves, each counted once."""
        return [entry.run for entry in self.entries if entry.is_counted]

    @property
    def left_out(self) -> list[Entry]:
        return [entry for entry in self.entries if not entry.is_counted]

    @property
    def title(self) -> str:
        return ", ".join(path.name or str(path) for path in self.paths)

    def status_frame(self) -> pd.DataFrame:
        """One row a run: what is done, running, lost, failed."""
        rows = [
            {
                "run": entry.id,
                "status": entry.status,
                "batches done": entry.run.batches_done if entry.run else None,
                "batches": entry.run.n_batches if entry.run else None,
                "in the numbers": "yes" if entry.is_counted else "no",
                "reason": entry.reason,
            }
            for entry in self.entries
        ]
        columns = ["run", "status", "batches done", "batches", "in the numbers", "reason"]
        return pd.DataFrame(rows, columns=columns).astype({"batches done": "Int64", "batches": "Int64"})

    def require_complete(self) -> list[Run]:
        """The complete runs, or an error that says what there is instead."""
        if not self.complete:
            said = "; ".join(f"{e.id}: {e.status}{f' ({e.reason})' if e.reason else ''}" for e in self.entries[:5])
            raise ResultsError(f"{self.title}: no complete run to take numbers from ({said})")
        return self.complete


def _sweep_rows(folder: Path) -> dict[str, tuple[str, str]]:
    """run id -> (status, error) as sweep.h5 has it: also runs that never started."""
    path = folder / "sweep.h5"
    if not path.is_file():
        return {}
    try:
        with h5py.File(path, "r") as file:
            columns = [file[name].asstr()[...] for name in ("id", "status", "error")]
    except (OSError, KeyError) as error:
        raise ResultsError(
            f"{path}: not a readable table of runs ({error}); `lemoe-run --republish {folder}`"
        ) from error
    return {run_id: (status, reason) for run_id, status, reason in zip(*columns)}


def _run_files(folder: Path) -> dict[str, Path]:
    """Published files only: what begins with a dot is being written."""
    return {path.stem: path for path in sorted((folder / "runs").glob("*.h5")) if not path.name.startswith(".")}


def read_run(path: Path) -> Run:
    """A run's file, read again only when another was published in its place."""
    try:
        stat = path.stat()
    except OSError as error:
        raise ResultsError(f"{path}: {error.strerror}") from error
    return _read_once(path, (stat.st_ino, stat.st_mtime_ns, stat.st_size))


@cache
def _read_once(path: Path, _stamp: tuple[int, int, int]) -> Run:
    return Run(path)


def _entry(run_id: str, path: Path | None, live: str | None, row: tuple[str, str] | None) -> Entry:
    """One run's state from its file, its journal and the sweep's row, in that order of detail."""
    if path is None:
        status, reason = row or ("waiting", "")
        return Entry(run_id, live or status, reason or "nothing published yet")
    try:
        run = read_run(path)
    except ResultsError as error:
        return Entry(run_id, "unreadable", str(error))
    status, reason = live or run.status, str(run.attributes.get("error", ""))
    if status == "complete" and run.status != "complete":
        return Entry(run.id, "unpublished", f"complete, but {path} is older: lemoe-run --republish", run)
    if status == "complete" and not run.n_edits:
        return Entry(run.id, "unreadable", f"{path}: complete, but without a plan (/plan/batch)")
    if run.attributes.get("salvaged_bytes"):
        return Entry(run.id, "salvaged", f"{run.attributes['salvaged_bytes']} bytes of its journal are lost", run)
    if status != "complete" and not reason:
        reason = f"{run.batches_done} of {run.n_batches} batches done"
    return Entry(run.id, status, reason, run)


def _open_folder(folder: Path, results: Results) -> None:
    files, rows, live = _run_files(folder), {}, {}
    try:
        rows = _sweep_rows(folder)
    except ResultsError as error:
        results.notes.append(str(error))
    try:
        live = live_status(folder)
    except ResultsError as error:
        results.notes.append(f"statuses are those of the published files, a lost run reads running: {error}")
    ids = list(dict.fromkeys([*rows, *files, *live]))
    if not ids:
        raise ResultsError(f"{folder}: no results there: neither runs/*.h5 nor sweep.h5")
    results.entries += [_entry(run_id, files.get(run_id), live.get(run_id), rows.get(run_id)) for run_id in ids]


def _drop_repeats(results: Results) -> None:
    """The same run twice (a copied file, two folders) would count as two; its second entry says so instead."""
    seen: dict[str, Entry] = {}
    for entry in results.entries:
        if not entry.is_counted:
            continue
        first = seen.setdefault(entry.run.identity, entry)
        if first is not entry:
            entry.status, entry.reason = "repeated", f"the same run as {first.run.path}; counted once"


def open_results(paths: Iterable[str | Path]) -> Results:
    """Everything under the paths. Raises ResultsError when a path is missing, empty, or a named file cannot be read."""
    results = Results([Path(path) for path in paths])
    for path in results.paths:
        if not path.exists():
            raise ResultsError(f"{path}: no such file or folder")
        if path.is_file() and path.name != "sweep.h5":
            run = read_run(path)
            results.entries.append(_entry(run.id, path, None, None))
        elif path.is_file() or path.name == "runs":
            _open_folder(path.parent, results)
        else:
            _open_folder(path, results)
    _drop_repeats(results)
    return results
