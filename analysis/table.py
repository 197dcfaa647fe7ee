#!/usr/bin/env python3
"""The main tables: methods x (reliability, generality, locality, average), by model, dataset and number of edits.

A row is one method as configured; its runs differ in seed and editing order, and mean and standard deviation are over
them. The first row of a block is the unedited model. Runs that differ in anything else get rows of their own; --by KEY
splits further, for instance --by order.planner.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from lemoe_analysis.common import guarded

from lemoe_analysis import groups, load, section, style

BASE = "unedited model"
SCORES = (*style.METRICS, "average")
HEADS = {"reliability": "Rel", "generality": "Gen", "locality": "Loc", "average": "Avg"}
MOMENT_NAMES = {"final": "after all edits", "immediate": "right after each edit's batch", "base": "before any edit"}


def suffix(scorer: str) -> str:
    """Names of datasets by scorer: reliability, reliability_all, reliability_wild."""
    return "" if scorer == "tok" else f"_{scorer}"


def kinds_of_locality(runs: Sequence[load.Run], moment: str, scorer: str) -> list[str]:
    """Localities beside the plain one that a dataset may have (same subject, far away ...), as metrics."""
    pattern = re.compile(rf"/eval/{moment}/(locality_[a-z0-9_]+?){suffix(scorer)}")
    found = {match.group(1) for run in runs for path in run.variables if (match := pattern.fullmatch(path))}
    return sorted(name for name in found if not name.endswith(("_accuracy", "_nll", "_all")))


def run_scores(runs: Sequence[load.Run], moment: str, scorer: str, kinds: Sequence[str] = ()) -> pd.DataFrame:
    """One row a run: the mean of each metric over its edits, and the average of the main three where all are there."""
    columns = {}
    for metric in (*style.METRICS, *kinds):
        found = load.gather(runs, f"/eval/{moment}/{metric}{suffix(scorer)}")
        columns[metric] = {run.id: mean_of(variable.values) for run, variable in found}
    scores = pd.DataFrame(columns, index=[run.id for run in runs], dtype=float)
    scores.insert(len(style.METRICS), "average", scores[list(style.METRICS)].mean(axis=1, skipna=False))
    return scores


def mean_of(values: np.ndarray) -> float:
    """Edits without that score (no paraphrase, no locality prompt) are NaN and left out."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float("nan")


@dataclass(frozen=True)
class Sort:
    """What a table's numbers are."""

    moment: str
    scorer: str
    kinds: tuple[str, ...] = ()


def _row(group: groups.Group, label: str, sort: Sort) -> dict[str, object]:
    scores = run_scores(group.runs, sort.moment, sort.scorer, sort.kinds)
    row: dict[str, object] = {
        "model": group.setting.model,
        "dataset": group.setting.dataset,
        "edits": group.setting.n_edits,
        "method": label,
        "moment": sort.moment,
        "scorer": sort.scorer,
        "runs": len(group.runs),
        "seeds": len({run.config.get("seed") for run in group.runs}),
        "orders": len({order_of(run) for run in group.runs}),
    }
    for score in scores:
        row |= {score: scores[score].mean(), f"{score}_std": scores[score].std(ddof=1)}
    for metric in style.METRICS:
        row[f"{metric}_edits"] = _scored_edits(group.runs, f"/eval/{sort.moment}/{metric}{suffix(sort.scorer)}")
    return row


def _scored_edits(runs: Sequence[load.Run], path: str) -> int:
    """Edits behind a mean, over all runs: those without a paraphrase or a locality prompt have no score."""
    return sum(int((~np.isnan(run.values(path))).sum()) for run in runs if run.has(path))


def order_of(run: load.Run) -> tuple[str, str]:
    """What decides the editing order: the file's order has no seed."""
    return run.planner, "" if run.planner == "file" else run.config.get("order.seed", "0")


def base_row(block: groups.Block, sort: Sort) -> dict[str, object]:
    """The unedited model: the runs of editor `none` where there are some (their locality is measured), else what any
    run of the block scored before its first edit, for all of them measured the same model on the same edits."""
    plain = [run for group in block.groups if group.method == "none" for run in group.runs]
    if plain:
        return _row(groups.Group(block.setting, "none", "", plain), BASE, sort)
    one = next((run for run in block.runs if run.has(f"/eval/base/reliability{suffix(sort.scorer)}")), block.runs[0])
    row = _row(groups.Group(block.setting, "none", "", [one]), BASE, replace(sort, moment="base"))
    return {**row, "runs": 0, "seeds": 0, "orders": 0}


def score_frame(results: load.Results, moment: str, scorer: str, split: Sequence[str] = ()) -> pd.DataFrame:
    """The table's numbers; blocks follow each other, the base row first in each."""
    rows = []
    sort = Sort(moment, scorer, tuple(kinds_of_locality(results.require_complete(), moment, scorer)))
    for block in groups.blocks_of(results.complete, split):
        for metric in style.METRICS:  # a column is an axis too: its rows are compared with each other
            load.gather(block.runs, f"/eval/{moment}/{metric}{suffix(scorer)}")
        rows.append(base_row(block, sort))
        rows += [_row(group, group.label, sort) for group in block.edited]
    return pd.DataFrame(rows)


def _heads(numbers: pd.DataFrame) -> dict[str, str]:
    """Column of the numbers -> column of the table: the four, then the other kinds of locality."""
    kinds = [name for name in numbers if name.startswith("locality_") and not name.endswith(("_std", "_edits"))]
    return HEADS | {kind: f"Loc {kind.removeprefix('locality_').replace('_', ' ')}" for kind in kinds}


def _best(numbers: pd.DataFrame, scores: Sequence[str]) -> pd.DataFrame:
    """The largest mean of each column in each block, as printed; the unedited model does not compete."""
    best = pd.DataFrame(False, index=numbers.index, columns=list(scores))
    edited = numbers[numbers.method != BASE]
    for _, block in edited.groupby(["model", "dataset", "edits"], sort=False):
        for score in scores:
            if block[score].notna().any() and len(block) > 1:
                best.loc[block.index, score] = block[score].round(3) == block[score].round(3).max()
    return best


def _protocol(results: load.Results, moment: str, scorer: str) -> str:
    """As the files say it."""
    found = load.gather(results.complete, f"/eval/{moment}/reliability{suffix(scorer)}")
    return found[0][1].kind.get("protocol", "protocol unknown").replace("_", "-") if found else "protocol unknown"


def score_table(results: load.Results, moment: str, scorer: str, split: Sequence[str] = ()) -> section.Table:
    numbers = score_frame(results, moment, scorer, split)
    heads = _heads(numbers)
    shown = pd.DataFrame({"Method": numbers.method})
    bold = _best(numbers, list(heads)).rename(columns=heads)
    for score, head in heads.items():
        triples = zip(numbers[score], numbers[f"{score}_std"], numbers.runs)
        shown[head] = [section.with_spread(*triple) for triple in triples]
    shown["Runs"] = [str(n) if n else section.MISSING for n in numbers.runs]
    caption = (
        f"Scores {MOMENT_NAMES[moment]}: {style.SCORER_NAMES.get(scorer, scorer)}, "
        f"{_protocol(results, moment, scorer)}; "
        "locality is agreement with the unedited model. Mean and standard deviation over runs (seeds and orders)."
    )
    bold = bold.reindex(columns=shown.columns, fill_value=False)
    return section.Table(f"scores-{moment}-{scorer}", caption, numbers, shown, section.block_headings(numbers), bold)


# ---- perplexity: for long targets, where token accuracy says little ----


def perplexities(run: load.Run, moment: str) -> dict[str, float]:
    """Mean and median of the edits' perplexities, and the perplexity of the mean token (outliers rule the first)."""
    nll, tokens = run.values(f"/eval/{moment}/target_nll"), run.values("/edit/target_tokens")
    known = ~np.isnan(nll) & (tokens > 0)
    per_edit = nll[known] / tokens[known]
    if not per_edit.size:
        return {"mean": float("nan"), "median": float("nan"), "of mean": float("nan")}
    with np.errstate(over="ignore"):
        each = np.exp(per_edit)
        return {"mean": float(each.mean()), "median": float(np.median(each)), "of mean": float(np.exp(per_edit.mean()))}


def perplexity_frame(results: load.Results, moment: str) -> pd.DataFrame:
    rows = []
    for block in groups.blocks_of(results.require_complete()):
        load.gather(block.runs, f"/eval/{moment}/target_nll")
        for group in [groups.Group(block.setting, "none", BASE, block.runs[:1]), *block.edited]:
            of = "base" if group.label == BASE else moment
            found = [run for run in group.runs if run.has(f"/eval/{of}/target_nll")]
            if found:
                means = pd.DataFrame([perplexities(run, of) for run in found]).mean()
                rows.append({**block.columns(), "method": group.label, "moment": of, "runs": len(found), **means})
    return pd.DataFrame(rows)


def perplexity_table(results: load.Results, moment: str = "final") -> section.Table | None:
    numbers = perplexity_frame(results, moment)
    if numbers.empty:
        return None
    shown = pd.DataFrame({"Method": numbers.method})
    for name in ("mean", "median", "of mean"):
        shown[{"mean": "Mean PPL", "median": "Median PPL", "of mean": "exp(mean NLL)"}[name]] = [
            f"{value:.4g}" if np.isfinite(value) else section.MISSING for value in numbers[name]
        ]
    blocks = section.block_headings(numbers)
    caption = f"Perplexity of the targets after the edit prompt, {MOMENT_NAMES[moment]}; lower is better."
    return section.Table(f"perplexity-{moment}", caption, numbers, shown, blocks)


# ---- the section ----


def scorers_present(results: load.Results, moment: str) -> list[str]:
    wanted = ("tok", "all", "wild")
    return [s for s in wanted if any(r.has(f"/eval/{moment}/reliability{suffix(s)}") for r in results.complete)]


def build(results: load.Results, split: Sequence[str] = ()) -> section.Section:
    made = section.Section(
        "table",
        "Results",
        "What the edited model knows: the edit itself (reliability), its paraphrase (generality), and how much of what "
        "should not change has not (locality). Final is retention, after the whole stream; immediate is success only.",
    )
    results.require_complete()
    for moment in ("final", "immediate"):
        made.items += [score_table(results, moment, scorer, split) for scorer in scorers_present(results, moment)]
    perplexity = perplexity_table(results)
    made.items += [perplexity] if perplexity else []
    made.notes += missing_scores(results)
    return made


def missing_scores(results: load.Results) -> list[str]:
    """Complete runs that lack what others have (another eval.scorers, eval.final: false)."""
    notes = []
    for moment in ("final", "immediate"):
        for scorer in scorers_present(results, moment):
            path = f"/eval/{moment}/reliability{suffix(scorer)}"
            notes += [f"{run.id} has no {path}" for run in results.complete if not run.has(path)]
    return notes


def main(arguments: Sequence[str] | None = None) -> int:
    made = section.parser(__doc__)
    made.add_argument("--by", action="append", default=[], metavar="KEY", help="a row for each value of this key")
    options = made.parse_args(arguments)

    def work() -> int:
        results = load.open_results(options.paths)
        folder = options.output or section.report_folder(options.paths)
        section.show(results, build(results, options.by), folder)
        return 0

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
