"""Questions with options: their form in every notebook, and what the book makes of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import gates
import nbformat
import pytest
from small_pages import opened

from tools import chapter, repository
from tools.cache import ROOT, notebooks
from tools.serve import HTML, serve

EMPTY = "17-my-idea"
NAMES = [path.stem for path in notebooks()]
DETAILS = re.compile(r"<details>\s*<summary>(.*?)</summary>(.*?)</details>", re.DOTALL)
OPTION = re.compile(r"^- \*\*([A-Z])\.\*\* (.+)$", re.DOTALL)
REASON = re.compile(r"^- \*\*([A-Z])\. (Right|Wrong)\.\*\* (.+)$", re.DOTALL)

every_chapter = pytest.mark.parametrize("name", [EMPTY, *NAMES])


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
    """All quizzes of a text.

    Raises:
        ValueError: something looks like a quiz and has not the form of one.
    """
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
def markdown(name: str) -> str:
    if name == EMPTY:
        made = chapter.notebook(EMPTY, repository.wanted(ROOT).repository)
    else:
        made = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", nbformat.NO_CONVERT)
    return "\n\n".join(cell.source for cell in made.cells if cell.cell_type == "markdown")


# --- the form -----------------------------------------------------------------------


@every_chapter
def test_every_quiz_has_one_right_answer_and_a_reason_for_each(name):
    assert faults(quizzes(markdown(name))) == []


@pytest.mark.parametrize(
    ("name", "least"), [("02-attention", 4), ("03-transformer", 4), (EMPTY, 1)]
)
def test_there_are_quizzes(name, least):
    assert len(quizzes(markdown(name))) >= least


def test_the_contributors_guide_shows_the_form_that_is_tested():
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (block,) = [
        b for b in re.findall(r"```markdown\n(.*?)```", guide, re.DOTALL) if "Question" in b
    ]
    (quiz,) = quizzes(block)
    assert faults([quiz]) == []


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


def test_right_answers_do_not_all_stand_in_the_same_place():
    three = [quizzes(GOOD.replace("uestion 1", f"uestion {n}"))[0] for n in (1, 2, 3)]
    assert faults(three) == ["B is always right"]


def test_an_open_question_is_no_quiz():
    text = "<details><summary>Why?</summary>\n\nBecause of this, and that.\n\n- One.\n</details>"
    assert quizzes(f"- a list\n- before\n\n{text}") == []


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
    status = page.get_by_role("status")
    assert status.inner_text().strip() == ""
    page.get_by_role("button", name="A One.").click()
    assert status.inner_text() == "A. Wrong. Too few."
    page.get_by_role("button", name="B Two.").click()
    assert status.inner_text() == "B. Right. It is two."
    pressed = page.get_by_role("button").evaluate_all("all => all.map(one => one.ariaPressed)")
    assert pressed == ["false", "true", "false"]


def test_right_and_wrong_are_not_told_by_colour_alone(page):
    def sign(letter: str) -> str:
        return page.evaluate(
            "item => getComputedStyle(item, '::after').content",
            page.locator("li", has=page.get_by_role("button", name=letter)).element_handle(),
        )

    page.get_by_role("button", name="C Three").click()
    assert "wrong" in sign("C Three")
    page.get_by_role("button", name="B Two").click()
    assert "right" in sign("B Two")
    assert sign("C Three") == "none"


def test_a_quiz_is_answered_by_the_keyboard(page):
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.get_by_role("status").inner_text() == "B. Right. It is two."
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert page.get_by_role("status").inner_text() == "C. Wrong. Too many."


def test_a_click_on_the_text_of_an_option_counts(page):
    page.get_by_text("Three <b>.").click()
    assert page.get_by_role("status").inner_text() == "C. Wrong. Too many."


def test_the_question_names_the_group(page):
    assert page.get_by_role("group", name="Question 1. How many?").count() == 1
    for button in page.get_by_role("button").all():
        box = button.bounding_box()
        assert min(box["width"], box["height"]) >= 24


def test_on_paper_all_reasons_are_there_and_no_button(page):
    page.emulate_media(media="print")
    assert not any(button.is_visible() for button in page.locator("button").all())
    for reason in ("Too few.", "It is two.", "Too many."):
        assert page.get_by_text(reason).is_visible()


def test_open_questions_stay_as_they_are(page):
    assert page.locator("details").nth(0).is_hidden()
    assert page.get_by_text("Open?").is_visible()
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
@pytest.mark.parametrize("name", NAMES)
def test_every_quiz_of_the_book_can_be_answered(browser, name):
    expected = quizzes(markdown(name))
    address = f"notebooks/{name}.html"
    with serve(HTML) as site, gates.opened(browser, f"{site}{address}") as (page, _log):
        groups = page.locator(".quiz-options")
        assert groups.count() == len(expected)
        for group, quiz in zip(groups.all(), expected, strict=True):
            said = group.locator("xpath=following-sibling::*[1]")
            buttons = group.get_by_role("button").all()
            for button, (letter, right, _) in zip(buttons, quiz.reasons, strict=True):
                button.click()
                assert said.inner_text().startswith(f"{letter}. {'Right' if right else 'Wrong'}.")


@pytest.mark.built
def test_the_script_is_loaded_where_there_is_a_quiz_and_nowhere_else():
    with_quiz = {f"notebooks/{name}.html" for name in NAMES if quizzes(markdown(name))}
    loading = {
        path.relative_to(HTML).as_posix()
        for path in HTML.rglob("*.html")
        if re.search(r'<script[^>]*src="[^"]*/quiz\.js', path.read_text(encoding="utf-8"))
    }
    assert loading == with_quiz
