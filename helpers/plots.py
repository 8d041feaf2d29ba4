"""Figures that read well on light and dark pages, on paper, and to a screen reader.

A figure is shown as inline SVG whose lines and letters take the colour of the page's text, so
it follows the reader's theme in the book, in JupyterLab and in Colab::

    figure, axes = plots.new()
    axes.plot(steps, losses, color=plots.BLUE)
    axes.set(xlabel="step", ylabel="loss (nats)")
    plots.show(figure, alt="The training loss falls from 0.7 to 0.2 within 400 steps.")
"""

from __future__ import annotations

import hashlib
import html
import io
import re
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text

# Three to one against white and against the dark page, and told apart by colour-blind eyes:
# tests/test_plots.py measures both.
BLUE = "#2f7ec2"
ORANGE = "#c8661a"
GREEN = "#2b8a57"
PURPLE = "#a5619f"
GREY = "#7d7f84"
COLORS = (BLUE, ORANGE, GREEN, PURPLE, GREY)

# From transparent to blue: zero looks like the page, whatever its colour.
INTENSITY = LinearSegmentedColormap.from_list(
    "intensity", [(0.184, 0.494, 0.761, 0.0), (0.184, 0.494, 0.761, 1.0)]
)

# Stands for "the colour of the page's text" until the SVG is written; used for nothing else.
_TEXT = "#010203"

_STYLE: dict[str, Any] = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _TEXT,
    "grid.alpha": 0.15,
    "axes.edgecolor": _TEXT,
    "axes.labelcolor": _TEXT,
    "axes.titlecolor": _TEXT,
    "text.color": _TEXT,
    "xtick.color": _TEXT,
    "ytick.color": _TEXT,
    "font.size": 11,
    "axes.titlesize": 12,
    "font.family": "DejaVu Sans",
    "axes.prop_cycle": matplotlib.cycler(color=COLORS),
    "svg.fonttype": "none",
    "lines.linewidth": 2,
}


def new(
    rows: int = 1, columns: int = 1, *, width: float = 7.0, height: float = 3.6, **keywords: Any
) -> tuple[Figure, Any]:
    """Return a figure and its axes in the handbook's style; sizes in inches.

    Further keywords go to :meth:`matplotlib.figure.Figure.subplots`.
    """
    with matplotlib.rc_context(_STYLE):
        # A Figure made without pyplot is not shown twice and is freed with the cell.
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(rows, columns, **keywords)
    return figure, axes


def drawing(width: float, height: float, *, xlim: Any, ylim: Any) -> tuple[Figure, Axes]:
    """Return a figure without axes, for a diagram of :func:`box` and :func:`arrow`."""
    figure, axes = new(width=width, height=height)
    axes.set(xlim=xlim, ylim=ylim)
    axes.set_axis_off()
    return figure, axes


def box(
    axes: Axes, x: float, y: float, text: str, color: str = GREY, *, width: float | None = None
) -> None:
    """Draw a part of a model: a text in a frame around (x, y), as wide as the text or ``width``."""
    style: dict[str, Any] = {"facecolor": "none", "edgecolor": color, "linewidth": 1.6}
    frame = {"boxstyle": "round,pad=0.35", **style} if width is None else None
    axes.text(x, y, text, ha="center", va="center", fontsize=10, bbox=frame)
    if width is not None:
        corner = (x - width / 2, y - 0.28)
        axes.add_patch(FancyBboxPatch(corner, width, 0.56, boxstyle="round,pad=0.05", **style))


def arrow(axes: Axes, *points: tuple[float, float]) -> None:
    """Draw the way that numbers take, from the first of ``points`` along straight lines."""
    *before, last = points
    axes.plot(*zip(*before, strict=True), color=GREY, linewidth=1.6)
    style = {"arrowstyle": "->", "color": GREY, "linewidth": 1.6, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", last, before[-1], arrowprops=style)


def heatmap(
    axes: Axes, values: Any, *, rows: list[str], columns: list[str], **keywords: Any
) -> Any:
    """Draw a matrix of numbers from 0 to 1 as shades of blue, labelled; return the image.

    Raises:
        ValueError: ``values`` are not one row for each label of ``rows`` and one column for each
            of ``columns``, or not all finite.
    """
    matrix = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    if matrix.shape != (len(rows), len(columns)) or not matrix.size:
        raise ValueError(
            f"values have shape {matrix.shape}, but there are {len(rows)} labels for rows and "
            f"{len(columns)} for columns"
        )
    if not np.isfinite(matrix).all():
        raise ValueError("values must be finite numbers")
    keywords = {"vmin": 0.0, "vmax": 1.0, "cmap": INTENSITY, "aspect": "auto"} | keywords
    image = axes.imshow(matrix, **keywords)
    axes.set_xticks(range(len(columns)), columns, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), rows)
    axes.grid(False)
    return image


def show(figure: Figure, alt: str) -> None:
    """Display ``figure``; ``alt`` says in a sentence what it shows, for those who cannot see it."""
    from IPython.display import HTML, display

    display(HTML(as_svg(figure, alt)))


def as_svg(figure: Figure, alt: str) -> str:
    """Return ``figure`` as an ``<svg>`` element that takes its text colour from the page.

    Labels are shown as they are: a ``$`` begins no formula. ``alt`` has at least four words.
    """
    if len(alt.split()) < 4:
        raise ValueError(f"alt must say what the figure shows, got {alt!r}")
    _remove_white(figure)
    buffer = io.StringIO()
    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": "handbook"}):
        _read_no_formulas(figure)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Black stands for the text's colour too: what is drawn after new(), such as a legend or a
    # note, starts out black. Matplotlib leaves a black fill unsaid, so the root says it.
    svg = svg.replace(_TEXT, "currentColor").replace("#000000", "currentColor")
    # Text is laid out for a wide font, so that the font of the page fits.
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "inherit", svg)
    # Ids must not clash with those of another figure on the same page, and must be the same in
    # every run: derive them from what the figure says and shows.
    salt = hashlib.sha256((alt + svg).encode()).hexdigest()[:12]
    svg = re.sub(r'(\bid="|xlink:href="#|url\(#)', rf"\g<1>{salt}-", svg)
    opening = re.sub(r'\s(width|height)="[\d.]+pt"', "", svg[: svg.index(">")], count=2)
    own = f"{figure.get_figwidth() * 96:.0f}px"  # the style sheet asks for it on a phone
    style = f"--own-width:{own};width:100%;max-width:{own};height:auto;color:inherit"
    label = html.escape(alt, quote=True)
    opening += ' fill="currentColor"'
    svg = f'{opening} role="img" aria-label="{label}" style="{style}"{svg[svg.index(">") :]}'
    return f'<figure class="handbook-figure" style="margin:1em 0">{svg}</figure>'


def _remove_white(figure: Figure) -> None:
    """Make the frames of legends and the ground of later axes, white by default, transparent."""
    for legend in figure.findobj(Legend):
        legend.set_frame_on(False)
    for axes in figure.axes:
        if to_hex(axes.get_facecolor()) == "#ffffff":
            axes.set_facecolor("none")


def _read_no_formulas(figure: Figure) -> None:
    """Show every ``$`` as it is, but leave Matplotlib its own formulas, the powers at log axes."""
    figure.draw_without_rendering()  # makes the labels of the ticks
    for text in figure.findobj(Text):
        text.set_parse_math(r"\mathdefault" in text.get_text())
