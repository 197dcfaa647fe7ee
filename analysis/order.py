#!/usr/bin/env python3
"""Order: how much does the result depend on the order in which the edits come, planner by planner?

All runs are points; the bar is their mean. Runs that differ only in seed and editing order are compared.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import pandas as pd
from lemoe_analysis.table import HEADS, SCORES, order_of, run_scores

from lemoe_analysis import groups, load, section, style

PLANNERS = ("file", "random", "kmeans", "hierarchical", "round_robin")  # as drawn, left to right; others follow
PLANNER_NAMES = {"kmeans": "k-means", "round_robin": "round robin"}


def run_frame(block: groups.Block, moment: str = "final") -> pd.DataFrame:
    """One row a run: its planner, its order, its scores."""
    for metric in style.METRICS:
        load.gather(block.runs, f"/eval/{moment}/{metric}")
    frames = []
    for group in block.edited:
        scores = run_scores(group.runs, moment, "tok").rename_axis("run").reset_index()
        orders = ["-".join(filter(None, order_of(run))) for run in group.runs]
        planners = [run.planner for run in group.runs]
        frames.append(scores.assign(editor=group.method, method=group.label, planner=planners, order=orders))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def spread_frame(runs: pd.DataFrame, columns: dict[str, object]) -> pd.DataFrame:
    """Mean, smallest, largest and standard deviation of each planner's runs, and one line over all of them."""
    rows = []
    for method, own in runs.groupby("method", sort=False):
        parts = [(planner, own[own.planner == planner]) for planner in sort_planners(own.planner)]
        for planner, part in [*parts, *([("all", own)] if len(parts) > 1 else [])]:
            row = {**columns, "method": method, "planner": planner, "runs": len(part), "orders": part.order.nunique()}
            for score in SCORES:
                of = part[score]
                row |= {score: of.mean(), f"{score}_std": of.std(), f"{score}_min": of.min(), f"{score}_max": of.max()}
            rows.append(row)
    return pd.DataFrame(rows)


def sort_planners(names) -> list[str]:
    found = list(dict.fromkeys(names))
    return [p for p in PLANNERS if p in found] + sorted(p for p in found if p not in PLANNERS)


def draw(runs: pd.DataFrame):
    """Planners side by side, methods beside each other within a planner; every run a point."""
    planners, series = sort_planners(runs.planner), style.series_of(runs)
    figure, axes = style.panels(2, 2, style.TWO_COLUMNS, 1.75, sharex=True)
    step = 0.8 / max(1, len(series))
    for axis, score in zip(axes, SCORES):
        for index, (label, look) in enumerate(series):
            for at, planner in enumerate(planners):
                values = runs[(runs.method == label) & (runs.planner == planner)][score].dropna().to_numpy()
                middle = at - 0.4 + step * (index + 0.5)
                spread = np.linspace(-0.25, 0.25, len(values)) * step if len(values) > 1 else np.zeros(len(values))
                style.points(axis, middle + spread, values, look, label, size=11)
                if len(values):
                    axis.hlines(
                        values.mean(), middle - step * 0.4, middle + step * 0.4, color=look.colour, linewidth=1.4
                    )
        axis.set(ylabel=f"final {score}", xlim=(-0.5, len(planners) - 0.5))
        axis.set_xticks(range(len(planners)), [PLANNER_NAMES.get(p, p) for p in planners])
        axis.grid(False, axis="x")
        for edge in range(1, len(planners)):
            axis.axvline(edge - 0.5, color="#E3E3E3", linewidth=0.8)
        axis.margins(y=0.12)
    for axis in axes[2:]:
        axis.set_xlabel("order planner")
    style.legend_below(figure, axes)
    return figure


def _table(frames: Sequence[pd.DataFrame]) -> section.Table:
    numbers = pd.concat(frames, ignore_index=True)
    shown = pd.DataFrame({"Method": numbers.method, "Planner": [PLANNER_NAMES.get(p, p) for p in numbers.planner]})
    for score in SCORES:
        shown[HEADS[score]] = [
            section.with_spread(*t) for t in zip(numbers[score], numbers[f"{score}_std"], numbers.runs)
        ]
    shown["Avg min–max"] = [
        f"{section.number(low)}–{section.number(high)}" for low, high in zip(numbers.average_min, numbers.average_max)
    ]
    shown["Runs"], shown["Orders"] = numbers.runs.astype(str), numbers.orders.astype(str)
    caption = "Final scores by order planner: mean and standard deviation over runs, and the range of the average."
    return section.Table("order", caption, numbers, shown, section.block_headings(numbers))


def build(results: load.Results) -> section.Section:
    made = section.Section(
        "order",
        "Editing order",
        "The same edits in another order can end differently. Each point is a run; the bar is their mean.",
    )
    frames = []
    for block in groups.blocks_of(results.require_complete()):
        runs = run_frame(block)
        if runs.empty or runs.order.nunique() < 2:
            made.notes.append(
                f"{block.setting.label}: all runs have one editing order; sweep order.planner or order.seed"
            )
            continue
        frames.append(spread_frame(runs, block.columns()))
        caption = f"Final scores by order planner. {block.setting.label}."
        made.items.append(section.Picture(f"order-planners{block.suffix}", caption, runs, draw(runs)))
    if frames:
        made.items.insert(0, _table(frames))
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    return section.main(build, __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
