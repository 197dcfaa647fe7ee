#!/usr/bin/env python3
"""Similarity: do batches of alike edits, and batches unlike each other, end better?

Within-batch similarity is the diagonal of the plan's matrix, between-batch similarity the mean of a batch's row beside
it. Both stand against the batch's final reliability, with Pearson's r and Spearman's rank correlation.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import pandas as pd

from lemoe_analysis import groups, load, section, style

SIDES = {"within": "within the batch", "between": "to the other batches"}


def batch_similarities(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(within, between) of each batch; NaN where a batch has no pair of edits, or there is no other batch."""
    others = np.where(np.eye(len(matrix), dtype=bool), np.nan, matrix)
    known = (~np.isnan(others)).sum(axis=1)
    between = np.where(known > 0, np.nansum(others, axis=1) / np.maximum(known, 1), np.nan)
    return np.diagonal(matrix).copy(), between


def batch_frame(block: groups.Block) -> pd.DataFrame:
    """One row a (run, batch)."""
    load.gather(block.runs, "/eval/final/reliability")
    rows = []
    for group in block.edited:
        for run in (r for r in group.runs if r.has("/plan/similarity") and r.has("/eval/final/reliability")):
            within, between = batch_similarities(run.values("/plan/similarity"))
            scores = run.by_batch("/eval/final/reliability")
            for batch, values in enumerate(zip(within, between, scores)):
                rows.append((group.method, group.label, run.id, run.planner, batch, *values))
    columns = ["editor", "method", "run", "planner", "batch", "within", "between", "reliability"]
    return pd.DataFrame(rows, columns=columns)


def run_frame(batches: pd.DataFrame) -> pd.DataFrame:
    """One row a run: means over its batches (every pair of batches is in both rows, so the mean is over pairs)."""
    by = batches.groupby(["editor", "method", "run", "planner"], sort=False)
    runs = by[["within", "between", "reliability"]].mean().reset_index()
    return runs.assign(difference=runs.within - runs.between)


def correlate(x: pd.Series, y: pd.Series) -> tuple[float, float, int]:
    """Pearson's r, Spearman's rho, and how many pairs; NaN below three pairs or where nothing varies."""
    known = x.notna() & y.notna()
    x, y = x[known], y[known]
    n = int(known.sum())
    if n < 3 or np.ptp(x) < 1e-12 or np.ptp(y) < 1e-12:
        return float("nan"), float("nan"), n
    return float(np.corrcoef(x, y)[0, 1]), float(np.corrcoef(x.rank(), y.rank())[0, 1]), n


def correlation_frame(batches: pd.DataFrame, columns: dict[str, object]) -> pd.DataFrame:
    """One row a (method, unit, similarity): over batches, and over whole runs."""
    rows = []
    for unit, frame in (("batches", batches), ("runs", run_frame(batches))):
        for method, own in frame.groupby("method", sort=False):
            for side in ("within", "between", *(["difference"] if unit == "runs" else [])):
                r, rho, n = correlate(own[side], own.reliability)
                rows.append({**columns, "method": method, "unit": unit, "similarity": side, "r": r, "rho": rho, "n": n})
    return pd.DataFrame(rows)


def draw(batches: pd.DataFrame):
    figure, axes = style.panels(1, 2, style.TWO_COLUMNS, 2.2, sharey=True)
    for axis, (side, name) in zip(axes, SIDES.items()):
        for label, look in style.series_of(batches):
            own = batches[(batches.method == label) & batches[side].notna() & batches.reliability.notna()]
            style.points(axis, own[side], own.reliability, look, label)
            r, _, _ = correlate(own[side], own.reliability)
            if not np.isnan(r):
                slope, offset = np.polyfit(own[side], own.reliability, 1)
                ends = np.array([own[side].min(), own[side].max()])
                axis.plot(ends, slope * ends + offset, color=look.colour, linestyle=look.dash, linewidth=1)
        axis.set_xlabel(f"mean cosine similarity {name}")
        style.share_axis(axis)
    axes[0].set_ylabel("final reliability of the batch")
    style.legend_below(figure, axes)
    return figure


def _table(frames: Sequence[pd.DataFrame]) -> section.Table:
    numbers = pd.concat(frames, ignore_index=True)
    rows, blocks = [], []
    for (model, dataset, edits), block in numbers.groupby(["model", "dataset", "edits"], sort=False):
        start = len(rows)
        for (method, unit), own in block.groupby(["method", "unit"], sort=False):
            row = {"Method": method, "Over": f"{own.n.max()} {unit}"}
            for line in own.itertuples():
                row[f"r {line.similarity}"] = section.number(line.r, 2)
                row[f"ρ {line.similarity}"] = section.number(line.rho, 2)
            rows.append(row)
        blocks.append((f"{model}, {dataset}, {edits} edits", len(rows) - start))
    caption = (
        "Correlation of similarity with final reliability: Pearson's r and Spearman's ρ, over batches and over runs; "
        "difference is within minus between. Runs of one plan share their similarities, so they are not independent."
    )
    return section.Table("similarity", caption, numbers, pd.DataFrame(rows).fillna(section.MISSING), blocks)


def build(results: load.Results) -> section.Section:
    made = section.Section(
        "similarity",
        "Similarity",
        "A planner fills batches with alike edits. Here is what that is worth: each point is a batch of a run.",
    )
    frames = []
    for block in groups.blocks_of(results.require_complete()):
        batches = batch_frame(block)
        if batches.empty or batches[["within", "between"]].isna().all(axis=None):
            made.notes.append(f"{block.setting.label}: no run has both a plan's similarities and final reliability")
            continue
        frames.append(correlation_frame(batches, block.columns()))
        caption = f"Similarity of planning features against the batch's final reliability. {block.setting.label}."
        made.items.append(section.Picture(f"similarity-batches{block.suffix}", caption, batches, draw(batches)))
    if frames:
        made.items.insert(0, _table(frames))
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    return section.main(build, __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
