"""What a script makes: a section of tables and pictures, the same whether it runs alone or inside report.py.

A picture always comes with the numbers it shows, so that a figure can be redrawn, quoted and tested. Everything is
written below one folder: NAME.png and NAME.pdf of a picture, NAME.csv of its numbers; NAME.csv and NAME.tex of a table.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from lemoe_analysis.common import guarded
from matplotlib.figure import Figure

from lemoe_analysis import load, style

MISSING = "–"


@dataclass
class Table:
    """Numbers for CSV, and the same as text for people: one is exact, the other rounded and joined (0.81 ± 0.02)."""

    name: str
    caption: str
    numbers: pd.DataFrame
    shown: pd.DataFrame
    blocks: list[tuple[str, int]] = field(default_factory=list)  # (heading, rows below it), in order
    best: pd.DataFrame | None = None  # of the shape of shown: cells to set in bold


@dataclass
class Picture:
    """A figure and the numbers in it."""

    name: str
    caption: str
    numbers: pd.DataFrame
    figure: Figure


@dataclass
class Section:
    """One script's part of the report."""

    name: str
    title: str
    intro: str
    items: list[Table | Picture] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what is missing, and why

    def item(self, name: str) -> Table | Picture:
        return next(item for item in self.items if item.name == name)

    @property
    def tables(self) -> list[Table]:
        return [item for item in self.items if isinstance(item, Table)]

    @property
    def pictures(self) -> list[Picture]:
        return [item for item in self.items if isinstance(item, Picture)]


# ---- numbers as text ----


def number(value: float, digits: int = 3) -> str:
    if pd.isna(value):
        return MISSING
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")  # + 0.0: no minus before a zero


def with_spread(mean: float, spread: float, n: int, digits: int = 3) -> str:
    """Mean, and the standard deviation where there is more than one run."""
    if pd.isna(mean) or n < 2 or pd.isna(spread):
        return number(mean, digits)
    return f"{number(mean, digits)} ± {number(spread, digits)}"


def bytes_text(value: float) -> str:
    if pd.isna(value) or value < 0:
        return MISSING
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.2f} {unit}"
        value /= 1024
    return MISSING


def long_frame(matrices: dict[str, pd.DataFrame], value: str) -> pd.DataFrame:
    """Matrices of several methods as one long frame: method, row, column, value."""
    frames = []
    for method, matrix in matrices.items():
        row, column = matrix.index.name, matrix.columns.name
        frame = matrix.reset_index().melt(id_vars=row, var_name=column, value_name=value)
        frame[column] = frame[column].astype(matrix.columns.dtype)
        frames.append(frame.assign(method=method)[["method", row, column, value]])
    return pd.concat(frames, ignore_index=True)


# ---- as text, LaTeX ----


def as_text(table: Table) -> str:
    """For a terminal: aligned columns, headings of blocks between the rows."""
    if table.shown.empty:
        return table.caption
    widths = [max(len(str(c)), *(len(str(v)) for v in table.shown[c])) for c in table.shown]
    rule = "  ".join("-" * width for width in widths)

    def line(cells: Sequence[object]) -> str:
        return "  ".join(str(cell).ljust(width) for cell, width in zip(cells, widths)).rstrip()

    lines = [table.caption, "", line(table.shown.columns), rule]
    headings = headings_at(table)
    for index, row in enumerate(table.shown.itertuples(index=False)):
        if index in headings:
            lines += [""] * (index > 0) + [headings[index]]
        lines.append(line(row))
    return "\n".join(lines)


def block_headings(numbers: pd.DataFrame) -> list[tuple[str, int]]:
    """(heading, rows) of each setting, for a frame whose rows follow setting by setting."""
    by = numbers.groupby(["model", "dataset", "edits"], sort=False)
    return [(f"{model}, {dataset}, {edits} edits", len(block)) for (model, dataset, edits), block in by]


def headings_at(table: Table) -> dict[int, str]:
    """Row at which each block begins -> its heading."""
    found, row = {}, 0
    for heading, n_rows in table.blocks:
        found[row] = heading
        row += n_rows
    return found


_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "–": "--",
        "−": "$-$",
        "±": r"$\pm$",
        "ρ": r"$\rho$",
        "≥": r"$\geq$",
        "→": r"$\to$",
        "ᵢ": r"$_i$",
    }
)


def _latex_cell(value: object, is_bold: bool = False) -> str:
    text = str(value).translate(_LATEX)
    return rf"\textbf{{{text}}}" if is_bold else text


def as_latex(table: Table) -> str:
    r"""A booktabs tabular in a table environment, to be \input; needs \usepackage{booktabs}."""
    columns = list(table.shown.columns)
    lines = [
        rf"% {table.caption}".replace("\n", " "),
        r"\begin{table}[t]",
        r"\centering\small",
        rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}",
        r"\toprule",
        " & ".join(_latex_cell(c) for c in columns) + r" \\",
    ]
    headings = headings_at(table)
    if not headings:
        lines.append(r"\midrule")
    for index, row in enumerate(table.shown.itertuples(index=False)):
        if index in headings:
            lines += [
                r"\midrule",
                rf"\multicolumn{{{len(columns)}}}{{l}}{{\emph{{{_latex_cell(headings[index])}}}}} \\",
            ]
        bold = table.best.iloc[index] if table.best is not None else [False] * len(columns)
        lines.append(" & ".join(_latex_cell(v, bool(b)) for v, b in zip(row, bold)) + r" \\")
    caption = _latex_cell(table.caption)
    lines += [
        r"\bottomrule",
        r"\end{tabular}",
        rf"\caption{{{caption}}}",
        rf"\label{{tab:{table.name}}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


# ---- files ----


def write(section: Section, folder: Path) -> list[Path]:
    """Every item's files, each whole or not at all: a figure being looked at is never half there."""
    make_folder(folder)
    written = []
    for item in section.items:
        written.append(
            write_file(folder / f"{item.name}.csv", lambda path, i=item: i.numbers.to_csv(path, index=False))
        )
        if isinstance(item, Table):
            text = as_latex(item)
            written.append(write_file(folder / f"{item.name}.tex", lambda path, t=text: path.write_text(t, "utf-8")))
        else:
            written += _write_figure(item.figure, folder / item.name)
    return written


def _write_figure(figure: Figure, stem: Path) -> list[Path]:
    """PNG and PDF, without the time of writing: the same results give the same bytes."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out now, once for both
    return [
        write_file(stem.with_name(f"{stem.name}.png"), lambda path: figure.savefig(path, format="png")),
        write_file(
            stem.with_name(f"{stem.name}.pdf"),
            lambda path: figure.savefig(path, format="pdf", metadata={"CreationDate": None}),
        ),
    ]


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise load.ResultsError(f"{folder}: cannot be made ({error.strerror})") from error


def write_file(path: Path, save: Callable[[Path], object]) -> Path:
    """Through a file beside it; `save` gets the path to write."""
    part = path.with_name(f".{path.name}")
    try:
        save(part)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise load.ResultsError(f"{path}: cannot be written ({error.strerror or error})") from error
    return path


def report_folder(paths: Sequence[Path]) -> Path:
    """report/ beside the results: in the output folder itself, or beside a single file."""
    first = Path(paths[0])
    if first.is_dir():
        return (first.parent if first.name == "runs" else first) / "report"
    return (first.parent.parent if first.parent.name == "runs" else first.parent) / "report"


# ---- scripts ----


def parser(description: str | None, **options) -> argparse.ArgumentParser:
    """What every script takes."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, **options
    )
    made.add_argument("paths", nargs="+", metavar="PATH", help="output folder, sweep.h5 or run files")
    made.add_argument("--output", type=Path, metavar="DIR", help="where files go (default: report/ beside the results)")
    return made


def show(results: load.Results, section: Section, folder: Path) -> None:
    """Tables on standard output, everything as files, and what was left out on standard error."""
    for table in section.tables:
        print(as_text(table), end="\n\n")
    for path in write(section, folder):
        print(path)
    for note in [*results.notes, *section.notes, *left_out_lines(results)]:
        print(f"note: {note}", file=sys.stderr)


def left_out_lines(results: load.Results) -> list[str]:
    return [f"not in these numbers: {e.id}: {e.status}{f', {e.reason}' if e.reason else ''}" for e in results.left_out]


def main(
    build: Callable[[load.Results], Section], description: str | None, arguments: Sequence[str] | None = None
) -> int:
    """A script that makes one section and takes no options of its own."""
    options = parser(description).parse_args(arguments)

    def work() -> int:
        style.use()
        results = load.open_results(options.paths)
        show(results, build(results), options.output or report_folder(options.paths))
        return 0

    return guarded(work)
