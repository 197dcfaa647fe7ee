#!/usr/bin/env python3
"""Forgetting: what was right right after its batch, and is it still right at the end of the stream?

Immediate against final score per batch and metric, their difference along the stream, retention as edits accumulate,
and the milestone matrix R[t][s]: the mean over batch s after t batches.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lemoe_analysis import groups, load, section, style


def _has_both(run: load.Run, metric: str) -> bool:
    return run.has(f"/eval/immediate/{metric}") and run.has(f"/eval/final/{metric}")


def batch_frame(block: groups.Block) -> pd.DataFrame:
    """One row a (run, batch, metric): immediate and final mean over the batch's edits, and how much was forgotten."""
    rows = []
    for group in block.edited:
        for metric in style.METRICS:
            for moment in ("immediate", "final"):
                load.gather(block.runs, f"/eval/{moment}/{metric}")
            runs = [run for run in group.runs if _has_both(run, metric)]
            load.check_same_scoring(runs, [f"/eval/{moment}/{metric}" for moment in ("immediate", "final")])
            for run in runs:
                before, after = (run.by_batch(f"/eval/{moment}/{metric}") for moment in ("immediate", "final"))
                scored = ~np.isnan(run.values(f"/eval/final/{metric}"))
                edits = np.bincount(run.batch[scored], minlength=run.n_batches)
                for batch, (first, last) in enumerate(zip(before, after)):
                    own = (group.method, group.label, run.id, metric, batch, edits[batch])
                    rows.append((*own, first, last, first - last))
    columns = ["editor", "method", "run", "metric", "batch", "edits", "immediate", "final", "forgetting"]
    return pd.DataFrame(rows, columns=columns)


def along_stream(frame: pd.DataFrame) -> pd.DataFrame:
    """Forgetting of each batch position, mean and standard deviation over runs."""
    by = frame.groupby(["editor", "method", "metric", "batch"], sort=False).forgetting
    return by.agg(mean="mean", std="std", runs="count").reset_index()


def summary(frame: pd.DataFrame, columns: dict[str, object]) -> pd.DataFrame:
    """One row a (method, metric): run means over edits first, so that every run weighs the same."""
    values = ["immediate", "final", "forgetting"]
    weighted = frame[values].mul(frame.edits, axis=0).join(frame[["method", "metric", "run", "edits"]])
    sums = weighted[weighted.edits > 0].groupby(["method", "metric", "run"], sort=False).sum()
    runs = sums[values].div(sums.edits, axis=0)
    by = runs.groupby(["method", "metric"], sort=False)
    numbers = by.mean().join(by.std().add_suffix("_std")).join(by.size().rename("runs")).reset_index()
    return pd.concat([pd.DataFrame([columns] * len(numbers)), numbers], axis=1)


def milestone_matrix(group: groups.Group, metric: str) -> pd.DataFrame | None:
    """R[t][s], the mean over the group's runs that have the same milestones; rows are batches edited by then."""
    found = load.gather(group.runs, f"/eval/milestone/{metric}")
    if not found:
        return None
    done = found[0][0].values("/eval/milestone/batches")
    same = [v.values for run, v in found if np.array_equal(run.values("/eval/milestone/batches"), done)]
    frame = pd.DataFrame(np.mean(same, axis=0), index=pd.Index(done, name="batches edited"))
    return frame[frame.index > 0].rename_axis(columns="batch")


def retention_frame(block: groups.Block) -> pd.DataFrame:
    """Mean over all edits so far at each milestone, by run: batches weigh by their edits."""
    rows = []
    for metric in style.METRICS:
        load.gather(block.runs, f"/eval/milestone/{metric}")
        for group in block.edited:
            for run in (run for run in group.runs if run.has(f"/eval/milestone/{metric}")):
                sizes = np.bincount(run.batch, minlength=run.n_batches)
                for done, row in zip(run.values("/eval/milestone/batches"), run.values(f"/eval/milestone/{metric}")):
                    known = ~np.isnan(row)
                    if done > 0 and known.any():
                        edits, score = sizes[:done].sum(), np.average(row[known], weights=sizes[known])
                        rows.append((group.method, group.label, run.id, metric, edits, score))
    return pd.DataFrame(rows, columns=["editor", "method", "run", "metric", "edits", "score"])


# ---- pictures ----


def draw_scatter(frame: pd.DataFrame):
    figure, axes = style.panels(1, 3, style.TWO_COLUMNS, 2.15)
    for axis, metric in zip(axes, style.METRICS):
        style.reference_line(axis)
        for label, look in style.series_of(frame):
            rows = frame[(frame.method == label) & (frame.metric == metric)]
            style.points(axis, rows.immediate, rows.final, look, label)
        axis.set(title=style.METRIC_NAMES[metric], xlabel="right after its batch", aspect="equal")
        style.share_axis(axis, "x"), style.share_axis(axis, "y")
    axes[0].set_ylabel("after all edits")
    axes[0].text(0.03, 0.97, "on the line:\nnothing forgotten", transform=axes[0].transAxes, va="top", fontsize=6)
    style.legend_below(figure, axes)
    return figure


def draw_stream(frame: pd.DataFrame):
    figure, axes = style.panels(1, 3, style.TWO_COLUMNS, 1.85, sharey=True)
    for axis, metric in zip(axes, style.METRICS):
        axis.axhline(0, color="#9A9A9A", linewidth=0.8)
        for label, look in style.series_of(frame):
            rows = frame[(frame.method == label) & (frame.metric == metric)]
            style.curve(axis, rows.forgetting, rows.batch + 1, look, label)
        axis.set(title=style.METRIC_NAMES[metric], xlabel="batch, in editing order")
        style.whole_numbers(axis.xaxis)
    axes[0].set_ylabel("forgetting\n(immediate − final score)")
    style.legend_below(figure, axes)
    return figure


def draw_retention(frame: pd.DataFrame):
    figure, axes = style.panels(1, 3, style.TWO_COLUMNS, 1.85, sharey=True)
    for axis, metric in zip(axes, style.METRICS):
        for label, look in style.series_of(frame):
            rows = frame[(frame.method == label) & (frame.metric == metric)]
            style.curve(axis, rows.score, rows.edits, look, label)
        axis.set(title=style.METRIC_NAMES[metric], xlabel="edits so far")
        style.ticks_at(axis, frame.edits)
        style.share_axis(axis)
    axes[0].set_ylabel("score, mean over\nall edits so far")
    style.legend_below(figure, axes)
    return figure


def _heat(axis: Axes, matrix: pd.DataFrame, title: str):
    """Cells with their values while they are legible; what is not edited yet stays blank."""
    values = matrix.to_numpy()
    image = axis.imshow(values, vmin=0, vmax=1, cmap=style.MAP, aspect="auto")
    axis.set_xticks(_few(values.shape[1]), [str(i + 1) for i in _few(values.shape[1])])
    axis.set_yticks(_few(values.shape[0]), [str(matrix.index[i]) for i in _few(values.shape[0])])
    axis.set(title=title, xlabel="batch")
    axis.grid(False)
    style.write_cells(axis, values)
    return image


def _few(n: int) -> list[int]:
    """At most about ten ticks."""
    return list(range(0, n, max(1, -(-n // 10))))


def draw_matrices(matrices: dict[str, pd.DataFrame], metric: str):
    columns = min(4, len(matrices))
    rows = -(-len(matrices) // columns)
    figure, axes = style.panels(rows, columns, style.TWO_COLUMNS if columns > 1 else style.ONE_COLUMN, 1.6)
    for axis, (label, matrix) in zip(axes, matrices.items()):
        image = _heat(axis, matrix, label)
    for axis in axes[len(matrices) :]:
        axis.set_visible(False)
    for axis in axes[::columns]:
        axis.set_ylabel("batches edited")
    figure.colorbar(image, ax=axes, label=f"mean {metric}", aspect=30)
    return figure


# ---- the section ----


def _table(frames: Sequence[pd.DataFrame]) -> section.Table:
    numbers = pd.concat(frames, ignore_index=True)
    rows, blocks = [], []
    for (model, dataset, edits), block in numbers.groupby(["model", "dataset", "edits"], sort=False):
        start = len(rows)
        for method, own in block.groupby("method", sort=False):
            row = {"Method": method}
            for line in own.itertuples():
                head = style.METRIC_NAMES[line.metric][:3]
                row[f"{head} imm."] = section.number(line.immediate)
                row[f"{head} final"] = section.number(line.final)
                row[f"{head} forgotten"] = section.with_spread(line.forgetting, line.forgetting_std, line.runs)
            rows.append(row)
        blocks.append((f"{model}, {dataset}, {edits} edits", len(rows) - start))
    caption = (
        "Immediate and final scores, and what was forgotten: their difference, mean and standard deviation over runs."
    )
    return section.Table("forgetting", caption, numbers, pd.DataFrame(rows).fillna(section.MISSING), blocks)


def _block_items(block: groups.Block, frame: pd.DataFrame) -> list[section.Picture]:
    made, where = [], f" {block.setting.label}."
    made.append(
        section.Picture(
            f"forgetting-scatter{block.suffix}",
            f"Each batch's score right after it was edited against its score after all edits.{where}",
            frame,
            draw_scatter(frame),
        )
    )
    stream = along_stream(frame)
    caption = f"Forgetting by position in the stream{block.spread_caption}.{where}"
    made.append(section.Picture(f"forgetting-stream{block.suffix}", caption, stream, draw_stream(frame)))
    retention = retention_frame(block)
    if len(retention):
        caption = f"Score of everything edited so far, as edits accumulate{block.spread_caption}.{where}"
        made.append(section.Picture(f"retention{block.suffix}", caption, retention, draw_retention(retention)))
    for metric in style.METRICS:
        matrices = {group.label: milestone_matrix(group, metric) for group in block.edited}
        matrices = {label: m for label, m in matrices.items() if m is not None and m.notna().any(axis=None)}
        if matrices:
            caption = f"Milestones: mean {metric} of each batch after so many batches; mean over runs.{where}"
            numbers = section.long_frame(matrices, "score").dropna()
            picture = draw_matrices(matrices, metric)
            made.append(section.Picture(f"milestones-{metric}{block.suffix}", caption, numbers, picture))
    return made


def build(results: load.Results) -> section.Section:
    made = section.Section(
        "forgetting",
        "Forgetting",
        "A lifelong editor has to keep what it learned. Points below the diagonal were right and no longer are.",
    )
    frames = []
    for block in groups.blocks_of(results.require_complete()):
        frame = batch_frame(block)
        if frame.forgetting.isna().all():
            made.notes.append(f"{block.setting.label}: no run has both immediate and final scores")
            continue
        frames.append(summary(frame, block.columns()))
        made.items += _block_items(block, frame)
    if frames:
        made.items.insert(0, _table(frames))
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    return section.main(build, __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
