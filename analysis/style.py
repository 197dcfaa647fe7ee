"""How figures look: sizes of a paper's one and two columns, and one colour, marker and line a method everywhere.

Colours are Okabe and Ito's, which the colour-blind can tell apart. In grey the neighbours differ by marker, dash and
hatch, so no figure relies on colour alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

ONE_COLUMN = 3.03  # inches: 7.7 cm, a column of an ACL page
TWO_COLUMNS = 6.30  # 16 cm, its whole width
GOLDEN = 0.62

METRICS = ("reliability", "generality", "locality")
METRIC_NAMES = {"reliability": "Reliability", "generality": "Generality", "locality": "Locality", "average": "Average"}
SCORER_NAMES = {
    "tok": "share of answer tokens",
    "all": "share of whole answers",
    "wild": "share of answers, free decoding",
    "nll": "nats",
}
MAP = "cividis"  # for heat maps: even in grey, and to the colour-blind


@dataclass(frozen=True)
class Look:
    """What a method looks like wherever it appears."""

    name: str
    colour: str
    marker: str
    dash: str | tuple


BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, RED, PURPLE, GREY = "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#7F7F7F"
DOTTED, DASHED, DASHDOT, LONG = (0, (1, 1.2)), (0, (4, 1.5)), (0, (5, 1.2, 1, 1.2)), (0, (8, 2))

LOOKS = {
    "none": Look("unedited", GREY, ".", DOTTED),
    "lemoe-stable": Look("LEMoE (stable)", BLUE, "o", "-"),
    "lemoe-paper": Look("LEMoE (paper)", RED, "s", DASHED),
    "moe": Look("MoE", GREEN, "^", DASHDOT),
    "ft_m": Look("FT-M", ORANGE, "D", DOTTED),
    "ft_l": Look("FT-L", YELLOW, "d", LONG),
    "ft_ewc": Look("FT-EWC", PURPLE, "v", DASHED),
    "lora": Look("LoRA", SKY, "P", DASHDOT),
    "rome": Look("ROME", BLACK, "X", DOTTED),
    "memit": Look("MEMIT", GREY, "p", LONG),
    "mend": Look("MEND", ORANGE, "h", "-"),
    "defer": Look("DEFER", GREEN, "<", LONG),
    "grace": Look("GRACE", SKY, ">", "-"),
    "wise": Look("WISE", PURPLE, "*", "-"),
    "alphaedit": Look("AlphaEdit", BLACK, "8", DASHED),
    "ultraedit": Look("UltraEdit", RED, "H", LONG),
}
UNKNOWN = Look("", BLACK, "p", "-")  # an editor these scripts do not know yet still gets drawn


def look(method: str) -> Look:
    """Of a method as groups.method_of names it."""
    return LOOKS.get(method) or replace(UNKNOWN, name=method)


def method_name(method: str) -> str:
    """As printed in tables and legends."""
    return look(method).name


def variant(method: str, index: int) -> Look:
    """The index-th group of one method in one figure: its colour, another marker and dash."""
    own = look(method)
    if index == 0:
        return own
    markers, dashes = "osD^vPX*", (DASHED, DOTTED, DASHDOT, LONG, "-")
    return replace(own, marker=markers[(markers.find(own.marker) + index) % 8], dash=dashes[(index - 1) % 5])


def series_of(frame: pd.DataFrame) -> list[tuple[str, Look]]:
    """(label, look) of each method in a frame with columns `editor` and `method`; groups of one editor stay apart."""
    seen: dict[str, int] = {}
    series = []
    for editor, label in frame[["editor", "method"]].drop_duplicates().itertuples(index=False):
        series.append((label, variant(editor, seen.get(editor, 0))))
        seen[editor] = seen.get(editor, 0) + 1
    return series


def use() -> None:
    """Sets matplotlib up; every script calls it before it draws."""
    matplotlib.rcParams.update(
        {
            "figure.dpi": 100,
            "savefig.dpi": 300,
            "font.size": 8,
            "axes.titlesize": 8,
            "axes.labelsize": 8,
            "xtick.labelsize": 7,
            "ytick.labelsize": 7,
            "legend.fontsize": 7,
            "legend.frameon": False,
            "legend.handlelength": 2.4,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.linewidth": 0.6,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#E3E3E3",
            "grid.linewidth": 0.5,
            "xtick.major.width": 0.6,
            "ytick.major.width": 0.6,
            "xtick.major.size": 2.5,
            "ytick.major.size": 2.5,
            "lines.linewidth": 1.2,
            "lines.markersize": 4,
            "errorbar.capsize": 1.5,
            "hatch.linewidth": 0.5,
            "pdf.fonttype": 42,  # text stays text in the paper
            "ps.fonttype": 42,
            "svg.fonttype": "none",
        }
    )


def panels(n_rows: int, n_columns: int, width: float, height: float, **options) -> tuple[Figure, list[Axes]]:
    """A figure of equal panels; height is that of one panel, in inches. Nothing global holds on to it."""
    figure = Figure(figsize=(width, height * n_rows), layout="constrained")
    return figure, list(figure.subplots(n_rows, n_columns, squeeze=False, **options).ravel())


def whole_numbers(axis) -> None:
    """Ticks at whole numbers: batches and edits have no halves."""
    axis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def ticks_at(axes: Axes, values: Sequence[float], at_most: int = 6) -> None:
    """Ticks at the points that were measured, while they are few."""
    points = sorted(set(values))
    if len(points) <= at_most:
        axes.set_xticks(points)
    else:
        whole_numbers(axes.xaxis)


def plain_log_ticks(axes: Axes) -> None:
    """1, 2, 5, 10 ... as plain numbers on both logarithmic axes."""
    for axis in (axes.xaxis, axes.yaxis):
        low, high = axis.get_view_interval()
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def share_axis(axes: Axes, which: str = "y") -> None:
    """A share runs from 0 to 1; a little air keeps points at the ends whole."""
    (axes.set_ylim if which == "y" else axes.set_xlim)(-0.04, 1.04)
    (axes.set_yticks if which == "y" else axes.set_xticks)([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])


def points(axes: Axes, x, y, look: Look, label: str | None = None, size: float = 13) -> None:
    """Single measurements; the light rim keeps those on top of each other apart."""
    axes.scatter(x, y, s=size, marker=look.marker, facecolor=look.colour, edgecolor="white", linewidth=0.3, alpha=0.85,
                 label=label, zorder=3)  # fmt: skip


def curve(axes: Axes, values: pd.Series, by: pd.Series, look: Look, label: str | None = None) -> None:
    """Means of the values at each place, joined; bars are standard deviations where there is more than one value."""
    at = values.groupby(by)
    mean, spread = at.mean(), at.std().where(at.count() > 1)
    error = spread if spread.notna().any() else None
    axes.errorbar(mean.index, mean, error, label=label, color=look.colour, marker=look.marker, linestyle=look.dash,
                  elinewidth=0.6)  # fmt: skip


def reference_line(axes: Axes, ends: Sequence[float] = (0, 1)) -> None:
    """The diagonal on which both axes agree."""
    axes.plot(ends, ends, color="#9A9A9A", linewidth=0.8, zorder=1)


def legend_below(
    figure: Figure, axes: Sequence[Axes], columns: int = 4, extra: dict[str, Artist] | None = None
) -> None:
    """One legend for all panels, under them: inside a panel it would cover points. Room is made for it first."""
    named = {label: handle for one in axes for handle, label in zip(*one.get_legend_handles_labels())} | (extra or {})
    if not named:
        return
    columns = min(columns, len(named))
    rows = -(-len(named) // columns)
    share = (0.16 * rows + 0.02) / figure.get_figheight()
    figure.get_layout_engine().set(rect=(0, share, 1, 1 - share))
    figure.legend(named.values(), named.keys(), loc="lower center", ncol=columns, borderaxespad=0.2)


def write_cells(axes: Axes, values: np.ndarray, at_most: int = 12) -> None:
    """The value in each cell of a heat map, in the ink that its ground calls for; not where it would be illegible."""
    if max(values.shape) > at_most:
        return
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            ink = "black" if value > 0.55 else "white"
            axes.text(column, row, share_text(value), ha="center", va="center", color=ink, fontsize=6)


def share_text(value: float) -> str:
    """.08, 1.0: two digits are what a cell has room for."""
    return f"{value:.2f}".lstrip("0") if value < 0.995 else "1.0"
