"""The attention explorer: what the page holds, and what its controls do in a browser."""

from __future__ import annotations

import base64
import json
import re

import gates
import numpy as np
import pytest
import torch
from small_pages import opened
from transformers import AutoModel, AutoTokenizer

from helpers import assets, explorer

ALT = "Attention weights of one head over the words of a short sentence."
CHAPTER = "notebooks/03-inside-attention.html"
FACES = ".attention-explorer-words .attention-explorer-face"
SCRIPT = "attention-explorer.js"
# As a tokenizer reads two sentences: words come again, and may look like markup.
DOG = ["[CLS]", "the", "dog", "bites", "the", "man", ".", "[SEP]"]
EVIL = ["<b>", '"', "'", "&amp;", "</script>", "<!--", "\N{LINE SEPARATOR}", "żółw", "it"]


def random_weights(layers: int, heads: int, tokens: int) -> torch.Tensor:
    scores = torch.randn(layers, heads, tokens, tokens, generator=torch.Generator().manual_seed(0))
    return (3 * scores).softmax(dim=-1)


READ = {" ".join(each): (each, random_weights(6, 12, len(each))) for each in (DOG, EVIL)}


def made(**choices) -> explorer.AttentionExplorer:
    usual = {"read": READ, "layer": 3, "head": 1, "word": "dog", "alt": ALT}
    return explorer.AttentionExplorer(**(usual | choices))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"read": {"dog": (DOG, 2 * random_weights(1, 1, 8))}}, "from 0 to 1"),
        ({"read": {"dog": (DOG, torch.full((1, 1, 8, 8), torch.nan))}}, "from 0 to 1"),
        ({"read": READ | {"other": (DOG, random_weights(1, 12, 8))}}, "one model"),
        ({"read": {"dog": (DOG[1:], random_weights(1, 1, 8))}}, "as it has 7 tokens"),
        ({"read": {}}, "one model"),
        ({"layer": -1}, "layer -1"),
        ({"word": "the dog"}, "word is 'the dog'; expected one of"),
    ],
)
def test_what_would_show_something_wrong_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        made(**change)


def hundredths(weights: torch.Tensor) -> np.ndarray:
    return np.floor(weights.double().numpy() * 100 + 0.5).astype(int)


def said(tokens: list[str], written: np.ndarray, layer: int, head: int, word: int) -> str:
    """What the summary must say."""

    def named(i: int) -> str:
        same = [j for j, token in enumerate(tokens) if token == tokens[i]]
        which = f" ({same.index(i) + 1} of {len(same)})" if len(same) > 1 else ""
        return f"“{tokens[i]}”{which}"

    row = written[layer, head, word].tolist()
    most = sorted((i for i, w in enumerate(row) if w), key=lambda i: -row[i])[:3]
    looks = ", ".join(f"{named(i)} {row[i] / 100:.2f}" for i in most)
    return f"Layer {layer}, head {head}: {named(word)} looks at {looks}."


@pytest.fixture
def page(browser, tmp_path):
    with opened(browser, tmp_path, made()._repr_html_(), SCRIPT) as page:
        yield page


def test_everything_is_chosen_by_the_keyboard_and_stays_on_paper(page):
    written, status = hundredths(READ[" ".join(DOG)][1]), page.get_by_role("status")
    assert not page.locator(".attention-explorer-figure").is_visible()
    assert status.inner_text() == said(DOG, written, 3, 1, 2)
    for _ in range(2):  # the sentence, then the layer
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert status.inner_text() == said(DOG, written, 4, 1, 2)
    page.keyboard.press("Tab")  # the head
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert status.inner_text() == said(DOG, written, 4, 11, 2), "the arrow keys go round"
    page.keyboard.press("Tab")  # the word
    page.keyboard.press("ArrowRight")
    assert status.inner_text() == said(DOG, written, 4, 11, 3)
    for _ in range(3):
        page.keyboard.press("Shift+Tab")
    page.keyboard.press("ArrowDown")
    page.get_by_role("radio", name=re.compile("^it ")).check()
    written = hundredths(READ[" ".join(EVIL)][1])
    assert status.inner_text() == said(EVIL, written, 4, 11, EVIL.index("it"))
    # Words are never markup.
    faces = page.locator(f"{FACES} > span:first-child")
    assert faces.evaluate_all("all => all.map(one => one.textContent)") == EVIL
    assert page.locator("b").count() == 0
    page.emulate_media(media="print")
    assert not any(control.is_visible() for control in page.locator("input, select").all())
    assert page.get_by_role("img").is_visible()
    assert status.is_visible()


def test_every_number_that_is_shown_is_that_of_the_weights(page):
    weights = hundredths(READ[" ".join(DOG)][1])
    for layer, head, word in [(0, 2, 3), (5, 11, 0)]:
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
        whole = weights[layer, head].flatten()
        assert squares == pytest.approx(whole[whole > 0] / 100)


@pytest.mark.built
@torch.no_grad()
def test_the_book_shows_the_encoders_weights_on_a_phone(browser, site):
    """By keys; how wide it is, and how well it can be read, test_pages.py asks."""
    path = assets.model("encoder")
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModel.from_pretrained(path, attn_implementation="eager").eval()
    with gates.opened(browser, f"{site}{CHAPTER}", **gates.PHONE) as (page, _log):
        root = page.locator(".attention-explorer")
        data = json.loads(root.locator("script").text_content())
        for one in reversed(data["sentences"]):  # the first is on show
            inputs = tokenizer(one["text"], return_tensors="pt")
            assert one["tokens"] == inputs.tokens()
            weights = torch.stack(model(**inputs, output_attentions=True).attentions)[:, 0].numpy()
            written = np.frombuffer(base64.b64decode(one["weights"]), np.uint8)
            written = written.reshape(weights.shape)
            assert np.abs(written / 100 - weights).max() <= 0.005 + 1e-5
        tokens, head, word = one["tokens"], data["start"]["head"], data["start"]["word"]
        gates.approach(root)
        status = root.get_by_role("status")
        assert status.inner_text() == said(tokens, written, data["start"]["layer"], head, word)
        root.get_by_role("group", name="Layer").get_by_label("0", exact=True).focus()
        page.keyboard.press("Space")
        assert status.inner_text() == said(tokens, written, 0, head, word)
