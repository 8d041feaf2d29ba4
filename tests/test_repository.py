"""What every committed file, and above all every chapter, must be like.

Chapters are found here by themselves: a new one needs no new line. An empty chapter, as
``make chapter`` makes it, is held to the same rules.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from itertools import pairwise

import nbformat
import pytest
import yaml
from IPython.core.inputtransformer2 import TransformerManager
from packaging.utils import canonicalize_name

import helpers
from helpers import checks
from tools import chapter, lock, published, repository
from tools.cache import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
EMPTY = "17-my-idea"
SECTIONS = ["Exercises", "Check yourself", "Recap", "Where this stands in the article", "Read on"]
# In Markdown: a directive, a colon fence, a role, a target. Colab would show them raw.
MYST = r"(?m)^\s*(```|~~~)\{|^\s*:::|\{[a-z][\w:.-]*\}`|^\([\w-]+\)=\s*$"

every_chapter = pytest.mark.parametrize("name", sorted({EMPTY, *(path.stem for path in PATHS)}))


@cache
def notebook(name: str) -> nbformat.NotebookNode:
    if name == EMPTY:
        return chapter.notebook(EMPTY)
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", nbformat.NO_CONVERT)


def cells(name: str, kind: str) -> list[tuple[str, nbformat.NotebookNode]]:
    """Where each cell of a kind is, and the cell."""
    numbered = enumerate(notebook(name).cells, start=1)
    return [(f"cell {number}", cell) for number, cell in numbered if cell.cell_type == kind]


def prose(name: str) -> list[str]:
    """The lines of all Markdown cells that stand outside code blocks."""
    text = "\n".join(cell.source for _, cell in cells(name, "markdown"))
    return re.sub(r"(?ms)^\s*(```|~~~).*?^\s*\1\s*$", "", text).splitlines()


def tree(source: str) -> ast.Module:
    return ast.parse(TransformerManager().transform_cell(source))


def calls(name: str, pattern: str) -> list[tuple[str, ast.Call]]:
    """The calls in a chapter's code whose function matches ``pattern``, and where they stand."""
    return [
        (where, node)
        for where, cell in cells(name, "code")
        for node in ast.walk(tree(cell.source))
        if isinstance(node, ast.Call) and re.fullmatch(pattern, ast.unparse(node.func))
    ]


# --- the form of a chapter ----------------------------------------------------------


@every_chapter
def test_the_notebook_is_valid_and_stripped(name):
    assert chapter.NAME.fullmatch(name)
    content = notebook(name)
    nbformat.validate(content)
    assert (content.nbformat, content.nbformat_minor) >= (4, 5)
    assert len({cell.id for cell in content.cells}) == len(content.cells)
    assert content.metadata.kernelspec.name == "python3"
    assert "widgets" not in content.metadata
    for where, cell in cells(name, "code"):
        found = (cell.outputs, cell.execution_count, "execution" in cell.metadata)
        assert found == ([], None, False), f"{where} keeps what a run left: make format"
        assert len(cell.source.splitlines()) <= 25, f"{where} is too long"


@every_chapter
def test_it_opens_with_a_promise_and_the_set_up(name):
    first = notebook(name).cells[0].source
    assert first.startswith(f"# {name[:2]} "), "a title begins with the chapter's number"
    assert "**After this chapter you can**" in first
    (_, set_up), *others = cells(name, "code")
    assert set_up.source == repository.set_up_cell(), "make repository writes it"
    assert set_up.metadata == {"cellView": "form", "tags": ["remove-cell"]}
    rest = "\n".join(cell.source for _, cell in others)
    assert not re.search(r"\bpip3?\s+install\b|\bgit\+|\bgit clone\b", rest)


@every_chapter
def test_every_check_has_a_name_of_its_own(name):
    assert [ast.literal_eval(call.args[0]) for _, call in calls(name, r"checks\.begin")] == [name]
    found = calls(name, r"(checks\.)?check_(close|equal|at_\w+)")
    names = [call.args[0].value for _, call in found if isinstance(call.args[0], ast.Constant)]
    assert names, "a chapter without a check"
    assert len(names) == len(set(names)), [one for one in names if names.count(one) > 1]


@every_chapter
def test_headings_are_in_order_and_the_last_sections_are_the_usual_ones(name):
    lines = prose(name)
    levels = [len(match[1]) for line in lines if (match := re.match(r"(#+) ", line))]
    assert (levels[0], levels.count(1)) == (1, 1)
    assert all(after <= before + 1 for before, after in pairwise(levels)), levels
    assert [line[3:].strip() for line in lines if line.startswith("## ")][-5:] == SECTIONS


@every_chapter
def test_every_exercise_has_a_folded_solution(name):
    lines = prose(name)
    exercises = lines[lines.index("## Exercises") : lines.index("## Check yourself")]
    numbers = [match[1] for line in exercises if (match := re.match(r"### (\d+)\. ", line))]
    assert len(numbers) >= 3
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)]
    # A long solution may go on in further cells: "# @title Solution to exercise 3, continued".
    folded = [c for _, c in cells(name, "code") if "hide-cell" in c.metadata.get("tags", [])]
    title = re.compile(r"# @title Solution to exercise (\d+)(, .+)?")
    titles = list(filter(None, (title.fullmatch(cell.source.split("\n")[0]) for cell in folded)))
    assert [match[1] for match in titles if not match[2]] == numbers
    assert [match[1] for match in titles] == sorted((match[1] for match in titles), key=int)
    assert {cell.metadata.get("cellView") for cell in folded} == {"form"}, "not folded in Colab"
    # The last cell of each ends in the answer, in words.
    last = {title.match(cell.source)[1]: cell.source for cell in folded if title.match(cell.source)}
    written = {number: "\n# Answer: " in source for number, source in last.items()}
    assert written == dict.fromkeys(numbers, True)


@every_chapter
def test_prose_looks_the_same_everywhere_and_its_links_resolve(name):
    for where, cell in cells(name, "markdown"):
        match = re.search(MYST, cell.source)
        assert match is None, f"{where}: {match and match[0]!r} is MyST, Colab shows it raw"
    for target in re.findall(r"\]\(([^)\s]+)\)", "\n".join(prose(name))):
        path = ROOT / "notebooks" / target.split("#")[0]
        assert re.match(r"https?://|#|mailto:", target) or path.is_file(), target


@every_chapter
def test_every_figure_is_described(name):
    text = "\n".join(prose(name))
    assert [alt for alt in re.findall(r"!\[([^\]]*)\]\(", text) if len(alt.split()) < 4] == []
    assert not re.search(r'<img\b(?![^>]*alt="[^"]{10})', text)
    for where, cell in cells(name, "code"):
        assert not re.search(r"\bpyplot\b|\bplt\.", cell.source), f"{where}: use plots.new"
    made, shown = calls(name, r"plots\.new"), calls(name, r"plots\.show")
    assert len(shown) >= len(made), "a figure is made and not shown"
    described = [where for where, call in shown if "alt" in {each.arg for each in call.keywords}]
    assert described == [where for where, _ in shown]


def test_every_chapter_and_every_page_is_listed_once():
    listed = published.reading_order()
    chapters = [file for file in listed if file.startswith("notebooks/")]
    assert chapters == [f"notebooks/{path.stem}" for path in PATHS]
    pages = sorted(file for file in listed if file.startswith("book/"))
    assert pages == sorted(f"book/{path.stem}" for path in (ROOT / "book").glob("*.md"))


# --- a new chapter ------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path):
    """A checkout to make chapters in, with every file that shows an address."""
    for name in ("pyproject.toml", "_toc.yml", "_config.yml", "CITATION.cff", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "notebooks").mkdir()
    return tmp_path


@pytest.mark.parametrize("name", [EMPTY, "00-a-first-one", "05-a-new-one"])
def test_a_new_chapter_is_listed_in_its_place_and_nothing_is_overwritten(checkout, name):
    path = chapter.create(name, checkout)
    listed = re.findall(r"- file: notebooks/(\S+)", (checkout / "_toc.yml").read_text())
    assert listed == sorted([name, *(path.stem for path in PATHS)])
    yaml.safe_load((checkout / "_toc.yml").read_text())
    path.write_text("mine")
    with pytest.raises(ValueError, match="not overwritten"):
        chapter.create(name, checkout)
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    "name",
    ["", "idea", "1-idea", "17_idea", "17-Idea", "17-", "17--", "17--a", "17-idea.ipynb", "17",
     "../17-idea", "١٧-idea", "17-idée", '17-a"b', "17-a\n", "17-" + "a" * 300],
)  # fmt: skip
def test_a_bad_name_is_refused_before_anything_is_written(checkout, name):
    before = (checkout / "_toc.yml").read_text()
    with pytest.raises(ValueError, match="17-my-idea"):
        chapter.create(name, checkout)
    assert list((checkout / "notebooks").iterdir()) == []
    assert (checkout / "_toc.yml").read_text() == before
    with pytest.raises(SystemExit, match=r"^error: a chapter's name is two digits"):
        chapter.main([name])


def test_a_new_chapter_runs_and_is_in_the_project_s_style(checkout, monkeypatch):
    path = chapter.create(EMPTY, checkout)
    options = ["--no-cache", "--config", ROOT / "pyproject.toml", path]
    for command in (["check"], ["format", "--check"]):
        words = [sys.executable, "-m", "ruff", *command, *options]
        ran = subprocess.run(words, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    sources = [cell.source for _, cell in cells(EMPTY, "code")[1:]]
    assert max(len(line) for source in sources for line in source.splitlines()) <= 76
    monkeypatch.setenv(checks.VARIABLE, str(checkout / "checks"))
    subprocess.run([sys.executable, "-c", "\n".join(sources)], cwd=ROOT, check=True)
    records = json.loads((checkout / f"checks/{EMPTY}.json").read_text(encoding="utf-8"))
    assert len(records["checks"]) == 4


# --- addresses ----------------------------------------------------------------------


def test_every_file_shows_the_same_addresses():
    wanted = repository.wanted()
    assert repository.shown() == wanted
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["repository-code"], citation["url"]) == (wanted.repository, wanted.book)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [one for one in (wanted.repository, wanted.book) if one not in readme] == []


@pytest.mark.parametrize("page", ["README.md", "book/intro.md"])
def test_every_chapter_can_be_found(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    names = [path.stem for path in (ROOT / "notebooks").glob("*.ipynb")]
    assert [name for name in names if f"notebooks/{name}" not in text] == []


def test_one_command_moves_the_repository_everywhere(checkout):
    path = chapter.create(EMPTY, checkout)
    before = repository.wanted(checkout)
    (checkout / "book").mkdir()
    names = f"a: {before.slug}/blob\nb: my-{before.slug}\nc: {before.slug}s\n"
    (checkout / "book/x.md").write_text(names)
    assert repository.rewrite(checkout) == []
    project = checkout / "pyproject.toml"
    text = project.read_text().replace(before.repository, "https://github.com/new/home")
    project.write_text(text.replace(before.book, "https://example.org/read/"))
    changed = ["CITATION.cff", "README.md", "_config.yml", "book/x.md", f"notebooks/{EMPTY}.ipynb"]
    assert repository.rewrite(checkout) == changed
    assert repository.shown(checkout) == repository.wanted(checkout)
    for name in changed[:3]:
        assert before.slug not in (checkout / name).read_text(encoding="utf-8")
    moved = names.replace(f"a: {before.slug}", "a: new/home")
    assert (checkout / "book/x.md").read_text() == moved
    # A set-up cell that somebody changed is written anew.
    right = path.read_text(encoding="utf-8")
    path.write_text(right.replace("--quiet git+https://github.com/new/home", "gpt"))
    assert repository.rewrite(checkout) == [f"notebooks/{EMPTY}.ipynb"]
    assert path.read_text(encoding="utf-8") == right
    project.write_text(text.replace("https://github.com/new/home", "https://github.com/new"))
    with pytest.raises(ValueError, match="Repository must be"):
        repository.rewrite(checkout)


# --- versions, licences, documents --------------------------------------------------

LOCK_TEXT = (ROOT / "requirements.lock").read_text(encoding="utf-8")


def test_every_direct_dependency_is_locked_within_its_range():
    pins = lock.locked(LOCK_TEXT)
    for wanted in lock.direct(tuple(PROJECT["optional-dependencies"])):
        found = pins.get(canonicalize_name(wanted.name), [])
        assert found, f"{wanted.name} is not in requirements.lock: make lock"
        for pin in found:
            (specifier,) = pin.specifier
            assert wanted.specifier.contains(specifier.version, prereleases=True), (wanted, pin)
    assert [str(pin) for pin in pins["torch"]] == [f"torch=={lock.TORCH}"]
    assert all(sha256 in LOCK_TEXT for sha256 in lock.TORCH_CPU_WHEELS)
    assert not set(pins) & set(lock.locked(lock.LOCKS[1].read_text(encoding="utf-8")))


def test_environment_yml_pins_what_the_lock_pins():
    text = lock.ENVIRONMENT.read_text(encoding="utf-8")
    assert text == lock.environment(LOCK_TEXT), "make lock writes it"
    pip = yaml.safe_load(text)["dependencies"][-1]["pip"]
    assert pip[-1] == "-e ."
    for line in pip[:-1]:  # read once more, without the code that wrote it
        assert re.search(rf"(?m)^{re.escape(line.split(';')[0].strip())}( |$)", LOCK_TEXT), line


@pytest.mark.parametrize("path", lock.LOCKS, ids=lambda path: path.name)
def test_every_locked_version_has_hashes(path):
    blocks = re.split(r"(?m)^(?=[a-zA-Z0-9])", path.read_text(encoding="utf-8"))[1:]
    assert blocks
    form = r"[a-z0-9._-]+==[^\s;]+( ; [^\\]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+\n"
    assert [block for block in blocks if not re.fullmatch(form, block)] == []


def test_the_wheel_holds_the_helpers_and_the_licences_and_nothing_else(tmp_path):
    shutil.copytree(ROOT / "helpers", tmp_path / "helpers")
    for name in ("pyproject.toml", "README.md", "LICENSE", "LICENSE-TEXT"):
        shutil.copy(ROOT / name, tmp_path)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "."]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = zipfile.ZipFile(wheel).namelist()
    files = [*(ROOT / "helpers").rglob("*.py"), *(ROOT / "helpers/configurations").iterdir()]
    modules = {path.relative_to(ROOT).as_posix() for path in files}
    others = {"helpers/py.typed", "helpers/assets/entries.toml"}
    assert {name for name in held if ".dist-info/" not in name} == modules | others
    licences = {name.split("/")[-1] for name in held if "/licenses/" in name}
    assert licences == {"LICENSE", "LICENSE-TEXT"}
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["license"] == PROJECT["license"].split(" AND ")
    assert helpers.__version__ == PROJECT["version"] == citation["version"]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_documents_name_only_what_exists(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    named = [target.split("#")[0] for target in re.findall(r"\]\((?!https?:|#)([^)\s]+)\)", text)]
    named += re.findall(r"`((?:book|helpers|notebooks|tests|tools)/[\w./-]*)`", text)
    missing = [one for one in named if not (ROOT / one).exists() and EMPTY not in one]
    assert missing == []
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = set(re.findall(r"(?m)(?:`|^ *)make ([a-z-]+)", text))
    assert commands <= set(re.findall(r"(?m)^([a-z][a-z-]*):", makefile)) - {""}
    assert commands
