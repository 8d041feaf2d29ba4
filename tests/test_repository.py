"""What every committed file, and above all every chapter, must be like.

Chapters are found here by themselves: a new one needs no new line. An empty chapter, as
``make chapter`` makes it, is held to the same rules.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import tomllib
from functools import cache
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
import yaml
from IPython.core.inputtransformer2 import TransformerManager
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import helpers
from tools import chapter, lock, published, repository
from tools.cache import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
EMPTY = "17-my-idea"
SECTIONS = ("Exercises", "Check yourself", "Recap", "Where this stands in the article", "Read on")
DEVICE = re.compile(r"(cuda|cpu|mps|xpu|npu|hpu|mlu|musa|xla|privateuseone|vulkan)(:\d*)?")
# Calls and arguments that decide where work is done; that is Accelerate's to decide. Not among
# them is .cpu(), which brings a result home from wherever it was.
PLACES = re.compile(r".*\.(cuda|xpu|npu|hpu|set_default_device)|(torch\.)?device|torch\.cuda\..+")
DECIDES = ("device_map", "device_type", "device_ids", "no_cuda", "use_mps_device", "use_cuda")
# In Markdown: a directive, a colon fence, a role, a target. Colab would show them raw.
MYST = (r"^\s*(```|~~~)\{", r"^\s*:::", r"\{[a-z][\w:.-]*\}`", r"^\([\w-]+\)=\s*$")


@cache
def notebook(name: str) -> nbformat.NotebookNode:
    if name == EMPTY:
        return chapter.notebook(EMPTY, repository.set_up_cell())
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", nbformat.NO_CONVERT)


every_chapter = pytest.mark.parametrize("name", sorted({EMPTY, *(path.stem for path in PATHS)}))
every_path = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def markdown(name: str) -> list[tuple[str, str]]:
    """Where each Markdown cell is, and its text."""
    cells = enumerate(notebook(name).cells, start=1)
    return [(f"cell {n}", cell.source) for n, cell in cells if cell.cell_type == "markdown"]


def code(name: str) -> list[tuple[str, nbformat.NotebookNode]]:
    """Where each code cell is, and the cell."""
    cells = enumerate(notebook(name).cells, start=1)
    return [(f"cell {n}", cell) for n, cell in cells if cell.cell_type == "code"]


def prose(text: str) -> list[str]:
    """The lines of a Markdown text that stand outside code blocks."""
    lines, fenced = [], False
    for line in text.splitlines():
        if re.match(r"\s*(```|~~~)", line):
            fenced = not fenced
        elif not fenced:
            lines.append(line)
    return lines


def tree(source: str) -> ast.Module:
    return ast.parse(TransformerManager().transform_cell(source))


def solutions(name: str) -> list[nbformat.NotebookNode]:
    return [cell for _, cell in code(name) if "hide-cell" in cell.metadata.get("tags", [])]


# --- the files of notebooks ---------------------------------------------------------


@every_path
def test_the_file_name_is_a_good_address(path):
    assert chapter.NAME.fullmatch(path.stem)


@every_path
def test_the_notebook_is_valid_and_stripped(path):
    content = nbformat.read(path, nbformat.NO_CONVERT)
    nbformat.validate(content)
    assert (content.nbformat, content.nbformat_minor) >= (4, 5)
    ids = [cell.id for cell in content.cells]
    assert len(ids) == len(set(ids))
    for number, cell in enumerate(content.cells, start=1):
        if cell.cell_type == "code":
            assert cell.outputs == [], f"cell {number} has outputs: make format"
            assert cell.execution_count is None, f"cell {number} has a count: make format"
        assert "execution" not in cell.metadata, f"cell {number} has times: make format"
    assert content.metadata.kernelspec.name == "python3"
    assert "widgets" not in content.metadata


def test_every_chapter_is_listed_once_and_in_order():
    chapters = [file for file in published.reading_order() if file.startswith("notebooks/")]
    assert chapters == sorted(chapters)
    assert chapters == [f"notebooks/{path.stem}" for path in PATHS]


def test_every_page_is_listed_and_exists(tmp_path):
    nothing_built = published.reading_order(folder=tmp_path)
    pages = [file for file in nothing_built if file.startswith("book/")]
    assert sorted(pages) == sorted(f"book/{path.stem}" for path in (ROOT / "book").glob("*.md"))
    assert len(pages) == len(set(pages))


# --- the anatomy of a chapter -------------------------------------------------------


@every_chapter
def test_it_opens_with_a_title_and_a_promise(name):
    first = notebook(name).cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
    assert "**After this chapter you can**" in first.source
    assert "[execution times](../book/times.md)" in " ".join(first.source.split())


@every_chapter
def test_the_first_code_cell_sets_up_colab(name):
    _, cell = code(name)[0]
    assert cell.source == repository.set_up_cell(), "make repository writes it"
    assert cell.metadata.get("tags") == ["remove-cell"]
    assert cell.metadata.get("cellView") == "form"


@every_chapter
def test_the_checks_begin_under_the_name_of_the_file(name):
    begun = []
    for _, cell in code(name):
        for node in ast.walk(tree(cell.source)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "checks.begin":
                begun.append(ast.literal_eval(node.args[0]))
    assert begun == [name]


@every_chapter
def test_every_check_has_a_name_of_its_own(name):
    names = []
    for _, cell in code(name):
        for node in ast.walk(tree(cell.source)):
            called = node.func if isinstance(node, ast.Call) else None
            if called and re.match(r"(checks\.)?check_(close|equal|at_)", ast.unparse(called)):
                names += [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)]
    assert names, "a chapter without a check"
    assert len(names) == len(set(names)), [one for one in names if names.count(one) > 1]


@every_chapter
def test_headings_are_in_order(name):
    lines = [line for _, text in markdown(name) for line in prose(text)]
    levels = [len(match[1]) for line in lines if (match := re.match(r"(#+) ", line))]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels)), levels


@every_chapter
def test_it_ends_with_the_usual_sections(name):
    lines = [line for _, text in markdown(name) for line in prose(text)]
    sections = [line[3:].strip() for line in lines if line.startswith("## ")]
    assert tuple(sections[-len(SECTIONS) :]) == SECTIONS


@every_chapter
def test_every_exercise_has_a_folded_solution(name):
    lines = [line for _, text in markdown(name) for line in prose(text)]
    exercises = lines[lines.index("## Exercises") : lines.index("## Check yourself")]
    numbers = [match[1] for line in exercises if (match := re.match(r"### (\d+)\. ", line))]
    assert len(numbers) >= 3
    assert numbers == [str(n) for n in range(1, len(numbers) + 1)]
    # A long solution may go on in further cells: "# @title Solution to exercise 3, continued".
    title = re.compile(r"# @title Solution to exercise (\d+)(, .+)?")
    titles = [title.fullmatch(cell.source.splitlines()[0]) for cell in solutions(name)]
    assert [match[1] for match in titles if match and not match[2]] == numbers
    solved = [match[1] for match in titles if match]
    assert solved == sorted(solved, key=int)
    for cell in solutions(name):
        assert cell.metadata.get("cellView") == "form", "in Colab it would not be folded"


@every_chapter
def test_the_reader_can_check_himself(name):
    text = "\n".join(text for _, text in markdown(name))
    assert text.count("<details>") >= 4
    assert text.count("<details>") == text.count("</details>")
    answers = re.findall(r"<details>\s*<summary>(.+?)</summary>(.*?)</details>", text, re.DOTALL)
    assert len(answers) == text.count("<details>")
    for question, answer in answers:
        assert question.strip()
        assert len(answer.split()) >= 4, f"no answer to: {question}"


# --- what stands in the cells -------------------------------------------------------


@every_chapter
def test_prose_is_markdown_that_looks_the_same_everywhere(name):
    for where, text in markdown(name):
        for pattern in MYST:
            match = re.search(pattern, text, re.MULTILINE)
            assert match is None, f"{where}: {match and match[0]!r} is MyST, Colab shows it raw"


@every_chapter
def test_cells_are_short(name):
    for where, cell in code(name):
        assert len(cell.source.splitlines()) <= 25, where


@every_chapter
def test_every_figure_is_described(name):
    for where, text in markdown(name):
        for alt in re.findall(r"!\[([^\]]*)\]\(", text):
            assert len(alt.split()) >= 4, f"{where}: an image needs a sentence that describes it"
        for tag in re.findall(r"<img\b[^>]*>", text):
            assert re.search(r'alt="[^"]{10,}"', tag), f"{where}: {tag}"
    made = shown = 0
    for where, cell in code(name):
        for node in ast.walk(tree(cell.source)):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                assert "pyplot" not in ast.unparse(node), f"{where}: use plots.new and plots.show"
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert not called.startswith("plt."), f"{where}: use plots.new and plots.show"
                made += called == "plots.new"
                if called == "plots.show":
                    shown += 1
                    assert "alt" in {keyword.arg for keyword in node.keywords}, where
    assert shown >= made, "a figure is made and not shown"


@every_chapter
def test_links_to_other_files_resolve(name):
    for where, text in markdown(name):
        for target in re.findall(r"\]\(([^)\s]+)\)", "\n".join(prose(text))):
            if not re.match(r"https?://|#|mailto:", target):
                path = ROOT / "notebooks" / target.split("#")[0]
                assert path.resolve().is_file(), f"{where}: {target} does not exist"


def sources() -> list[tuple[str, str]]:
    """Each piece of Python of the handbook: the helpers, the tools and all code cells."""
    found = [
        (path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
        for folder in ("helpers", "tools")
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]
    names = [path.stem for path in PATHS]
    return found + [
        (f"notebooks/{name}.ipynb {where}", cell.source)
        for name in names
        for where, cell in code(name)
    ]


# Each reads a format that can hold a program. safetensors, JSON and yaml.safe_load cannot.
LOADS_CODE = {
    "torch.load", "torch.hub.load", "pd.read_pickle", "pandas.read_pickle", "yaml.load",
    "yaml.unsafe_load", "yaml.full_load", "marshal.loads", "shelve.open", "jsonpickle.decode",
}  # fmt: skip


def offences(source: str) -> list[str]:
    """What a piece of Python must not do: name a device, or load what can run code."""
    found = []
    for node in ast.walk(tree(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if DEVICE.fullmatch(node.value):
                found.append(f"line {node.lineno} names the device {node.value!r}")
        elif isinstance(node, ast.Import | ast.ImportFrom):
            modules = [getattr(node, "module", None), *(alias.name for alias in node.names)]
            if {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"} & set(
                modules
            ):
                found.append(f"line {node.lineno} imports pickle or its like")
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if PLACES.fullmatch(called):
                found.append(f"line {node.lineno} calls {called}(); Accelerate knows the device")
            if called in LOADS_CODE:
                found.append(f"line {node.lineno} calls {called}, which can run code")
            for keyword in node.keywords:
                number = isinstance(getattr(keyword.value, "value", None), int)
                if keyword.arg in DECIDES or (keyword.arg == "device" and number):
                    found.append(f"line {node.lineno} sets {keyword.arg}")
                if keyword.arg == "trust_remote_code" and ast.unparse(keyword.value) != "False":
                    found.append(f"line {node.lineno} trusts remote code")
                if keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False":
                    found.append(f"line {node.lineno} allows pickle")
    return found


def test_no_device_is_named_and_nothing_that_can_run_code_is_loaded():
    found = [f"{where}: {what}" for where, source in sources() for what in offences(source)]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "model.to('cuda')",
        'torch.zeros(2, device="cpu")',
        "device = 'cuda:1'",
        "device = 'xpu:0' if there else None",
        "device = f'cuda:{rank}'",
        "model.cuda()",
        "model.xpu()",
        "torch.cuda.empty_cache()",
        "device = torch.device(number)",
        "from torch import device\ndevice(kind)",
        "pipeline('text-classification', device=0)",
        "AutoModel.from_pretrained('x', device_map=places)",
        "AutoModel.from_pretrained('x', device_map='auto')",
        "TrainingArguments('x', no_cuda=True)",
        "torch.autocast(device_type=kind)",
        "torch.set_default_device(kind)",
        "import pickle",
        "from pickle import load",
        "import numpy, dill",
        "torch.load('weights.pt')",
        "pd.read_pickle('x.pkl')",
        "yaml.load(text)",
        "import joblib",
        "from marshal import loads",
        "AutoModel.from_pretrained('x', trust_remote_code=True)",
        "np.load('x.npy', allow_pickle=True)",
    ],
)
def test_offences_are_found(source):
    assert len(offences(f"%pip list\n{source}")) == 1


def test_what_is_no_offence_is_not_taken_for_one():
    source = "x.to(y.device)  # cuda\nprint('the cpu is slow')\nf(trust_remote_code=False)"
    source += "\nx.to(accelerator.device).cpu()\nzeros(2, device=x.device)\nf(device=None)"
    source += "\nprint(f'{name}: cuda is a device')"
    assert offences(source) == []


# --- versions -----------------------------------------------------------------------

LOCK_TEXT = (ROOT / "requirements.lock").read_text(encoding="utf-8")
EXTRAS = tuple(PROJECT["optional-dependencies"])


def test_every_direct_dependency_is_locked_within_its_range():
    pins = lock.locked(LOCK_TEXT)
    for wanted in lock.direct(EXTRAS):
        found = pins.get(canonicalize_name(wanted.name), [])
        assert found, f"{wanted.name} is not in requirements.lock: make lock"
        for pin in found:
            (specifier,) = pin.specifier
            assert specifier.operator == "=="
            assert wanted.specifier.contains(specifier.version, prereleases=True), (wanted, pin)


def test_environment_yml_pins_what_the_lock_pins():
    text = lock.ENVIRONMENT.read_text(encoding="utf-8")
    assert text == lock.environment(LOCK_TEXT), "make lock writes it"
    # Read once more, without the code that wrote it.
    content = yaml.safe_load(text)
    assert content["channels"] == ["conda-forge"]
    pip = content["dependencies"][-1]["pip"]
    assert pip[-1] == "-e ."
    pinned = {canonicalize_name(Requirement(line).name) for line in pip[:-1]}
    assert pinned == {canonicalize_name(d.name) for d in lock.direct(("book", "lab", "test"))}
    for line in pip[:-1]:
        assert re.search(rf"(?m)^{re.escape(line.split(';')[0].strip())}( |$)", LOCK_TEXT), line


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-cuda.lock"])
def test_every_locked_version_has_hashes(name):
    blocks = re.split(r"(?m)^(?=[a-zA-Z0-9])", (ROOT / name).read_text(encoding="utf-8"))[1:]
    assert blocks
    for block in blocks:
        first, *rest = [line.strip().rstrip(" \\") for line in block.splitlines()]
        assert re.match(r"[a-z0-9._-]+==[^\s;]+", first), first
        assert rest, f"{first} has no hash"
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", line) for line in rest), first


def test_no_package_is_in_both_locks():
    cuda = lock.locked((ROOT / "requirements-cuda.lock").read_text(encoding="utf-8"))
    assert not set(cuda) & set(lock.locked(LOCK_TEXT))


def test_torch_is_the_version_that_the_lock_tool_names():
    assert [str(pin) for pin in lock.locked(LOCK_TEXT)["torch"]] == [f"torch=={lock.TORCH}"]
    for sha256 in lock.TORCH_CPU_WHEELS:
        assert sha256 in LOCK_TEXT


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert helpers.__version__ == PROJECT["version"] == citation["version"]


# --- addresses, continuous integration, hooks ---------------------------------------


def test_every_file_shows_the_same_addresses():
    assert repository.disagreements() == [], "make repository mends it"
    for name in ("README.md",):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert PROJECT["urls"]["Repository"] in text
        assert PROJECT["urls"]["Book"] in text


@every_path
def test_no_notebook_installs_from_elsewhere(path):
    content = nbformat.read(path, nbformat.NO_CONVERT)
    for cell in content.cells:
        if cell.cell_type == "code" and not cell.source.startswith(repository.TITLE):
            assert not re.search(r"\bpip3?\s+install\b|\bgit\+|\bgit clone\b", cell.source)


WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_has_few_permissions_and_pinned_actions(path):
    text = path.read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] in ({}, {"contents": "read"})
    for job, content in workflow["jobs"].items():
        extra = set(content.get("permissions", {}).items()) - {("contents", "read")}
        if path.stem == "pages" and job == "deploy":
            assert extra == {("pages", "write"), ("id-token", "write")}
        elif path.stem in ("ci", "nightly", "pages", "audit"):
            assert not extra
        assert content.get("timeout-minutes"), f"{job} may hang for hours"
    for action in re.findall(r"uses: (\S+)", text):
        assert re.search(r"@v\d+(\.\d+)*$|@[0-9a-f]{40}$", action), action
    for name in re.findall(r"python -m ((?:tools|helpers)\.\w+)", text):
        assert (ROOT / f"{name.replace('.', '/')}.py").is_file(), name


def test_continuous_integration_runs_the_command_of_the_readme():
    run = ROOT / ".ci/run"
    assert os.access(run, os.X_OK)
    text = run.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in text
    assert re.search(r"(?m)^  \.ci/offline make test$", text)
    assert text.rstrip().endswith("\nexec make colab")
    assert subprocess.run(["bash", "-n", str(run)]).returncode == 0
    assert ".ci/run" in (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")


def test_hooks_run_the_project_s_own_tools():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [entry["repo"] for entry in hooks["repos"]] == ["local"]
    for hook in hooks["repos"][0]["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"].startswith(".venv/bin/")


def targets() -> set[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"(?m)^([a-z][a-z-]*):", text))


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_documents_name_only_what_exists(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"https?://|#", target):
            assert (ROOT / target.split("#")[0]).exists(), f"{name}: {target} does not exist"
    commands = set(re.findall(r"(?:`|^ *)make ([a-z-]+)", text, re.MULTILINE))
    assert commands
    assert commands <= targets()
    for module in re.findall(r"python -m ((?:tools|helpers)\.\w+)", text):
        assert Path(ROOT / f"{module.replace('.', '/')}.py").is_file(), module
