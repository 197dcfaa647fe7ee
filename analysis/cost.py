#!/usr/bin/env python3
"""Cost: time and memory per edit by method, and what was planned against what was measured.

Times are monotonic seconds of the batches, summed over resumes; they hold for the device, ranks and threads they were
measured on, so runs that differ in these are rows of their own.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgba

from lemoe_analysis import groups, load, section, style

MIB = 2.0**20


def machine(run: load.Run) -> str:
    """What a time depends on beside the method."""
    ranks, threads = (int(run.attributes.get(name, 1)) for name in ("tensor_parallel", "threads"))
    device = run.attributes.get("device", "unknown")
    return f"{device}, {ranks} rank{'s' * (ranks != 1)} x {threads} thread{'s' * (threads != 1)}"


def _known(run: load.Run, path: str) -> np.ndarray:
    """Values of a dataset that were measured; integers say -1 for none."""
    if not run.has(path):
        return np.array([])
    values = run.values(path).astype(float)
    return values[np.isfinite(values) & (values >= 0)]


def _largest(values: np.ndarray) -> float:
    return float(values.max()) if values.size else float("nan")


def saved_bytes(run: load.Run) -> float:
    """Size of the adaptor or of the edited matrices that the run left, NaN where it left none."""
    path = run.path.parent / run.id / "adaptor.safetensors"
    return float(path.stat().st_size) if path.is_file() else float("nan")


def run_row(run: load.Run) -> dict[str, object]:
    seconds, steps = _known(run, "/cost/seconds"), _known(run, "/train/seconds")
    tokens = _known(run, "/cost/tokens")
    peak = _largest(_known(run, "/cost/peak_bytes"))
    left = saved_bytes(run)
    return {
        "run": run.id,
        "machine": machine(run),
        "seconds": seconds.sum() if seconds.size else float("nan"),
        "seconds_per_edit": seconds.sum() / run.n_edits if seconds.size else float("nan"),
        "tokens_per_second": tokens.sum() / steps.sum() if steps.sum() > 0 and tokens.size else float("nan"),
        "step_seconds": float(np.median(steps)) if steps.size else float("nan"),
        "predicted_step_seconds": _largest(_known(run, "/cost/predicted_step_seconds")),
        "peak_bytes": peak,
        "predicted_bytes": _largest(_known(run, "/cost/predicted_bytes")),
        "saved_bytes": left,
        "saved_bytes_per_edit": left / run.n_edits,
    }


def run_frame(block: groups.Block) -> pd.DataFrame:
    """One row a run; a method on two machines is two series."""
    rows = []
    machines = {machine(run) for run in block.runs}
    for group in block.groups:
        for run in group.runs:
            label = group.label if len(machines) == 1 else f"{group.label} [{machine(run)}]"
            rows.append({"editor": group.method, "method": label, **run_row(run)})
    return pd.DataFrame(rows)


def summary(runs: pd.DataFrame, columns: dict[str, object]) -> pd.DataFrame:
    numbers = [name for name in runs if name not in ("editor", "method", "run", "machine")]
    by = runs.groupby(["method", "machine"], sort=False)
    means = by[numbers].mean().join(by[["seconds_per_edit", "peak_bytes"]].std().add_suffix("_std"))
    means = means.join(by.size().rename("runs")).reset_index()
    return pd.concat([pd.DataFrame([columns] * len(means)), means], axis=1)


def draw_per_edit(runs: pd.DataFrame):
    """Every run a point over the bar of the mean."""
    series = style.series_of(runs)
    figure, axes = style.panels(1, 3, style.TWO_COLUMNS, 0.75 + 0.2 * len(series), sharey=True)
    panels = (
        ("seconds_per_edit", 1.0, "time per edit (s)"),
        ("peak_bytes", MIB, "peak memory (MiB)"),
        ("saved_bytes_per_edit", 1024.0, "saved per edit (KiB)"),
    )
    for axis, (name, unit, label) in zip(axes, panels):
        for at, (method, look) in enumerate(series):
            values = (runs[runs.method == method][name] / unit).dropna().to_numpy()
            if not values.size:
                axis.text(
                    0.02, at, "none", transform=axis.get_yaxis_transform(), va="center", fontsize=6, color="#6A6A6A"
                )
                continue
            axis.barh(
                at, values.mean(), 0.66, facecolor=to_rgba(look.colour, 0.25), edgecolor=look.colour, linewidth=0.8
            )
            spread = np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else np.zeros(1)
            style.points(axis, values, at + spread, look, size=8)
        axis.set(xlabel=label)
        axis.set_yticks(range(len(series)), [method for method, _ in series])
        axis.grid(False, axis="y")
        axis.set_xlim(left=0)
        axis.locator_params(axis="x", nbins=5)
    axes[0].invert_yaxis()
    return figure


def predicted_frame(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a (run, quantity) for which there is a plan."""
    pairs = (("peak memory", "predicted_bytes", "peak_bytes"), ("step", "predicted_step_seconds", "step_seconds"))
    rows = [
        (row.editor, row.method, row.run, quantity, getattr(row, planned), getattr(row, measured))
        for row in runs.itertuples()
        for quantity, planned, measured in pairs
    ]
    frame = pd.DataFrame(rows, columns=["editor", "method", "run", "quantity", "predicted", "measured"])
    frame = frame.dropna(subset=["predicted", "measured"]).reset_index(drop=True)
    return frame.assign(ratio=frame.measured / frame.predicted)


def draw_predicted(frame: pd.DataFrame):
    units = {"peak memory": (MIB, "peak memory (MiB)"), "step": (1.0, "time of a step (s)")}
    quantities = [quantity for quantity in units if (frame.quantity == quantity).any()]
    width = style.ONE_COLUMN if len(quantities) == 1 else style.TWO_COLUMNS
    figure, axes = style.panels(1, len(quantities), width, 2.4)
    for axis, quantity in zip(axes, quantities):
        unit, name = units[quantity]
        own = frame[frame.quantity == quantity]
        both = np.concatenate([own.predicted, own.measured]) / unit
        ends = [both[both > 0].min() / 1.5, both.max() * 1.5]
        style.reference_line(axis, ends)
        for label, look in style.series_of(own):
            rows = own[own.method == label]
            style.points(axis, rows.predicted / unit, rows.measured / unit, look, label)
        axis.set(xscale="log", yscale="log", xlim=ends, ylim=ends, title=name, xlabel="predicted", ylabel="measured")
        axis.set_aspect("equal")
        style.plain_log_ticks(axis)
    style.legend_below(figure, axes, columns=5 if len(quantities) > 1 else 3)  # as many as the figure is wide for
    return figure


def _table(frames: Sequence[pd.DataFrame]) -> section.Table:
    numbers = pd.concat(frames, ignore_index=True)
    several = numbers.machine.nunique() > 1
    shown = pd.DataFrame({"Method": numbers.method})
    if several:
        shown["Machine"] = numbers.machine
    shown["s / edit"] = [
        section.with_spread(*t, digits=4)
        for t in zip(numbers.seconds_per_edit, numbers.seconds_per_edit_std, numbers.runs)
    ]
    shown["Tokens / s"] = [section.number(v, 0) for v in numbers.tokens_per_second]
    shown["Step (s)"] = [section.number(v, 4) for v in numbers.step_seconds]
    shown["Peak memory"] = [section.bytes_text(v) for v in numbers.peak_bytes]
    shown["Planned / peak"] = [section.number(v, 2) for v in numbers.predicted_bytes / numbers.peak_bytes]
    shown["Saved / edit"] = [section.bytes_text(v) for v in numbers.saved_bytes_per_edit]
    shown["Runs"] = numbers.runs.astype(str)
    on = "" if several else f" Measured on {numbers.machine.iloc[0]}."
    caption = (
        "Cost: time per edit, training tokens per second, median time of an update, most memory in use, planned "
        f"memory against it, and what was saved per edit.{on}"
    )
    return section.Table("cost", caption, numbers, shown, section.block_headings(numbers))


def build(results: load.Results) -> section.Section:
    made = section.Section(
        "cost",
        "Cost",
        "What an edit costs in time and memory, and how well the plan made before the run foresaw it.",
    )
    frames = []
    for block in groups.blocks_of(results.require_complete()):
        runs = run_frame(block)
        frames.append(summary(runs, block.columns()))
        where = f" {block.setting.label}."
        caption = f"Time, memory and saved bytes by method; points are runs, bars their mean.{where}"
        made.items.append(section.Picture(f"cost-methods{block.suffix}", caption, runs, draw_per_edit(runs)))
        predicted = predicted_frame(runs)
        if len(predicted):
            caption = f"What was planned against what was measured; on the line they agree.{where}"
            figure = draw_predicted(predicted)
            made.items.append(section.Picture(f"predicted{block.suffix}", caption, predicted, figure))
        else:
            made.notes.append(f"{block.setting.label}: the files hold no predictions of memory or time to compare with")
    made.items.insert(0, _table(frames))
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    return section.main(build, __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
