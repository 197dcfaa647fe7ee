#!/usr/bin/env python3
"""Routing: does the same input still reach the expert that was trained on it?

The consistency matrix C[i][j] (share of what was trained on expert i that the final model routes to j), agreement of
routes at milestones, gates then and now, and the margins by which routes were decided.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from lemoe_analysis import groups, load, section, style

NONE_COLUMN = -1  # the column of C for what reaches no expert


def routed(block: groups.Block) -> list[groups.Group]:
    """Groups of editors that route at all."""
    found = []
    for group in block.groups:
        runs = [run for run in group.runs if run.has("/routing/consistency")]
        if runs:
            found.append(groups.Group(group.setting, group.method, group.label, runs))
    return found


def consistency(group: groups.Group) -> pd.DataFrame:
    """C, the mean over the group's runs with as many experts as the first; the last column is no expert."""
    matrices = [run.values("/routing/consistency") for run in group.runs]
    same = np.array([m for m in matrices if m.shape == matrices[0].shape])
    known = (~np.isnan(same)).sum(axis=0)
    mean = np.where(known > 0, np.nansum(same, axis=0) / np.maximum(known, 1), np.nan)
    n_experts = mean.shape[0]
    frame = pd.DataFrame(mean, columns=[*range(n_experts), NONE_COLUMN])
    return frame.rename_axis(index="trained expert", columns="final expert")


def mean_diagonal(matrix: np.ndarray) -> float:
    """Over experts on which something was trained."""
    diagonal = np.diagonal(matrix)
    return float(np.nanmean(diagonal)) if (~np.isnan(diagonal)).any() else float("nan")


def agreement_frame(found: Sequence[groups.Group]) -> pd.DataFrame:
    """Share of all edits so far that still reach their expert, by milestone, for edit prompts and paraphrases."""
    rows = []
    for group in found:
        for text in ("prompt", "paraphrase"):
            path = f"/routing/agreement_{text}"
            for run in (run for run in group.runs if run.has(path) and run.has("/eval/milestone/batches")):
                sizes = np.bincount(run.batch, minlength=run.n_batches)
                for done, row in zip(run.values("/eval/milestone/batches"), run.values(path)):
                    known = ~np.isnan(row)
                    if done > 0 and known.any():
                        share = np.average(row[known], weights=sizes[known])
                        rows.append((group.method, group.label, run.id, text, sizes[:done].sum(), share))
    return pd.DataFrame(rows, columns=["editor", "method", "run", "text", "edits", "agreement"])


def gate_frame(found: Sequence[groups.Group]) -> pd.DataFrame:
    """Mean gate of each batch's edits right after the batch and at the end."""
    rows = []
    for group in found:
        for run in (run for run in group.runs if run.has("/routing/gate_train") and run.has("/routing/gate_final")):
            before, after = run.by_batch("/routing/gate_train"), run.by_batch("/routing/gate_final")
            for batch, (first, last) in enumerate(zip(before, after)):
                rows.append((group.method, group.label, run.id, batch, first, last, last - first))
    return pd.DataFrame(rows, columns=["editor", "method", "run", "batch", "gate_train", "gate_final", "drift"])


def margin_frame(found: Sequence[groups.Group]) -> pd.DataFrame:
    """One row an edit: margin of its final route, and whether that is the expert it was trained on."""
    frames = []
    for group in found:
        for run in (run for run in group.runs if run.has("/routing/margin")):
            kept = run.values("/routing/final_expert") == run.values("/routing/train_expert")
            own = {
                "editor": group.method,
                "method": group.label,
                "run": run.id,
                "margin": run.values("/routing/margin"),
            }
            frames.append(pd.DataFrame({**own, "kept": kept}))
    columns = ["editor", "method", "run", "margin", "kept"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def summary(block: groups.Block, found: Sequence[groups.Group]) -> pd.DataFrame:
    """One row a group: means over runs of what the pictures show."""
    rows = []
    for group in found:
        runs = pd.DataFrame([_run_summary(run) for run in group.runs])
        row = {**block.columns(), "method": group.label, "runs": len(group.runs)}
        for name in runs:
            row |= {name: runs[name].mean(), f"{name}_std": runs[name].std()}
        rows.append(row)
    return pd.DataFrame(rows)


def _run_summary(run: load.Run) -> dict[str, float]:
    trained = run.values("/routing/train_expert")

    def share(name: str, wanted: np.ndarray | int) -> float:
        path = f"/routing/{name}_expert"
        return float((run.values(path) == wanted).mean()) if run.has(path) else float("nan")

    drift = run.values("/routing/gate_final") - run.values("/routing/gate_train")
    margin = run.values("/routing/margin")
    return {
        "consistency": mean_diagonal(run.values("/routing/consistency")),
        "agreement_prompt": share("final", trained),
        "agreement_paraphrase": share("paraphrase", trained),
        "prompt_to_none": share("final", NONE_COLUMN),
        "locality_to_none": share("locality", NONE_COLUMN),
        "gate_drift": float(np.nanmean(drift)) if (~np.isnan(drift)).any() else float("nan"),
        "median_margin": float(np.nanmedian(margin)) if (~np.isnan(margin)).any() else float("nan"),
    }


# ---- pictures ----


def draw_consistency(matrices: dict[str, pd.DataFrame]):
    columns = min(3, len(matrices))
    rows = -(-len(matrices) // columns)
    width = style.TWO_COLUMNS if columns > 1 else style.ONE_COLUMN
    figure, axes = style.panels(rows, columns, width, 2.0 if columns > 1 else 2.3)
    for axis, (label, matrix) in zip(axes, matrices.items()):
        image = axis.imshow(matrix.to_numpy(), vmin=0, vmax=1, cmap=style.MAP, aspect="auto")
        _expert_ticks(axis, matrix)
        axis.axvline(matrix.shape[1] - 1.5, color="white", linewidth=1.5)
        axis.set(title=label, xlabel="expert chosen at the end")
        axis.grid(False)
        style.write_cells(axis, matrix.to_numpy())
    for axis in axes[len(matrices) :]:
        axis.set_visible(False)
    for axis in axes[::columns]:
        axis.set_ylabel("expert trained on")
    figure.colorbar(image, ax=axes, label="share of the row, $C_{ij}$", aspect=30)
    return figure


def _expert_ticks(axis: Axes, matrix: pd.DataFrame) -> None:
    experts = list(matrix.index)
    step = max(1, -(-len(experts) // 10))
    columns = list(range(0, len(experts), step))
    axis.set_xticks([*columns, len(experts)], [*(str(i + 1) for i in columns), "none"])
    axis.set_yticks(columns, [str(i + 1) for i in columns])


def draw_agreement(frame: pd.DataFrame):
    figure, axes = style.panels(1, 2, style.TWO_COLUMNS, 1.9, sharey=True)
    for axis, text in zip(axes, ("prompt", "paraphrase")):
        for label, look in style.series_of(frame):
            rows = frame[(frame.method == label) & (frame.text == text)]
            style.curve(axis, rows.agreement, rows.edits, look, label)
        axis.set(title={"prompt": "edit prompts", "paraphrase": "paraphrases"}[text], xlabel="edits so far")
        style.ticks_at(axis, frame.edits)
        style.share_axis(axis)
    axes[0].set_ylabel("share routed to the\nexpert trained on it")
    style.legend_below(figure, axes)
    return figure


def draw_gates(frame: pd.DataFrame):
    figure, axes = style.panels(1, 2, style.TWO_COLUMNS, 1.9)
    style.reference_line(axes[0])
    for label, look in style.series_of(frame):
        rows = frame[frame.method == label]
        style.points(axes[0], rows.gate_train, rows.gate_final, look, label)
        style.curve(axes[1], rows.drift, rows.batch + 1, look)
    axes[0].set(xlabel="gate right after the batch", ylabel="gate after all edits")
    style.share_axis(axes[0], "x"), style.share_axis(axes[0], "y")
    axes[1].axhline(0, color="#9A9A9A", linewidth=0.8, zorder=0)
    axes[1].set(xlabel="batch, in editing order", ylabel="change of gate\n(final − right after)")
    style.whole_numbers(axes[1].xaxis)
    style.legend_below(figure, axes)
    return figure


def margin_bins(margins: pd.Series, n: int = 21) -> np.ndarray:
    """Edges over the range; margins that are all but equal (every edit its own anchor) stand in the middle of one."""
    low, high = margins.min(), margins.max()
    least = 0.05 * abs(high) or 1.0
    if high - low < least:
        low, high = (low + high - least) / 2, (low + high + least) / 2
    return np.linspace(low, high, n + 1)


def draw_margins(frame: pd.DataFrame):
    """A panel a method: routers score in units of their own, so their margins share no axis."""
    frame = frame[frame.margin.notna()]
    series = style.series_of(frame)
    columns = min(3, len(series))
    rows = -(-len(series) // columns)
    width = style.TWO_COLUMNS if columns > 1 else style.ONE_COLUMN
    figure, axes = style.panels(rows, columns, width, 1.75)
    for axis, (label, look) in zip(axes, series):
        own = frame[frame.method == label]
        parts = [own.margin[own.kept], own.margin[~own.kept]]
        _, _, bars = axis.hist(parts, bins=margin_bins(own.margin), stacked=True, linewidth=0.6,
                               color=[look.colour, "white"], edgecolor=look.colour)  # fmt: skip
        for bar in bars[1]:
            bar.set_hatch("////")
        axis.set(title=label, xlabel="margin of the final route")
        axis.locator_params(axis="x", nbins=5)
        axis.ticklabel_format(axis="x", useOffset=False)
    for axis in axes[len(series) :]:
        axis.set_visible(False)
    for axis in axes[::columns]:
        axis.set_ylabel("edits, all runs")
    kept = Patch(facecolor="#555555", edgecolor="#555555", linewidth=0.6)
    moved = Patch(facecolor="white", edgecolor="#555555", linewidth=0.6, hatch="////")
    style.legend_below(figure, [], extra={"still its expert": kept, "another one, or none": moved})
    return figure


# ---- the section ----

_HEADS = {
    "consistency": "Mean Cᵢᵢ",
    "agreement_prompt": "Prompts kept",
    "agreement_paraphrase": "Paraphrases kept",
    "prompt_to_none": "Prompts to none",
    "locality_to_none": "Locality to none",
    "gate_drift": "Gate drift",
    "median_margin": "Median margin",
}


def _table(frames: Sequence[pd.DataFrame], blocks: list[tuple[str, int]]) -> section.Table:
    numbers = pd.concat(frames, ignore_index=True)
    shown = pd.DataFrame({"Method": numbers.method})
    for name, head in _HEADS.items():
        shown[head] = [
            section.with_spread(*triple) for triple in zip(numbers[name], numbers[f"{name}_std"], numbers.runs)
        ]
    caption = (
        "Routes after all edits: mean diagonal of C; share of edit prompts and paraphrases that reach the expert "
        "trained on their edit; share of edit prompts and locality prompts that reach no expert; change of the gate; "
        "margin. Token-level routers count by each text's most used expert, and their C by prompt tokens."
    )
    return section.Table("routing", caption, numbers, shown, blocks)


def _block_items(block: groups.Block, found: Sequence[groups.Group]) -> list[section.Picture]:
    where = f" {block.setting.label}."
    matrices = {group.label: consistency(group) for group in found}
    made = [
        section.Picture(
            f"consistency{block.suffix}",
            f"Routing consistency: of what was trained on one expert, the share that the final model routes to each; "
            f"mean over runs.{where}",
            section.long_frame(matrices, "share"),
            draw_consistency(matrices),
        )
    ]
    for name, frame, draw, caption in (
        ("agreement", agreement_frame(found), draw_agreement, "Routes kept, over all edits so far"),
        (
            "gates",
            gate_frame(found),
            draw_gates,
            "Gate of each batch's edits right after it, and of the experts they reach in the end (mean of the batch)",
        ),
    ):
        if len(frame):
            caption = f"{caption}{block.spread_caption}.{where}"
            made.append(section.Picture(f"{name}{block.suffix}", caption, frame, draw(frame)))
    margins = margin_frame(found)
    if margins.margin.notna().any():
        caption = (
            "Margins of the final routes: distance to the second best, or to the threshold of the null route. Each "
            f"router has a scale of its own.{where}"
        )
        made.append(section.Picture(f"margins{block.suffix}", caption, margins, draw_margins(margins)))
    return made


def build(results: load.Results) -> section.Section:
    made = section.Section(
        "routing",
        "Routing",
        "An edit is found again only if its prompt still reaches the expert that learned it. A perfect router puts "
        "everything on the diagonal of C, and locality prompts into the column none.",
    )
    frames, headings = [], []
    for block in groups.blocks_of(results.require_complete()):
        found = routed(block)
        if not found:
            made.notes.append(f"{block.setting.label}: no run of an editor that routes")
            continue
        frames.append(summary(block, found))
        headings.append((block.setting.label, len(found)))
        made.items += _block_items(block, found)
    if frames:
        made.items.insert(0, _table(frames, headings))
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    return section.main(build, __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
