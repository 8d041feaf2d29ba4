"""Colours that can be seen and told apart; figures that are sound, themed and described."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from helpers import plots

LIGHT, DARK = "#ffffff", "#121212"
SVG = "{http://www.w3.org/2000/svg}"
ALT = 'Bars "rise" & a line <falls> as it\'s trained.'

# What eyes see that cannot tell red from green, one man in twelve has some of it, on linear RGB:
# Machado, Oliveira and Fernandes 2009, table of severity 1.0.
EYES = {
    "all cones": np.eye(3),
    "no long-wave cones": [
        [0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no middle-wave cones": [
        [0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}  # fmt: skip


def linear(color: str) -> np.ndarray:
    """Linear RGB of ``#rrggbb`` (IEC 61966-2-1)."""
    channels = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """Contrast ratio by WCAG 2.2, from 1 to 21."""
    darker, lighter = sorted(linear(color) @ [0.2126, 0.7152, 0.0722] for color in (one, other))
    return (lighter + 0.05) / (darker + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* under D65 of linear RGB; a distance of about 2 is just seen."""
    to_xyz = [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
    xyz = np.array(to_xyz) @ np.clip(rgb, 0, 1) / [0.95047, 1.0, 1.08883]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eyes", EYES)
def test_colours_stand_out_from_the_page_and_are_told_apart(eyes):
    for color, page in itertools.product(plots.COLORS, (LIGHT, DARK)):
        assert contrast(color, page) >= 3
    seen = {color: lab(np.array(EYES[eyes]) @ linear(color)) for color in plots.COLORS}
    for one, other in itertools.combinations(plots.COLORS, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > 10, (one, other)


def drawn() -> str:
    """A figure with what a chapter draws after new(), in Matplotlib's own defaults and black."""
    figure, axes = plots.new()
    axes.bar([0, 1], [2, 3], edgecolor="black")
    axes.annotate("note", (0, 2), (0.5, 2.5), arrowprops={"arrowstyle": "->"})
    axes.axhline(2.5, color="k", label="falling <fast>")
    axes.fill_between([0, 1], [1, 1], color="black")
    axes.twinx().set_ylabel("second scale")
    axes.legend(title="legend")
    figure.colorbar(axes.imshow([[0.0, 1.0]], cmap=plots.INTENSITY), ax=axes)
    figure.suptitle("title of all")
    return plots.as_svg(figure, ALT)


def words(svg: str) -> list[str]:
    parts = ElementTree.fromstring(svg).iter(f"{SVG}text")
    return [" ".join("".join(part.itertext()).split()) for part in parts]


def test_a_figure_takes_words_colours_font_and_size_from_the_page():
    text = drawn()
    svg = next(ElementTree.fromstring(text).iter(f"{SVG}svg"))
    assert (svg.get("role"), svg.get("aria-label")) == ("img", ALT)
    assert {"falling <fast>", "title of all", "second scale"} <= set(words(text))
    # What names no fill, as Matplotlib does for black, takes that of the root.
    assert svg.get("fill") == "currentColor"
    fixed = set(re.findall(r"#[0-9a-fA-F]{6}\b", re.sub(r"base64,[^\"]*", "", text)))
    assert fixed <= {color.lower() for color in plots.COLORS}, "no white ground, no black letter"
    assert not re.search(r"(fill|stroke|color):\s*(black|white|#000|#fff)\b", text)
    assert set(re.findall(r"font-family: ([^;\"]+)", text)) == {"inherit"}
    assert svg.get("width") is svg.get("height") is None
    assert svg.get("viewBox")
    assert "max-width:672px" in svg.get("style")  # 7 inches of 96 pixels
    assert drawn() == text, "the same in every run"


def test_a_dollar_is_a_dollar_and_powers_at_a_log_axis_are_powers():
    label = "from $5 to $10"
    figure, axes = plots.new(2)
    plots.heatmap(axes[0], [[0.0, 1.0]], rows=[label], columns=["$x_1$", r"\$"])
    axes[1].bar([label, "$b$"], [1, 1000], label="$c$")
    axes[1].legend()
    axes[1].set(xlabel=label, title=label, yscale="log")
    axes[1].text(0, 1, label)
    shown = words(plots.as_svg(figure, ALT))
    assert shown.count(label) == 5
    assert {"$x_1$", r"\$", "$b$", "$c$"} <= set(shown)
    assert "mathdefault" not in " ".join(shown)


def test_figures_with_the_same_alt_share_no_id():
    ids = []
    for height in (2, 3):
        figure, axes = plots.new()
        axes.plot([0, 1], [1, height], "o-")
        svg = plots.as_svg(figure, ALT)
        ids.append(set(re.findall(r'\bid="([^"]+)"', svg)))
        used = re.findall(r'(?:href="#|url\(#)([^")]+)', svg)
        assert used
        assert set(used) <= ids[-1]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_a_heatmap_starts_from_the_colour_of_the_page():
    _, axes = plots.new()
    image = plots.heatmap(axes, [[0.0, 1.0]], rows=["a"], columns=["b", "c"])
    assert image.cmap(image.norm([[0.0, 1.0]]))[0, :, 3].tolist() == [0, 1]


def test_a_diagram_has_boxes_around_their_places_and_an_arrow_that_ends_where_it_should():
    _, axes = plots.drawing(4, 3, xlim=(0, 8), ylim=(0, 6))
    plots.box(axes, 4, 2, "encoder", plots.BLUE, width=3)
    plots.arrow(axes, (1, 5), (4, 5), (4, 2.4))
    (frame,) = axes.patches
    corners = frame.get_path().get_extents(frame.get_patch_transform())
    assert [corners.x0, corners.x1] == pytest.approx([2.5, 5.5], abs=0.06)
    assert (corners.y0 + corners.y1) / 2 == pytest.approx(2)
    (head,) = [text for text in axes.texts if hasattr(text, "xyann")]
    assert (head.xyann, head.xy) == ((4, 5), (4, 2.4))
    assert axes.lines[0].get_xydata().tolist() == [[1, 5], [4, 5]]
    assert axes.get_xlim() == (0, 8)  # what is drawn moves no limit
