"""The attention explorer: what the page holds, and what its controls do in a browser."""

from __future__ import annotations

import base64
import json
import re
import zlib

import gates
import numpy as np
import pytest
import torch
from small_pages import opened
from transformers import AutoModel, AutoTokenizer

from helpers import assets, explorer
from tools.serve import HTML

ALT = "Attention weights of one head over the words of a short sentence."
SENTENCES = ("The dog bites the man.", "A film is not good, and I did not like it.")
PATTERN = re.compile(r'<script type="application/json">(.*?)</script>', re.DOTALL)
CHAPTER = "notebooks/02-attention.html"
FACES = ".attention-explorer-words .attention-explorer-face"
SCRIPT = "attention-explorer.js"


def random_weights(layers: int, heads: int, tokens: int, seed: int = 0) -> torch.Tensor:
    scores = torch.randn(
        layers, heads, tokens, tokens, generator=torch.Generator().manual_seed(seed)
    )
    return (3 * scores).softmax(dim=-1)


def small(tokens=("a", "b", "c"), **choices) -> explorer.AttentionExplorer:
    tokens = list(tokens)
    read = {" ".join(tokens): (tokens, random_weights(2, 3, len(tokens)))}
    return explorer.AttentionExplorer(
        **({"read": read, "layer": 1, "head": 2, "word": tokens[-1], "alt": ALT} | choices)
    )


@pytest.fixture(scope="module")
def encoder():
    path = assets.model("encoder")
    model = AutoModel.from_pretrained(path, attn_implementation="eager").eval()
    return AutoTokenizer.from_pretrained(path), model


@torch.no_grad()
def attentions(encoder, sentence: str) -> tuple[list[str], torch.Tensor]:
    tokenizer, model = encoder
    inputs = tokenizer(sentence, return_tensors="pt")
    return inputs.tokens(), torch.stack(model(**inputs, output_attentions=True).attentions)[:, 0]


@pytest.fixture(scope="module")
def real(encoder) -> explorer.AttentionExplorer:
    read = {sentence: attentions(encoder, sentence) for sentence in SENTENCES}
    return explorer.AttentionExplorer(read, layer=3, head=1, word="dog", alt=ALT)


def in_page(text: str) -> dict:
    (found,) = PATTERN.findall(text)
    return json.loads(found)


def in_hundredths(data: dict, sentence: int) -> np.ndarray:
    """Decode the page's weights without the code that wrote them."""
    one = data["sentences"][sentence]
    count = len(one["tokens"])
    values = list(base64.b64decode(one["weights"]))
    return np.array(values).reshape(data["layers"], data["heads"], count, count)


# --- what the page holds ------------------------------------------------------------


def test_the_page_holds_the_encoders_weights(encoder, real):
    text = real._repr_html_()
    data = in_page(text)
    assert [one["text"] for one in data["sentences"]] == list(SENTENCES)
    assert data["start"] == {"layer": 3, "head": 1, "word": 2}
    for number, sentence in enumerate(SENTENCES):
        tokens, weights = attentions(encoder, sentence)
        assert data["sentences"][number]["tokens"] == tokens
        written = in_hundredths(data, number)
        assert written.shape == tuple(weights.shape)
        assert np.abs(written / 100 - weights.numpy()).max() <= 0.005 + 1e-6
    assert len(zlib.compress(text.encode())) < 40_000
    assert not re.search(r"\son[a-z]+=", text), "an inline handler"
    assert "Layer 3, head 1, of 6 layers with 12 heads each" in text


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_half_a_hundredth_is_rounded_up(dtype):
    weights = torch.tensor([[[[0.004, 0.996], [0.125, 0.875]]]], dtype=dtype)
    made = small(("a", "b"), read={"a b": (["a", "b"], weights)}, layer=0, head=0)
    assert in_hundredths(made.data, 0).flatten().tolist() == [0, 100, 13, 88]


FINE = random_weights(2, 3, 3)
NOT_A_NUMBER = FINE.clone().index_fill_(0, torch.tensor([0]), torch.nan)
ABC = ["a", "b", "c"]
MANY = [f"w{i}" for i in range(100)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"read": {}}, "read"),
        ({"read": {"a b c": ("abc", FINE)}}, "tokens"),
        ({"read": {"a b": (["a", "b"], FINE)}}, "weights"),
        ({"read": {"a b c": (ABC, FINE[0])}}, "weights"),
        ({"read": {"a b c": (ABC, 2 * FINE)}}, "from 0 to 1"),
        ({"read": {"a b c": (ABC, -FINE)}}, "from 0 to 1"),
        ({"read": {"a b c": (ABC, NOT_A_NUMBER)}}, "from 0 to 1"),
        ({"read": {"a": (ABC, FINE), "b": (ABC, FINE[:1])}}, "one model"),
        ({"read": {"long": (MANY, random_weights(6, 12, 100))}, "word": "w0"}, "shorter sentences"),
        ({"layer": 2}, "layer"),
        ({"layer": -1}, "layer"),
        ({"head": 3}, "head"),
        ({"word": "d"}, "word"),
        ({"alt": "A figure."}, "alt"),
    ],
)
def test_what_would_show_something_wrong_is_refused(change, message):
    with pytest.raises((TypeError, ValueError), match=message):
        small(**change)


# --- in a browser -------------------------------------------------------------------


def said(data: dict, layer: int, head: int, word: int, sentence: int = 0) -> str:
    """What the summary must say, from the page's data."""
    tokens = data["sentences"][sentence]["tokens"]

    def named(i: int) -> str:
        same = [j for j, token in enumerate(tokens) if token == tokens[i]]
        which = f" ({same.index(i) + 1} of {len(same)})" if len(same) > 1 else ""
        return f"“{tokens[i]}”{which}"

    row = in_hundredths(data, sentence)[layer, head, word].tolist()
    most = sorted((i for i, w in enumerate(row) if w), key=lambda i: -row[i])[:3]
    looks = ", ".join(f"{named(i)} {row[i] / 100:.2f}" for i in most)
    return f"Layer {layer}, head {head}: {named(word)} looks at {looks}."


@pytest.fixture
def page(browser, real):
    page = opened(browser, real._repr_html_(), SCRIPT)
    yield page
    assert page.problems == []
    page.context.close()


def test_everything_is_chosen_by_the_keyboard(page, real):
    data, status = real.data, page.get_by_role("status")
    assert not page.locator(".attention-explorer-figure").is_visible()
    assert status.inner_text() == said(data, 3, 1, 2)
    for _ in range(2):  # the sentence, then the layer
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert status.inner_text() == said(data, 4, 1, 2)
    page.keyboard.press("Tab")  # the head
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert status.inner_text() == said(data, 4, 11, 2), "the arrow keys go round"
    page.keyboard.press("Tab")  # the word
    page.keyboard.press("ArrowRight")
    assert status.inner_text() == said(data, 4, 11, 3)
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("ArrowDown")
    word = data["sentences"][1]["tokens"].index("it")
    page.get_by_role("radio", name=re.compile("^it ")).check()
    assert status.inner_text() == said(data, 4, 11, word, sentence=1)


def test_every_number_that_is_shown_is_that_of_the_page(page, real):
    data = real.data
    weights = in_hundredths(data, 0)
    for layer, head, word in [(0, 2, 3), (5, 11, 0), (2, 7, 7)]:
        page.get_by_role("group", name="Layer").get_by_label(str(layer), exact=True).check()
        page.get_by_role("group", name="Head").get_by_label(str(head), exact=True).check()
        page.locator(".attention-explorer-words input").nth(word).check()
        shown = page.locator(".attention-explorer-number").all_inner_texts()
        row = weights[layer, head, word]
        assert shown == [f"{value / 100:.2f}" for value in row]
        # Shading and square stand for the same numbers.
        shades = page.locator(FACES).evaluate_all(
            "faces => faces.map(face => Number(face.style.getPropertyValue('--weight')))"
        )
        assert shades == pytest.approx(row / 100)
        squares = page.locator("rect.attention-explorer-weight").evaluate_all(
            "all => all.map(one => Number(one.getAttribute('fill-opacity')))"
        )
        drawn = weights[layer, head].flatten()
        assert squares == pytest.approx(drawn[drawn > 0] / 100)


def test_each_control_says_what_it_is_and_can_be_touched(page):
    names = page.get_by_role("group").evaluate_all(
        "all => all.map(one => one.ariaLabel || one.querySelector('legend').textContent)"
    )
    assert names == ["Attention explorer", "Layer", "Head", "Word that looks"]
    assert page.get_by_role("combobox", name="Sentence").count() == 1
    assert page.get_by_role("img").get_attribute("aria-label").startswith("Layer 3, head 1")
    for box in page.locator("input, select").all():
        size = box.bounding_box()
        assert min(size["width"], size["height"]) >= 24


def test_on_paper_the_state_is_shown_without_controls(page):
    page.emulate_media(media="print")
    assert not any(control.is_visible() for control in page.locator("input, select").all())
    assert page.get_by_role("status").is_visible()
    assert page.get_by_role("img").is_visible()


@pytest.mark.parametrize("cause", ["no scripts", "damaged data"])
def test_where_the_controls_cannot_work_the_figure_stays(browser, cause):
    text = small()._repr_html_()
    if cause == "damaged data":
        text = text.replace('"layers":2', '"layers":')
    page = opened(browser, text, SCRIPT, java_script_enabled=cause != "no scripts")
    figure = page.locator(".attention-explorer-figure svg")
    assert figure.is_visible()
    assert figure.get_attribute("aria-label") == ALT
    assert page.locator("select, input").count() == 0
    page.context.close()


def test_words_are_never_markup(browser):
    evil = ["<b>", '"', "'", "&amp;", "</script>", "<!--", "\N{LINE SEPARATOR}", "żółw"]
    text = small(evil)._repr_html_()
    (data,) = PATTERN.findall(text)
    assert not set("<>&") & set(data)
    page = opened(browser, text, SCRIPT)
    faces = page.locator(f"{FACES} > span:first-child")
    assert faces.evaluate_all("all => all.map(one => one.textContent)") == evil
    assert page.locator("b").count() == 0
    assert page.problems == []
    page.context.close()


def test_two_explorers_on_a_page_do_not_disturb_each_other(browser):
    one, other = small(), small(("x", "y"), word="x")
    page = opened(browser, one._repr_html_() + other._repr_html_(), SCRIPT)
    states = page.get_by_role("status")
    before = states.nth(1).inner_text()
    page.get_by_role("group", name="Layer").first.get_by_label("0", exact=True).check()
    assert states.nth(0).inner_text() == said(one.data, 0, 2, 2)
    assert states.nth(1).inner_text() == before == said(other.data, 1, 2, 0)
    assert page.locator("input:checked").count() == 6
    page.context.close()


def test_nothing_moves_for_those_who_asked_for_it(browser):
    for wish, moves in (("reduce", False), ("no-preference", True)):
        page = opened(browser, small()._repr_html_(), SCRIPT, reduced_motion=wish)
        face = page.locator(FACES).first
        duration = face.evaluate("face => parseFloat(getComputedStyle(face).transitionDuration)")
        assert (duration > 0) == moves
        page.context.close()


# --- in the built book --------------------------------------------------------------


@pytest.mark.built
def test_the_book_shows_the_encoders_weights(encoder):
    text = (HTML / CHAPTER).read_text(encoding="utf-8")
    data = in_page(text)
    for number, one in enumerate(data["sentences"]):
        tokens, weights = attentions(encoder, one["text"])
        assert one["tokens"] == tokens
        assert np.abs(in_hundredths(data, number) / 100 - weights.numpy()).max() <= 0.005 + 1e-5


@pytest.mark.built
def test_the_book_can_be_explored_on_a_phone(browser, site):
    """By keys; that its words can be read on their shades, axe says in test_pages.py."""
    with gates.opened(browser, f"{site}{CHAPTER}", **gates.PHONE) as (page, _log):
        root = page.locator(".attention-explorer")
        data = json.loads(root.locator("script").text_content())
        start = data["start"]
        gates.approach(root)
        status = root.get_by_role("status")
        assert status.inner_text() == said(data, start["layer"], start["head"], start["word"])
        root.get_by_role("group", name="Layer").get_by_label("0", exact=True).focus()
        page.keyboard.press("Space")
        assert status.inner_text() == said(data, 0, start["head"], start["word"])
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
