"""The tokenizer explorer: its answers in a browser are the library's, for whatever is typed."""

from __future__ import annotations

import random
import sys
import unicodedata

import gates
import pytest
from datasets import load_dataset
from small_pages import opened
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from helpers import assets
from helpers.tokenizer_explorer import LONGEST_TEXT, TokenizerExplorer
from tools.serve import HTML

CHAPTER = "notebooks/06-tokenizers.html"
SCRIPT = "tokenizer-explorer.js"
SPECIAL = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}
TEXT = 'Unbelievably <b>good</b>, "naïve" & 好看! 😀'
# Types each text, and returns the tokens and ids that the page then shows, in lines.
TYPE = """async texts => {
    const field = document.querySelector("textarea");
    const typed = text => {
        field.value = text;
        field.dispatchEvent(new Event("input"));
    };
    typed("");
    while (document.querySelectorAll("li").length !== 2) await new Promise(requestAnimationFrame);
    const shown = [];
    for (const text of texts) {
        typed(text);
        await null; // the vocabulary is there now: it shows what was typed in a moment
        await null;
        shown.push([...document.querySelectorAll("li")].map(item => item.textContent).join("\\n"));
    }
    return shown;
}"""
HOSTILE = [
    "", " ", "\t\r\n\x0b\x0c\x85\u2028\u2029\u3000\u180e", "\0\ufffd\x7f\u200b\ufeff\ue000",
    "<b>bold</b><script>alert(1)</script>&amp;&lt;", "\"'`\\${x}[[a]]{{b}}", "## ##ing #x ##",
    "[CLS] a[SEP]b [MASK][mask] [PAD]ded [UNK] [UNKNOWN] [C\u0301LS] [[SEP]]", "constructor",
    "İstanbul ıI ſs ẞß ΑΣ ΑΣ. ὈΔΥΣΣΕΎΣ ς Ǆ ﬁ ĳ Å Ω K", "e\u0301 \u0301e e\u0301\u0323\u0301",
    "각 한국어 がぎ ｶﾞ ＡＢＣ １２３ 豈 \ufae6 㐀 𠀀 〇 ア好イ看ウ", "don't can’t U.S.A. a_b x+y=z",
    "\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd \u0639\u0627\u0644\u0645 \u200fa\u202eb\u202c",
    "👩\u200d👩\u200d👧🏳\ufe0f\u200d🌈🇩🇪👍🏽 ❤\ufe0f 1\ufe0f⃣", "£5 €5 ½ ² ™ © ¿qué?",
    *(letter * count for letter in "aéß😀中-" for count in (99, 100, 101)),
    "un" * 50 + "x", "e\u0301" * 100, "e" + "\u0301" * 300, "\u200b" * 300 + "word", "हिन्दी தமிழ்",
    "x" * LONGEST_TEXT + "y", "😀" * (LONGEST_TEXT + 1), "a " * LONGEST_TEXT,
]  # fmt: skip


def every_sign() -> list[str]:
    """All marks, signs, controls and spaces, and letters with another form, between letters."""
    kept = []
    for code in range(sys.maxunicode + 1):
        kind = unicodedata.category(letter := chr(code))
        other = unicodedata.decomposition(letter) or letter.lower() != letter
        hangul = 0xAC00 <= code < 0xD7A4  # 11,172 syllables, all made by one rule
        if (kind[0] in "MPSZC" and kind not in ("Cs", "Cn", "Co")) or (other and not hangul):
            kept.append(f"a{letter}b ")
    return ["".join(kept[i : i + 500]) for i in range(0, len(kept), 500)]


def random_texts(count: int) -> list[str]:
    """Characters of two ranges of Unicode, mixed."""
    draw = random.Random(0)
    ranges = [
        (0, 0x80), (0, 0x250), (0x300, 0x700), (0x900, 0x1200), (0x1AB0, 0x2070), (0x2E00, 0x3100),
        (0x4E00, 0xD7A4), (0xF900, 0x10000), (0x10000, 0x20000), (0x1F300, 0x1FB00),
        (0x20000, 0x30000), (0xE000, 0x110000),
    ]  # fmt: skip
    pairs = [draw.sample(ranges, 2) for _ in range(count)]
    return ["".join(chr(draw.randrange(*draw.choice(pair))) for _ in range(60)) for pair in pairs]


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(assets.model("encoder"))


@pytest.fixture(scope="module")
def html(tokenizer) -> str:
    return TokenizerExplorer(tokenizer, text=TEXT)._repr_html_()


@pytest.fixture
def page(browser, tmp_path, html):
    with opened(browser, tmp_path, html, SCRIPT) as page:
        yield page


def expected(tokenizer, text: str) -> list[str]:
    ids = tokenizer(text)["input_ids"]
    tokens = tokenizer.convert_ids_to_tokens(ids)
    return [f"{token} {number}" for token, number in zip(tokens, ids, strict=True)]


def test_it_shows_the_tokens_of_the_library_for_a_thousand_texts(page, tokenizer):
    reviews = load_dataset(**assets.dataset("rotten-tomatoes"))["train"]["text"][:400]
    texts = [*HOSTILE, *every_sign(), *reviews]
    texts += random_texts(1_000 - len(texts))
    assert len(set(texts)) >= 990
    wrong = []
    for text, lines in zip(texts, page.evaluate(TYPE, texts), strict=True):
        shown, right = lines.split("\n"), expected(tokenizer, text[:LONGEST_TEXT])
        if shown != right:
            wrong.append((text[:80], sorted(set(shown) ^ set(right))[:5]))
    assert wrong == []


def test_it_is_used_by_keyboard_and_says_what_it_shows(page):
    """Aloud when the typing has paused; what is typed is never markup; paper shows the tokens."""
    field, status = (
        page.get_by_role("textbox", name="Text to cut into tokens"),
        page.get_by_role("status"),
    )
    items = page.get_by_role("list", name="Tokens and their ids").get_by_role("listitem")
    assert field.input_value() == TEXT
    assert "you can type" not in status.inner_text()
    page.keyboard.press("Tab")
    page.keyboard.press("ControlOrMeta+A")
    page.clock.install()
    page.clock.pause_at("2100-01-01")  # time passes here only, however slow this machine is
    page.keyboard.type("<b>Tokenizers</b> 😀")
    page.clock.run_for(400)
    before = status.inner_text()
    assert [one.split()[0] for one in items.all_inner_texts()] == [
        "[CLS]", "<", "b", ">", "token", "##izer", "##s", "<", "/", "b", ">", "[UNK]", "[SEP]",
    ]  # fmt: skip
    assert before == "…", "it is said before the typing has paused, or what is no longer true"
    page.clock.resume()
    status.get_by_text("13 tokens, 1 of them [UNK].").wait_for()
    assert page.locator(".tokenizer-explorer b").count() == 0
    dashed = items.evaluate_all("all => all.map(one => one.style.borderStyle === 'dashed')")
    assert dashed.index(True) == 11
    assert sum(dashed) == 1
    field.fill("word " * LONGEST_TEXT)
    said = f"Only the first {LONGEST_TEXT} characters are read. 402 tokens, none of them [UNK]."
    status.get_by_text(said).wait_for()
    page.emulate_media(media="print")
    assert not field.is_visible()
    assert items.last.is_visible()


def test_without_scripts_the_tokens_of_the_text_are_there(browser, tmp_path, tokenizer, html):
    path = tmp_path / "index.html"
    path.write_text(f'<html lang="en"><meta charset="utf-8">{html}', encoding="utf-8")
    with gates.opened(browser, path.as_uri(), java_script_enabled=False, **gates.PHONE) as (
        page,
        _,
    ):
        shown = page.get_by_role("listitem").all_inner_texts()
        assert shown == expected(tokenizer, TEXT)
        assert TEXT in page.locator("p").inner_text()
        assert page.locator("b, textarea").count() == 0


def changed(*added: str | AddedToken, **parts):
    """What changes parts of a tokenizer, or adds tokens to it."""

    def change(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
        backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        for name, part in parts.items():
            setattr(backend, name, part)
        made = PreTrainedTokenizerFast(tokenizer_object=backend)
        made.add_special_tokens({"extra_special_tokens": list(added)})
        return made

    return change


@pytest.mark.parametrize(
    ("change", "text", "message"),
    [
        (changed(model=models.BPE()), TEXT, "model: 'BPE'; expected 'WordPiece'"),
        (changed(model=models.WordPiece(SPECIAL, continuing_subword_prefix="@@")), TEXT, "'@@'"),
        (changed(model=models.WordPiece(SPECIAL)), TEXT, "have gaps"),
        (changed(normalizer=normalizers.BertNormalizer(lowercase=False)), TEXT, "'lowercase': F"),
        (changed(pre_tokenizer=pre_tokenizers.Whitespace()), TEXT, "pre-tokenizer: .*'Whitesp"),
        (changed(post_processor=processors.TemplateProcessing("$A")), TEXT, "tokens .*: 0; .* 2"),
        (changed("[X]"), TEXT, r"added tokens .*\['\[X\]'\]"),
        (changed(AddedToken("dog", lstrip=True)), TEXT, r"added tokens .*\['dog'\]"),
        (changed(), "a" * (LONGEST_TEXT + 1), "2,001 characters"),
    ],
)
def test_what_would_show_other_tokens_is_refused(tokenizer, change, text, message):
    with pytest.raises(ValueError, match=message):
        TokenizerExplorer(change(tokenizer), text=text)


@pytest.mark.built
@pytest.mark.parametrize("served", [True, False], ids=["served", "from a disk"])
def test_the_book_reads_what_is_typed_on_a_phone(browser, site, tokenizer, served):
    """How wide it is, and how well it can be read, test_pages.py asks."""
    address = f"{site}{CHAPTER}" if served else (HTML / CHAPTER).as_uri()
    text = "Ünbelievably <i>good</i> 好看"
    right = expected(tokenizer, text)
    with gates.opened(browser, address, **gates.PHONE) as (page, _log):
        root = page.locator(".tokenizer-explorer")
        gates.approach(root)
        assert len(root.inner_html()) < 10_000, "the page holds the vocabulary"
        root.get_by_role("textbox").fill(text)
        root.get_by_role("status").get_by_text(f"{len(right)} tokens, ").wait_for()
        assert root.get_by_role("listitem").all_inner_texts() == right
