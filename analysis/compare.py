#!/usr/bin/env python3
"""Two result folders or runs side by side: what differs in configuration, and in numbers.

    compare.py results/before results/after           folders: method by method
    compare.py A.h5 B.h5                              runs: edit by edit, with what one has right and the other has not

Edits are paired by their record in the data file, so two editing orders of the same data compare edit by edit. Numbers
of different protocol, scorer or moment are refused.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from lemoe_analysis.common import ResultsError, guarded
from lemoe_analysis.table import run_scores

from lemoe_analysis import groups, load, section, style

COMPARED = [(moment, metric) for moment in ("final", "immediate") for metric in style.METRICS]
PROVENANCE = ("model_fingerprint", "data_fingerprint", "tokenizer_fingerprint", "numerics_version", "git_commit",
              "versions", "device", "domain", "tensor_parallel", "threads")  # fmt: skip


@dataclass
class Side:
    """One of the two: its name in tables, and its complete runs."""

    name: str
    runs: list[load.Run]


def config_frame(a: Side, b: Side) -> pd.DataFrame:
    """Keys and provenance that differ: every value that occurs on each side."""

    def values(side: Side, name: str) -> str:
        own = name in PROVENANCE
        found = {str(r.attributes.get(name, "")) if own else r.config.get(name, "") for r in side.runs}
        return ", ".join(sorted(found - {""})) or section.MISSING

    keys = sorted({key for side in (a, b) for run in side.runs for key in run.config}) + list(PROVENANCE)
    rows = [(key, values(a, key), values(b, key)) for key in keys]
    return pd.DataFrame([row for row in rows if row[1] != row[2]], columns=["key", "A", "B"])


def check_comparable(a: Side, b: Side) -> None:
    """Same data, and every metric of one kind on both sides."""
    if not {run.attributes.get("data_fingerprint") for run in a.runs} & {
        r.attributes.get("data_fingerprint") for r in b.runs
    }:
        raise ResultsError(f"{a.name} and {b.name} have no dataset in common: there is nothing to compare")
    for moment, metric in COMPARED:
        load.gather([*a.runs, *b.runs], f"/eval/{moment}/{metric}")


# ---- method by method ----


def _key(group: groups.Group) -> tuple:
    """Which groups of the two sides stand beside each other: same data, same number of edits, same name - the method's,
    with the keys that tell groups of one method apart where a side has several."""
    return group.runs[0].attributes.get("data_fingerprint"), group.setting.n_edits, group.label


def method_frame(a: Side, b: Side) -> pd.DataFrame:
    """One row a (method, moment, metric): mean of each side's runs, and B - A."""
    sides = [groups.group_runs(side.runs) for side in (a, b)]
    keys = list(dict.fromkeys(_key(group) for side in sides for group in side))
    rows = []
    for key in keys:
        of_a, of_b = ([run for group in side if _key(group) == key for run in group.runs] for side in sides)
        for moment, metric in COMPARED:
            means = [run_scores(runs, moment, "tok")[metric].mean() if runs else float("nan") for runs in (of_a, of_b)]
            row = {"method": key[2], "edits": key[1], "moment": moment, "metric": metric}
            rows.append({**row, "A": means[0], "B": means[1], "runs_A": len(of_a), "runs_B": len(of_b)})
    frame = pd.DataFrame(rows)
    return frame.assign(difference=frame.B - frame.A)


# ---- edit by edit ----


def paired_frame(a: load.Run, b: load.Run) -> pd.DataFrame:
    """The edits that both runs have, by their record in the data file, with all scores of both."""
    frames = []
    for run in (a, b):
        paths = [f"/eval/{moment}/{metric}" for moment, metric in COMPARED if run.has(f"/eval/{moment}/{metric}")]
        frame = run.frame("edit")[["/edit/record", "/edit/prompt", "/edit/target", *paths]]
        frames.append(frame.drop_duplicates("/edit/record").set_index("/edit/record"))
    texts = frames[0][["/edit/prompt", "/edit/target"]]
    scores = [frame.drop(columns=["/edit/prompt", "/edit/target"]) for frame in frames]
    return texts.join(scores[0].join(scores[1], how="inner", lsuffix="|A", rsuffix="|B"), how="inner")


def paired_summary(pairs: pd.DataFrame) -> pd.DataFrame:
    """Mean difference of each metric with its standard error over edits, and how many went which way."""
    rows = []
    for moment, metric in COMPARED:
        columns = [f"/eval/{moment}/{metric}|{side}" for side in "AB"]
        if not set(columns) <= set(pairs):
            continue
        first, second = (pairs[column] for column in columns)
        difference = (second - first).dropna()
        n = len(difference)
        error = difference.std(ddof=1) / np.sqrt(n) if n > 1 else float("nan")
        row = {
            "moment": moment,
            "metric": metric,
            "A": first.mean(),
            "B": second.mean(),
            "difference": difference.mean(),
        }
        better, worse = int((difference > 0).sum()), int((difference < 0).sum())
        rows.append({**row, "standard_error": error, "edits": n, "better": better, "worse": worse})
    return pd.DataFrame(rows)


def moved_edits(pairs: pd.DataFrame, at_most: int = 10) -> pd.DataFrame:
    """Edits whose final reliability changed most, either way."""
    columns = ["/eval/final/reliability|A", "/eval/final/reliability|B"]
    if not set(columns) <= set(pairs):
        return pd.DataFrame(columns=["record", "prompt", "target", "A", "B"])
    change = (pairs[columns[1]] - pairs[columns[0]]).abs()
    order = change[change > 0].sort_values(ascending=False, kind="stable").index[:at_most]
    own = pairs.loc[order, ["/edit/prompt", "/edit/target", *columns]].reset_index()
    return own.set_axis(["record", "prompt", "target", "A", "B"], axis=1)


# ---- the section ----


def _text(frame: pd.DataFrame, digits: int = 3) -> pd.DataFrame:
    floats = {c: frame[c].map(lambda v: section.number(v, digits)) for c in frame.select_dtypes("float")}
    shown = frame.assign(**floats).astype(str)
    return shown.set_axis([str(c).replace("_", " ") for c in shown], axis=1)


def compare_sides(a: Side, b: Side) -> section.Section:
    check_comparable(a, b)
    made = section.Section("compare", "Comparison", f"A: {a.name}\nB: {b.name}")
    config = config_frame(a, b)
    caption = (
        "What differs in configuration and provenance." if len(config) else "Configuration and provenance are equal."
    )
    made.items.append(section.Table("compare-config", caption, config, config))
    if len(a.runs) == 1 and len(b.runs) == 1:
        pairs = paired_frame(a.runs[0], b.runs[0])
        if pairs.empty:
            raise ResultsError(f"{a.name} and {b.name} have no edit in common: there is nothing to compare")
        summary, moved = paired_summary(pairs), moved_edits(pairs)
        caption = (
            f"Scores of the {len(pairs)} edits that both have; difference is B - A, with its standard error over edits."
        )
        made.items.append(section.Table("compare-edits", caption, summary, _text(summary)))
        if len(moved):
            caption = "Edits whose final reliability moved most."
            made.items.append(section.Table("compare-moved", caption, moved, _text(moved)))
    else:
        frame = method_frame(a, b)
        caption = "Scores method by method, means over runs; difference is B - A."
        made.items.append(section.Table("compare-methods", caption, frame, _text(frame)))
    return made


def open_sides(path_a: str, path_b: str) -> tuple[Side, Side, list[load.Results]]:
    """Opened one by one: the same run on both sides is no repetition."""
    opened = [load.open_results([path]) for path in (path_a, path_b)]
    return *(Side(path, results.require_complete()) for path, results in zip((path_a, path_b), opened)), opened


def main(arguments: Sequence[str] | None = None) -> int:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("a", metavar="A")
    made.add_argument("b", metavar="B")
    made.add_argument("--output", type=Path, metavar="DIR", help="write the tables as CSV and LaTeX there, too")
    options = made.parse_args(arguments)

    def work() -> int:
        a, b, opened = open_sides(options.a, options.b)
        compared = compare_sides(a, b)
        print(compared.intro, end="\n\n")
        for table in compared.tables:
            print(section.as_text(table), end="\n\n")
        for path in section.write(compared, options.output) if options.output else []:
            print(path)
        for results in opened:
            for note in [*results.notes, *section.left_out_lines(results)]:
                print(f"note: {note}", file=sys.stderr)
        return 0

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
