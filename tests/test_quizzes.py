"""Questions with options: their form in every notebook, and what the book makes of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import nbformat
import pytest
from small_pages import opened

from tools.cache import notebooks
from tools.serve import HTML

NOTEBOOKS = {f"notebooks/{path.stem}": path for path in notebooks()}
DETAILS = re.compile(r"<details>\s*<summary>(.*?)</summary>(.*?)</details>", re.DOTALL)
OPTION = re.compile(r"^- \*\*([A-Z])\.\*\* (.+)$", re.DOTALL)
REASON = re.compile(r"^- \*\*([A-Z])\. (Right|Wrong)\.\*\* (.+)$", re.DOTALL)


@dataclass
class Quiz:
    """One question with its options, and what is said of each."""

    question: str
    summary: str
    options: list[tuple[str, str]]
    reasons: list[tuple[str, bool, str]]


def items(text: str) -> list[str]:
    """The items of the list that a text consists of; each on one line."""
    return [" ".join(item.split()) for item in re.split(r"\n(?=- )", text.strip())]


def quizzes(text: str) -> list[Quiz]:
    """All quizzes of a text; ValueError where something only looks like one."""
    found, lettered, read = [], set(re.findall(r"(?m)^- \*\*[A-Z]\.\*\*.*", text)), set()
    for match in DETAILS.finditer(text):
        summary, answer = match[1].strip(), match[2]
        before = text[: match.start()].rstrip().split("\n\n")
        options = [OPTION.match(item) for item in items(before[-1])]
        reasons = [REASON.match(item) for item in items(answer)]
        if not any(options) and not any(reasons):
            continue  # an open question
        if not all(options) or not all(reasons):
            raise ValueError(f"{summary}: options right before, reasons and nothing else inside")
        read |= set(re.findall(r"(?m)^- \*\*[A-Z]\.\*\*.*", before[-1]))
        found.append(
            Quiz(
                question=before[-2] if len(before) > 1 else "",
                summary=summary,
                options=[(option[1], option[2]) for option in options],
                reasons=[(reason[1], reason[2] == "Right", reason[3]) for reason in reasons],
            )
        )
    if lettered - read:
        raise ValueError(f"options without reasons: {sorted(lettered - read)}")
    return found


def faults(found: list[Quiz]) -> list[str]:
    """What is wrong with the quizzes of one chapter, in order."""
    wrong = []
    for number, quiz in enumerate(found, start=1):
        if not quiz.question.startswith(f"**Question {number}.** "):
            wrong.append(f"question {number} begins with {quiz.question[:30]!r}")
        if quiz.summary != f"Answer to question {number}":
            wrong.append(f"question {number} has the answer {quiz.summary!r}")
        letters = [letter for letter, _ in quiz.options]
        if not 3 <= len(letters) <= 6 or letters != list("ABCDEF")[: len(letters)]:
            wrong.append(f"question {number} has the options {letters}")
        if letters != [letter for letter, _, _ in quiz.reasons]:
            wrong.append(f"question {number} has not one reason for each option, in order")
        if sum(right for _, right, _ in quiz.reasons) != 1:
            wrong.append(f"question {number} has not exactly one right answer")
        for texts in ([text for _, text in quiz.options], [text for *_, text in quiz.reasons]):
            plain = [re.sub(r"\W+", " ", text).strip().lower() for text in texts]
            if len(set(plain)) < len(plain):
                wrong.append(f"question {number} says the same thing twice")
        for letter, _, text in quiz.reasons:
            if len(text.split()) < 6:
                wrong.append(f"question {number} gives no reason for {letter}")
    places = [letter for quiz in found for letter, right, _ in quiz.reasons if right]
    if len(places) >= 3 and len(set(places)) == 1:
        wrong.append(f"{places[0]} is always right")
    return wrong


@cache
def of_chapter(name: str) -> list[Quiz]:
    cells = nbformat.read(NOTEBOOKS[name], nbformat.NO_CONVERT).cells
    return quizzes("\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown"))


# --- the form -----------------------------------------------------------------------


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_quiz_has_one_right_answer_and_a_reason_for_each(name):
    assert len(of_chapter(name)) >= 4
    assert faults(of_chapter(name)) == []


GOOD = """**Question 1.** How many?

- **A.** One.
- **B.** Two,
  or so.
- **C.** Three.

<details><summary>Answer to question 1</summary>

- **A. Wrong.** Nobody would ever count like this, at all.
- **B. Right.** There are two, as the check
  above has shown.
- **C. Wrong.** That is one more than there really are.
</details>
"""


def test_a_quiz_is_read():
    (quiz,) = quizzes(f"## Check yourself\n\n{GOOD}")
    assert quiz.options[1] == ("B", "Two, or so.")
    assert quiz.reasons[1] == ("B", True, "There are two, as the check above has shown.")
    assert faults([quiz]) == []
    three = [quizzes(GOOD.replace("uestion 1", f"uestion {n}"))[0] for n in (1, 2, 3)]
    assert faults(three) == ["B is always right"]
    text = "<details><summary>Why?</summary>\n\nBecause of this, and that.\n\n- One.\n</details>"
    assert quizzes(f"- a list\n- before\n\n{text}") == [], "an open question is no quiz"


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("**B. Right.**", "**B. Wrong.**", "exactly one right"),
        ("**A. Wrong.**", "**A. Right.**", "exactly one right"),
        ("- **C.** Three.\n", "", "not one reason for each"),
        ("- **C. Wrong.** That is one more than there really are.\n", "", "not one reason"),
        ("**A.** One.", "**A.** two, or so", "same thing twice"),
        ("Nobody would ever count like this, at all.", "No.", "no reason for A"),
        ("- **C.** Three.", "- **D.** Three.", "the options"),
        ("**Question 1.**", "**Question 2.**", "begins with"),
        ("<summary>Answer to question 1", "<summary>Answer", "has the answer"),
        ("**A. Wrong.**", "**B. Wrong.**", "in order"),
    ],
)
def test_a_faulty_quiz_is_found(old, new, fault):
    assert GOOD.count(old) == 1
    assert any(fault in one for one in faults(quizzes(GOOD.replace(old, new))))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("- **B. Right.** There", "- There"),
        ("- **C.** Three.", "- **C.** Three.\n\nWhich?"),
        ("<details>", "Choose!\n\n<details>"),
        (GOOD[GOOD.index("<details>") :], ""),
    ],
)
def test_what_only_looks_like_a_quiz_is_refused(old, new):
    with pytest.raises(ValueError, match=r"reasons"):
        quizzes(GOOD.replace(old, new))


# --- in a browser -------------------------------------------------------------------

# As the book renders GOOD; the second has formulas and emphasis, the third is an open question.
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


@pytest.fixture
def page(browser):
    page = opened(browser, PAGE, "quiz.js")
    yield page
    assert page.problems == []
    page.context.close()


def test_choosing_shows_the_reason_of_that_option(page):
    """With a mark beside its colour, until another option is chosen."""

    def mark(button: str) -> str:
        option = page.locator("li", has=page.get_by_role("button", name=button))
        return option.evaluate("item => getComputedStyle(item, '::after').content")

    status = page.get_by_role("status")
    assert status.inner_text().strip() == ""
    page.get_by_role("button", name="A One.").click()
    assert status.inner_text() == "A. Wrong. Too few."
    assert "wrong" in mark("A One.")
    page.get_by_role("button", name="B Two.").click()
    assert status.inner_text() == "B. Right. It is two."
    assert "right" in mark("B Two.")
    assert mark("A One.") == "none"
    pressed = page.get_by_role("button").evaluate_all("all => all.map(one => one.ariaPressed)")
    assert pressed == ["false", "true", "false"]
    page.get_by_text("Three <b>.").click()
    assert status.inner_text() == "C. Wrong. Too many."


def test_a_quiz_is_answered_by_the_keyboard(page):
    assert page.get_by_role("group", name="Question 1. How many?").count() == 1
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.get_by_role("status").inner_text() == "B. Right. It is two."
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert page.get_by_role("status").inner_text() == "C. Wrong. Too many."


def test_on_paper_all_reasons_are_there_and_no_button(page):
    page.emulate_media(media="print")
    assert not any(button.is_visible() for button in page.locator("button").all())
    for reason in ("Too few.", "It is two.", "Too many."):
        assert page.get_by_text(reason).is_visible()


def test_open_questions_stay_as_they_are(page):
    assert page.locator("details").nth(0).is_hidden()
    page.get_by_text("Open?").click()
    assert page.get_by_text("Yes.").is_visible()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<strong>B. Right.</strong>", "<strong>B. Wrong.</strong>"),
        ("<strong>C. Wrong.</strong>", "<strong>D. Wrong.</strong>"),
        ("<strong>C.</strong>", "C."),
        ("<details><summary>Answer", "<p>And?</p><details><summary>Answer"),
        ("Too few.</p>", "Too few.</p><p>And more.</p>"),
        ("One.</p>", "One.</p><pre>x</pre>"),
    ],
)
def test_what_does_not_fit_the_mould_is_left_alone(browser, old, new):
    page = opened(browser, PAGE.replace(old, new), "quiz.js")
    many = "And more" in new  # a reason may be longer than a paragraph
    assert page.get_by_role("button").count() == (3 if many else 0)
    assert page.locator("details").nth(0).is_hidden() == many
    assert page.problems == []
    page.context.close()


def test_without_scripts_the_answer_opens_as_ever(browser):
    page = opened(browser, PAGE, "quiz.js", java_script_enabled=False)
    assert page.get_by_role("button").count() == 0
    page.get_by_text("Answer to question 1").click()
    assert page.get_by_text("It is two.").is_visible()
    page.context.close()


# --- in the built book --------------------------------------------------------------


@pytest.mark.built
def test_every_quiz_of_a_chapter_can_be_answered(chapter):
    name, page = chapter
    groups = page.locator(".quiz-options")
    assert groups.count() == len(of_chapter(name))
    for group, quiz in zip(groups.all(), of_chapter(name), strict=True):
        said = group.locator("xpath=following-sibling::*[1]")
        buttons = group.get_by_role("button").all()
        for button, (letter, right, _) in zip(buttons, quiz.reasons, strict=True):
            button.click()
            assert said.inner_text().startswith(f"{letter}. {'Right' if right else 'Wrong'}.")


@pytest.mark.built
def test_the_script_is_loaded_where_there_is_a_quiz_and_nowhere_else():
    loading = {
        path.relative_to(HTML).with_suffix("").as_posix()
        for path in HTML.rglob("*.html")
        if re.search(r'<script[^>]*src="[^"]*/quiz\.js', path.read_text(encoding="utf-8"))
    }
    assert loading == {name for name in NOTEBOOKS if of_chapter(name)}
