#!/usr/bin/env python3
"""The paper's tables and figures of an output folder, in one page: report/index.html beside the results.

The page is one file with its pictures inside: no network, readable on a phone, printable. Beside it lie the figures as
PNG and PDF and all numbers as CSV, tables also as LaTeX. Runs that are not complete are listed, with the reason, and
are part of no number; where numbers of different kinds would have to be mixed, the page says so instead, and the exit
status is 1.
"""

from __future__ import annotations

import base64
import html
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from lemoe_analysis.common import ResultsError, guarded

from lemoe_analysis import cost, forgetting, load, order, routing, section, similarity, style, table

BUILDERS: tuple[tuple[str, Callable[[load.Results], section.Section]], ...] = (
    ("Results", table.build),
    ("Forgetting", forgetting.build),
    ("Routing", routing.build),
    ("Editing order", order.build),
    ("Similarity", similarity.build),
    ("Cost", cost.build),
)
SCREEN_WIDTH = 860  # pixels of a picture two columns wide, where the screen has them; type is then of one size

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light; }}
* {{ box-sizing: border-box; }}
body {{ font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 0 auto; padding: 1rem;
       max-width: 62rem; }}
h1 {{ font-size: 1.6rem; line-height: 1.2; margin: .5rem 0; }}
h2 {{ font-size: 1.25rem; margin: 2.5rem 0 .5rem; padding-top: .5rem; border-top: 1px solid #ddd; }}
p, figcaption {{ max-width: 46rem; }}
nav {{ position: sticky; top: 0; background: #fff; padding: .4rem 0; border-bottom: 1px solid #ddd; overflow-x: auto;
      white-space: nowrap; }}
nav a {{ margin-right: 1rem; }}
a {{ color: #0b5a8a; }}
table {{ border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }}
.caption {{ font-size: .875rem; color: #444; margin: 1.5rem 0 .4rem; break-after: avoid; }}
.wide {{ overflow-x: auto; margin: 0 0 1rem; }}
th, td {{ padding: .25rem .5rem; text-align: right; white-space: nowrap; }}
thead th {{ white-space: normal; vertical-align: bottom; }}
th:first-child, td:first-child {{ text-align: left; padding-left: 0; }}
td.text {{ text-align: left; white-space: normal; min-width: 12rem; overflow-wrap: anywhere; }}
thead th {{ border-top: 2px solid #222; border-bottom: 1px solid #222; font-weight: 600; }}
tbody tr:last-child td {{ border-bottom: 2px solid #222; }}
tr.block th {{ text-align: left; font-weight: 600; font-style: italic; padding-top: .7rem; }}
figure {{ margin: 1.5rem 0; }}
figure img {{ max-width: 100%; height: auto; display: block; }}
figcaption {{ font-size: .875rem; color: #444; margin-top: .3rem; }}
.note {{ font-size: .875rem; color: #444; }}
.refused {{ border-left: 4px solid #D55E00; padding: .5rem .8rem; background: #fdf3ec; overflow-wrap: anywhere; }}
.status {{ font-weight: 600; }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; font-size: .875rem; margin: .5rem 0; }}
dt {{ color: #555; }} dd {{ margin: 0; overflow-wrap: anywhere; }}
@media (max-width: 36rem) {{
  dl {{ grid-template-columns: 1fr; }}
  dd {{ margin-bottom: .4rem; }}
  figure img.two {{ max-width: none; width: 40rem; }} /* type stays legible: the figure scrolls, the page does not */
}}
@media print {{
  nav {{ display: none; }}
  body {{ max-width: none; padding: 0; font-size: 10pt; }}
  .wide {{ overflow: visible; }}
  table {{ font-size: 8pt; }}
  figure, table, .refused {{ break-inside: avoid; }}
  h2 {{ break-after: avoid; }}
}}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def escape(value: object) -> str:
    return html.escape(str(value))


# ---- parts of the page ----


def table_html(made: section.Table) -> str:
    columns = list(made.shown.columns)
    rows = []
    headings = section.headings_at(made)
    for index, values in enumerate(made.shown.itertuples(index=False)):
        if index in headings:
            rows.append(f'<tr class="block"><th colspan="{len(columns)}">{escape(headings[index])}</th></tr>')
        bold = made.best.iloc[index] if made.best is not None else [False] * len(columns)
        cells = (f"<td><b>{escape(v)}</b></td>" if b else f"<td>{escape(v)}</td>" for v, b in zip(values, bold))
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(f"<th>{escape(c)}</th>" for c in columns)
    files = _links(made.name, ("csv", "tex"))
    return (
        f'<p class="caption" id="{made.name}">{escape(made.caption)} {files}</p><div class="wide"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def picture_html(made: section.Picture, folder: Path) -> str:
    """The picture as it lies in the folder, embedded."""
    width = int(made.figure.get_figwidth() / style.TWO_COLUMNS * SCREEN_WIDTH)
    columns = "two" if made.figure.get_figwidth() == style.TWO_COLUMNS else "one"
    text = base64.b64encode((folder / f"{made.name}.png").read_bytes()).decode("ascii")
    return (
        f'<figure id="{made.name}"><div class="wide"><img class="{columns}" width="{width}" '
        f'alt="{escape(made.caption)}" src="data:image/png;base64,{text}"></div>'
        f"<figcaption>{escape(made.caption)} {_links(made.name, ('pdf', 'png', 'csv'))}</figcaption></figure>"
    )


def _links(name: str, kinds: Sequence[str]) -> str:
    return "[" + ", ".join(f'<a href="{name}.{kind}">{kind}</a>' for kind in kinds) + "]"


def section_html(made: section.Section, folder: Path) -> str:
    items = [table_html(i) if isinstance(i, section.Table) else picture_html(i, folder) for i in made.items]
    notes = [f'<p class="note">{escape(note[0].upper() + note[1:])}.</p>' for note in made.notes]
    head = f'<h2 id="about-{made.name}">{escape(made.title)}</h2><p>{escape(made.intro)}</p>'
    return "".join([head, *items, *notes])


def refused_html(name: str, title: str, error: ResultsError) -> str:
    return f'<h2 id="about-{name}">{escape(title)}</h2><p class="refused">{escape(str(error))}</p>'


def runs_html(results: load.Results) -> str:
    """Every run there is, with what became of it; what is not in the numbers first."""
    frame = results.status_frame()
    frame = frame.sort_values("in the numbers", kind="stable").reset_index(drop=True)
    counts = ", ".join(f"{n} {status}" for status, n in frame.status.value_counts().items())
    rows = []
    for row in frame.itertuples(index=False):
        done, batches = ("" if pd.isna(n) else int(n) for n in (row[2], row[3]))
        progress = f"{done} of {batches}" if batches != "" else section.MISSING
        rows.append(
            f'<tr><td>{escape(row[0])}</td><td class="status">{escape(row[1])}</td><td>{progress}</td>'
            f'<td>{row[4]}</td><td class="text">{escape(row[5])}</td></tr>'
        )
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in results.notes)
    head = "<th>Run</th><th>Status</th><th>Batches</th><th>In the numbers</th><th>Reason</th>"
    return (
        f'<h2 id="about-runs">Runs</h2><p>{len(frame)} runs: {escape(counts)}. '
        f"Only complete ones are in the numbers.</p>"
        f'{notes}<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


PROVENANCE = (
    ("models", lambda run: f"{run.config.get('model.path', '?')} ({run.attributes.get('model_fingerprint', '?')})"),
    ("data", lambda run: f"{run.config.get('data.path', '?')} ({run.attributes.get('data_fingerprint', '?')})"),
    ("program", lambda run: f"commit {run.attributes.get('git_commit', '?')}{_dirty(run)}"),
    ("versions", lambda run: str(run.attributes.get("versions", "?"))),
    ("numerics", lambda run: f"version {run.attributes.get('numerics_version', '?')}"),
    ("hosts", lambda run: str(run.attributes.get("hosts", "?"))),
    ("tensor parallel", lambda run: str(run.attributes.get("tensor_parallel", "?"))),
)


def _dirty(run: load.Run) -> str:
    return " with local changes" if run.attributes.get("git_dirty") else ""


def provenance_html(results: load.Results) -> str:
    """What the numbers come from; several values where runs differ."""
    runs = [entry.run for entry in results.entries if entry.run]
    rows = []
    for name, say in PROVENANCE:
        values = dict.fromkeys(say(run) for run in runs)
        rows.append(f"<dt>{name}</dt><dd>{'<br>'.join(escape(v) for v in values)}</dd>")
    times = sorted(str(run.attributes[n]) for run in runs for n in ("started_at", "ended_at") if n in run.attributes)
    if times:
        rows.append(f"<dt>run from</dt><dd>{escape(times[0])} to {escape(times[-1])}</dd>")
    return f'<h2 id="about-provenance">Where the numbers come from</h2><dl>{"".join(rows)}</dl>'


# ---- the whole ----


def build_all(results: load.Results) -> list[tuple[str, section.Section | ResultsError]]:
    """Every section, or the reason why it was refused; the others are made all the same."""
    made: list[tuple[str, section.Section | ResultsError]] = []
    for title, build in BUILDERS:
        try:
            made.append((title, build(results)))
        except ResultsError as error:
            made.append((title, error))
    return made


def page_html(results: load.Results, made: Sequence[tuple[str, section.Section | ResultsError]], folder: Path) -> str:
    """folder: where the sections' pictures have been written."""
    names = {title: title.lower().replace(" ", "-") if isinstance(s, ResultsError) else s.name for title, s in made}
    links = [*names.items(), ("Runs", "runs"), ("Provenance", "provenance")]
    nav = "".join(f'<a href="#about-{name}">{escape(title)}</a>' for title, name in links)
    left_out = len(results.left_out)
    warning = (
        f'<p class="refused">{left_out} of {len(results.entries)} runs are not in these numbers: see '
        f'<a href="#about-runs">Runs</a>.</p>'
        if left_out
        else ""
    )
    sections = "".join(
        refused_html(names[title], title, s) if isinstance(s, ResultsError) else section_html(s, folder)
        for title, s in made
    )
    title = f"lemoe: {results.title}"
    body = f"<h1>{escape(title)}</h1><nav>{nav}</nav>{warning}{sections}{runs_html(results)}{provenance_html(results)}"
    return PAGE.format(title=escape(title), body=body)


def write_report(results: load.Results, folder: Path) -> tuple[Path, list[str]]:
    """The page and everything beside it; (path of the page, messages of what was refused, each once)."""
    style.use()
    section.make_folder(folder)
    made = build_all(results)
    for _, part in made:
        if isinstance(part, section.Section):
            section.write(part, folder)
    page = section.write_file(folder / "index.html", lambda p: p.write_text(page_html(results, made, folder), "utf-8"))
    return page, list(dict.fromkeys(str(part) for _, part in made if isinstance(part, ResultsError)))


def main(arguments: Sequence[str] | None = None) -> int:
    options = section.parser(__doc__).parse_args(arguments)

    def work() -> int:
        results = load.open_results(options.paths)
        page, refused = write_report(results, options.output or section.report_folder(options.paths))
        for note in [*results.notes, *section.left_out_lines(results)]:
            print(f"note: {note}", file=sys.stderr)
        for message in refused:
            print(f"error: {message}", file=sys.stderr)
        print(page)
        return 1 if refused else 0

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
