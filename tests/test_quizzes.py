"""Questions with options: what the book's script makes of them, and every quiz of the book.

A quiz is plain Markdown (see CONTRIBUTING.md). The script leaves alone what has not the form of
one, so a quiz with two right answers, or an option without a reason, is missing on its page.
"""

from __future__ import annotations

import re

import gates
import pytest
from small_pages import opened

from tools.cache import ROOT

# As the book renders a quiz and, after it, an open question.
PAGE = """
<p><strong>Question 1.</strong> How many?</p>
<ul class="simple"><li><p><strong>A.</strong> One.</p></li><li><p><strong>B.</strong> Two.</p></li>
<li><p><strong>C.</strong> Three &lt;b&gt;.</p></li></ul>
<details><summary>Answer to question 1</summary>
<ul class="simple"><li><p><strong>A. Wrong.</strong> Too few.</p></li>
<li><p><strong>B. Right.</strong> It is <em>two</em>.</p></li>
<li><p><strong>C. Wrong.</strong> Too many.</p></li></ul></details>
<details><summary>Open?</summary><p>Yes.</p><ul><li>one</li></ul></details>
"""


def test_a_quiz_is_answered_by_keyboard_or_mouse_and_whole_on_paper(browser, tmp_path):
    """The reason of the chosen option, with a mark beside its colour, until another is chosen."""
    with opened(browser, tmp_path, PAGE, "quiz.js") as page:

        def mark(button: str) -> str:
            option = page.locator("li", has=page.get_by_role("button", name=button))
            return option.evaluate("item => getComputedStyle(item, '::after').content")

        status = page.get_by_role("status")
        assert page.get_by_role("group", name="Question 1. How many?").count() == 1
        assert status.inner_text().strip() == ""
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert status.inner_text() == "A. Wrong. Too few."
        assert "wrong" in mark("A One.")
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        assert status.inner_text() == "B. Right. It is two."
        assert "right" in mark("B Two.")
        assert mark("A One.") == "none"
        pressed = page.get_by_role("button").evaluate_all("all => all.map(one => one.ariaPressed)")
        assert pressed == ["false", "true", "false"]
        page.get_by_text("Three <b>.").click()
        assert status.inner_text() == "C. Wrong. Too many."
        page.emulate_media(media="print")
        for reason in ("Too few.", "It is two.", "Open?"):  # the third still stands in the status
            assert page.get_by_text(reason).is_visible()


@pytest.mark.built
def test_every_quiz_of_a_chapter_can_be_answered(chapter):
    """Four or more, numbered, with one right answer, and a reason for every option."""
    name, page = chapter
    text = (ROOT / f"{name}.ipynb").read_text(encoding="utf-8")
    asked = re.findall(r"\*\*Question (\d+)\.\*\*", text)
    assert asked == [str(number) for number in range(1, len(asked) + 1)]
    assert len(asked) >= 4
    groups = page.locator(".quiz-options").all()
    made = []
    for group in groups:
        gates.approach(group)
        made.append(group.locator("xpath=preceding-sibling::*[1]").inner_text())
    made = re.findall(r"(?m)^Question (\d+)\.", "\n".join(made))
    assert made == asked, "a quiz has not one right answer and a reason for every option"
    right = []
    for number, group in zip(asked, groups, strict=True):
        options = group.locator("li").all()
        assert 3 <= len(options) <= 6
        for letter, option in zip("ABCDEF", options, strict=False):
            option.get_by_role("button", name=letter).click()
            said = group.locator("xpath=following-sibling::*[1]").inner_text()
            first, verdict, *reason = said.split()
            assert (first, verdict in ("Right.", "Wrong.")) == (f"{letter}.", True)
            assert len(reason) >= 6, f"question {number} gives no reason for {letter}"
            right += [letter] * (verdict == "Right.")
    assert len(right) == len(asked)
    assert len(set(right)) > 1, f"{right[0]} is always right"
