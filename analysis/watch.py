#!/usr/bin/env python3
"""Watches a running sweep: in the terminal, or as a page that refreshes itself (--page FILE).

Shows what is done, running, waiting, lost and failed, with batches, loss, scores so far and the time left. Ends by
itself when nothing is running or waiting any more. Statuses come from `lemoe-run --status`, numbers from the published
files; nothing is ever written into the results.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pandas as pd
from lemoe_analysis.common import ResultsError, guarded
from lemoe_analysis.table import mean_of

from lemoe_analysis import load, section

UNFINISHED = ("running", "waiting")
ORDER = ("running", "lost", "failed", "unreadable", "interrupted", "waiting", "complete")  # what to look at first
MARKS = {"complete": "●", "running": "◐", "waiting": "○"}  # others: "!"

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="{every}">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 70rem; color: #1a1a1a; }}
h1 {{ font-size: 1.4rem; }} .wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .25rem .6rem; text-align: left; border-bottom: 1px solid #ddd; }}
td.failed, td.lost, td.unreadable {{ color: #b00; font-weight: 600; }} td.running {{ font-weight: 600; }}
progress {{ width: 100%; height: 1rem; }}
</style></head><body><h1>{title}</h1><p>{summary}</p>
<progress value="{done}" max="{total}"></progress>
<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>
<p>{when}; {note}</p></body></html>
"""


# ---- numbers ----


def last_finite(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known[-1]) if known.size else float("nan")


def run_row(entry: load.Entry) -> dict[str, object]:
    """What there is to say of a run, as far as it has come."""
    row: dict[str, object] = {
        "run": entry.id,
        "status": entry.status,
        "done": 0,
        "batches": 0,
        "loss": float("nan"),
        "reliability": float("nan"),
        "seconds left": float("nan"),
        "reason": entry.reason,
    }
    run = entry.run
    if run is None:
        return row
    row |= {"done": run.batches_done, "batches": run.n_batches}
    if run.has("/train/loss"):
        row["loss"] = last_finite(run.values("/train/loss"))
    for moment in ("final", "immediate"):
        path = f"/eval/{moment}/reliability"
        if run.has(path) and not np.isnan(mean_of(run.values(path))):
            row["reliability"] = mean_of(run.values(path))
            break
    if entry.status == "running" and run.batches_done:
        per_batch = np.nanmean(run.values("/cost/seconds"))
        row["seconds left"] = float(per_batch * (run.n_batches - run.batches_done))
    if entry.status in ("running", "complete"):
        row["reason"] = ""
    return row


def progress_frame(results: load.Results) -> pd.DataFrame:
    """One row a run, those to look at first on top."""
    frame = pd.DataFrame([run_row(entry) for entry in results.entries])
    rank = frame.status.map(lambda s: ORDER.index(s) if s in ORDER else len(ORDER) - 1)
    return frame.iloc[np.argsort(rank, kind="stable")].reset_index(drop=True)


def summary_line(frame: pd.DataFrame) -> str:
    counts = frame.status.value_counts()
    said = ", ".join(f"{n} {status}" for status, n in counts.items())
    return f"{len(frame)} runs: {said}"


def is_over(frame: pd.DataFrame) -> bool:
    return not frame.status.isin(UNFINISHED).any()


# ---- as text, as a page ----


def duration(seconds: float) -> str:
    if np.isnan(seconds):
        return ""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def shown_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame as people read it."""
    batches = [f"{row.done} of {row.batches}" if row.batches else "" for row in frame.itertuples()]
    return pd.DataFrame(
        {
            "Run": frame.run,
            "Status": [f"{MARKS.get(status, '!')} {status}" for status in frame.status],
            "Batches": batches,
            "Loss": [section.number(v) for v in frame.loss],
            "Reliability": [section.number(v) for v in frame.reliability],
            "Time left": [duration(v) for v in frame["seconds left"]],
            "Reason": frame.reason,
        }
    )


def as_text(title: str, frame: pd.DataFrame) -> str:
    table = section.Table("progress", f"{title}: {summary_line(frame)}", frame, shown_frame(frame))
    return section.as_text(table)


def as_page(title: str, frame: pd.DataFrame, every: float) -> str:
    from html import escape

    shown = shown_frame(frame)
    rows = []
    for status, values in zip(frame.status, shown.itertuples(index=False)):
        cells = "".join(f'<td class="{escape(status)}">{escape(str(value))}</td>' for value in values)
        rows.append(f"<tr>{cells}</tr>")
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return PAGE.format(
        every=max(1, round(every)),
        title=escape(title),
        summary=escape(summary_line(frame)),
        done=int((frame.status == "complete").sum()),
        total=len(frame),
        head="".join(f"<th>{escape(c)}</th>" for c in shown),
        rows="".join(rows),
        when=f"As of {now}",
        note="nothing is running any more" if is_over(frame) else "refreshes itself",
    )


# ---- watching ----


def look(folder: Path) -> pd.DataFrame | None:
    """None while the folder holds nothing yet: a sweep that is just starting."""
    try:
        return progress_frame(load.open_results([folder]))
    except ResultsError:
        if folder.is_dir() and any(folder.glob("runs/*.h5")):
            raise
        return None


def show(folder: Path, frame: pd.DataFrame, options: argparse.Namespace) -> None:
    if options.page:
        section.write_file(options.page, lambda p: p.write_text(as_page(str(folder), frame, options.every), "utf-8"))
    else:
        clear = "\x1b[H\x1b[2J" if sys.stdout.isatty() and not options.once else ""
        print(f"{clear}{as_text(str(folder), frame)}\n", flush=True)


def watch(folder: Path, options: argparse.Namespace) -> int:
    """Until it is over: 0 when all is complete, 2 when something else is left."""
    said_waiting = False
    began = time.monotonic()
    while True:
        frame = look(folder)
        if frame is None and options.once:
            raise ResultsError(f"{folder}: no results there (yet)")
        if not folder.is_dir() and time.monotonic() - began >= options.wait:
            raise ResultsError(f"{folder}: no such folder, after {options.wait:g} s; is its name right? (--wait SECONDS)")
        if frame is None and not said_waiting:
            print(f"{folder}: waiting for the first run", file=sys.stderr)
            said_waiting = True
        if frame is not None:
            show(folder, frame, options)
            if options.once or is_over(frame):
                return 0 if (frame.status == "complete").all() or options.once else 2
        time.sleep(options.every)


def main(arguments: Sequence[str] | None = None) -> int:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("folder", type=Path, metavar="DIR", help="output folder of the sweep")
    made.add_argument("--page", type=Path, metavar="FILE", help="write a page that refreshes itself, instead of text")
    made.add_argument("--every", type=float, default=5, metavar="SECONDS", help="how often to look (default: 5)")
    made.add_argument("--wait", type=float, default=60, metavar="SECONDS", help="for the folder to appear (default: 60)")
    made.add_argument("--once", action="store_true", help="look once and end")
    options = made.parse_args(arguments)
    return guarded(lambda: watch(options.folder, options))


if __name__ == "__main__":
    sys.exit(main())
