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
XLINK = "{http://www.w3.org/1999/xlink}"
ALT = "Two curves cross at the middle of the figure."

# What eyes without one kind of cone see, on linear RGB: Machado, Oliveira and Fernandes 2009,
# table of severity 1.0.
EYES = {
    "all cones": np.eye(3),
    "no long-wave cones": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "no middle-wave cones": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "no short-wave cones": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}


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


def test_the_formulas_give_known_values():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert lab(linear("#ff0000")) == pytest.approx([53.24, 80.09, 67.20], abs=0.05)


@pytest.mark.parametrize("eyes", EYES)
def test_colours_stand_out_from_the_page_and_are_told_apart(eyes):
    for color, page in itertools.product(plots.COLORS, (LIGHT, DARK)):
        assert contrast(color, page) >= 3
    seen = {color: lab(EYES[eyes] @ linear(color)) for color in plots.COLORS}
    for one, other in itertools.combinations(plots.COLORS, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > 10, (one, other)


# --- the figure ---------------------------------------------------------------------


def curves(alt: str = ALT) -> str:
    figure, axes = plots.new(height=2.5)
    axes.plot([0, 1], [0, 1], label="rising & growing")
    axes.plot([0, 1], [1, 0], label="falling <fast>")
    axes.set(xlabel="step", ylabel="loss (nats)", title="Loss")
    axes.legend()
    return plots.as_svg(figure, alt)


def notes(alt: str = "A bar with a note, a line, a title and a second scale beside it.") -> str:
    """What a chapter draws after new(), with Matplotlib's own defaults and with black."""
    figure, axes = plots.new()
    axes.bar([0, 1], [2, 3], edgecolor="black")
    axes.annotate("note", (0, 2), (0.5, 2.5), arrowprops={"arrowstyle": "->"})
    axes.text(0, 1, "word")
    axes.axhline(2.5, color="k")
    axes.axvline(0.5)
    axes.fill_between([0, 1], [1, 1], color="black")
    axes.twinx().set_ylabel("second scale")
    axes.errorbar([0, 1], [2, 3], yerr=0.1, label="error")
    axes.legend(title="legend")
    figure.colorbar(axes.imshow([[0.0, 1.0]], cmap=plots.INTENSITY), ax=axes)
    figure.suptitle("title of all")
    return plots.as_svg(figure, alt)


def matrix(alt: str = "A grid of two by two squares in shades of blue.") -> str:
    figure, axes = plots.new()
    plots.heatmap(axes, [[0.0, 0.5], [0.25, 1.0]], rows=["a", "b"], columns=["c", "d"])
    return plots.as_svg(figure, alt)


def svg_of(text: str) -> ElementTree.Element:
    return next(ElementTree.fromstring(text).iter(f"{SVG}svg"))


SAYS = {curves: "falling <fast>", matrix: "a b", notes: "title of all"}


@pytest.mark.parametrize("make", SAYS)
def test_a_figure_takes_words_colours_and_font_from_the_page(make):
    text = make()
    svg = svg_of(text)
    words = " ".join("".join(part.itertext()) for part in svg.iter(f"{SVG}text"))
    assert SAYS[make] in words
    assert "currentColor" in text
    # What names no fill, as Matplotlib does for black, takes that of the root.
    assert svg.get("fill") == "currentColor"
    assert plots._TEXT not in text
    fixed = set(re.findall(r"#[0-9a-fA-F]{6}\b", re.sub(r"base64,[^\"]*", "", text)))
    assert fixed <= {color.lower() for color in plots.COLORS}
    assert not re.search(r"(fill|stroke|color):\s*(black|white|#000|#fff)\b", text)
    assert set(re.findall(r"font-family: ([^;\"]+)", text)) == {"inherit"}
    assert "DejaVu" not in text
    loaded = re.findall(r'(?:href|src)="(?!#|data:)([^"]*)"', text) + re.findall("@import", text)
    assert loaded == []
    assert make() == text, "the same in every run"
    assert not re.search(r"20\d\d-\d\d-\d\d", text)


def test_a_figure_has_no_background_and_grows_with_the_page_to_its_size():
    svg = svg_of(curves())
    for path in svg.iter(f"{SVG}g"):
        if re.search(r"patch_[12]$", path.get("id", "")):
            assert all("fill: none" in shape.get("style", "") for shape in path)
    assert svg.get("width") is svg.get("height") is None
    assert svg.get("viewBox")
    assert "max-width:672px" in svg.get("style")  # 7 inches of 96 pixels


def test_a_figure_is_described_to_those_who_cannot_see_it():
    alt = 'Loss "falls" below 1 & stays <there> as it\'s trained.'
    svg = svg_of(curves(alt))
    assert svg.get("role") == "img"
    assert svg.get("aria-label") == alt  # escaped in the text, the same when read


@pytest.mark.parametrize("alt", ["", "a", "Figure 1.", "the training loss"])
def test_a_description_that_says_nothing_is_refused(alt):
    figure, _ = plots.new()
    with pytest.raises(ValueError, match="alt"):
        plots.as_svg(figure, alt)
    with pytest.raises(ValueError, match="alt"):
        plots.show(figure, alt)


def test_ids_do_not_clash_and_every_reference_resolves():
    seen: set[str] = set()
    for text in (curves(), curves("The same two curves, described in other words."), matrix()):
        elements = list(svg_of(text).iter())
        ids = [element.get("id") for element in elements if element.get("id")]
        assert len(ids) == len(set(ids))
        assert not seen & set(ids)
        seen |= set(ids)
        references = re.findall(r"url\(#([^)]+)\)", text)
        references += [element.get(f"{XLINK}href", "#") for element in elements]
        references = {name.removeprefix("#") for name in references} - {""}
        assert {name for name in references if not name.startswith("data:")} <= set(ids)


def test_show_displays_the_figure(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    figure, axes = plots.new()
    axes.plot([0, 1], [0, 1])
    plots.show(figure, alt=ALT)
    assert shown[0]._repr_html_() == plots.as_svg(figure, ALT)


def test_a_heatmap_starts_from_the_colour_of_the_page():
    figure, axes = plots.new()
    image = plots.heatmap(axes, [[0.0, 1.0]], rows=["a"], columns=["b", "c"])
    transparent, opaque = image.cmap(image.norm([[0.0, 1.0]]))[0]
    assert transparent[3] == 0
    assert opaque[3] == 1
    assert [label.get_text() for label in axes.get_xticklabels()] == ["b", "c"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a"]
    assert figure.axes == [axes]
