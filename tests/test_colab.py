"""A notebook alone in Colab: its set-up cell, and then the whole of it.

The quick tests run the cell with pip replaced. Those marked ``colab`` build an environment with
what Colab ships of our dependencies (``colab/packages.txt``), a kernel like Colab's, and a git
repository of this checkout, copy a notebook by itself into an empty directory, and run it there:
``make colab`` for the set-up of every notebook and the whole of the one that ran the shortest here,
``make colab-all`` for the whole of every one. torch is the version of the lock as pip finds it;
with ``TORCH=cpu`` it is the version that Colab has.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools import baselines, execute, lanes, lock, repository
from tools.cache import BUILD, CHECKS, ROOT, notebooks

HERE = Path(__file__).parent / "colab"
PACKAGES = (HERE / "packages.txt").read_text(encoding="utf-8")
LISTED = {
    canonicalize_name(requirement.name): requirement
    for line in PACKAGES.splitlines()
    if (text := line.split("#")[0].strip())
    for requirement in [Requirement(text)]
}
CELL = repository.set_up_cell()
PUBLIC = repository.wanted().repository


# --- the list of what Colab ships -----------------------------------------------------


def test_the_list_pins_every_package_once_and_is_dated():
    lines = [line for line in PACKAGES.splitlines() if line and not line.startswith("#")]
    assert len(lines) == len(LISTED)
    assert all(len(one.specifier) == 1 and "==" in str(one.specifier) for one in LISTED.values())
    assert re.search(r"^# Looked up on \d{4}-\d\d-\d\d\.", PACKAGES, re.MULTILINE)


def test_our_bounds_admit_what_colab_ships():
    """What Colab does not ship, the set-up adds: the tests below see that it does."""
    shipped = [one for one in lock.direct(()) if canonicalize_name(one.name) in LISTED]
    assert {"torch", "transformers", "datasets"} <= {one.name for one in shipped}
    for wanted in shipped:
        listed = LISTED[canonicalize_name(wanted.name)]
        (pin,) = listed.specifier
        assert wanted.specifier.contains(pin.version), f"Colab has {listed}, we want {wanted}"


def test_our_oldest_python_admits_that_of_colab():
    (version,) = re.findall(r"^# python: (\S+)$", PACKAGES, re.MULTILINE)
    (oldest,) = re.findall(r"sys\.version_info >= \((\d+), (\d+)\)", CELL)
    assert tuple(map(int, oldest)) <= tuple(map(int, version.split(".")))


# --- the cell, with pip replaced ------------------------------------------------------


@pytest.fixture
def pip(monkeypatch, tmp_path):
    """Colab as far as the cell can see it: its module, and a pip that only writes down."""
    calls: list[tuple[list[str], str]] = []
    listings = iter(["numpy==2.1.3\ntorch==2.11.0+cu128\n", "evaluate==0.4.6\nnumpy==2.1.3\n"])

    def run(command, input="", **options):
        calls.append((command[3:], input))
        assert command[:3] == [sys.executable, "-m", "pip"]
        said = next(listings) if command[3] == "list" else ""
        return subprocess.CompletedProcess(command, pip.status, said, pip.problem)

    pip = types.SimpleNamespace(calls=calls, status=0, problem="")
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.delenv("HANDBOOK_REPOSITORY", raising=False)
    monkeypatch.chdir(tmp_path)
    return pip


def run_cell() -> dict[str, object]:
    names: dict[str, object] = {}
    exec(compile(CELL, "set-up", "exec"), names)
    return names


def test_elsewhere_the_cell_does_nothing(pip, monkeypatch, tmp_path, capsys):
    monkeypatch.delitem(sys.modules, "google.colab")
    assert set(run_cell()) - {"__builtins__"} == {"sys"}
    assert pip.calls == []
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")


def test_in_colab_it_keeps_every_version_and_says_what_it_added(pip, tmp_path, capsys):
    run_cell()
    (_, install, _), (_, constraints, _) = zip(*pip.calls, strict=True)
    assert install == [
        "install",
        "--constraint=/dev/stdin",
        f"huggingface-handbook @ git+{PUBLIC}",
    ]
    assert constraints.split() == ["numpy==2.1.3", "torch==2.11.0+cu128"]
    said = capsys.readouterr().out.splitlines()
    assert said == [
        f"Installing the handbook from {PUBLIC}",
        "Added to what Colab has: the handbook, evaluate==0.4.6",
    ]
    assert list(tmp_path.iterdir()) == []


def test_one_variable_names_another_repository(pip, monkeypatch):
    monkeypatch.setenv("HANDBOOK_REPOSITORY", "file:///somewhere")
    run_cell()
    assert pip.calls[1][0][-1] == "huggingface-handbook @ git+file:///somewhere"


def test_an_older_python_is_refused_before_anything_is_done(pip, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "version_info", (3, 10, 12, "final", 0))
    with pytest.raises(AssertionError, match=r"Python 3\.11 or newer.*Runtime version: Latest"):
        run_cell()
    assert pip.calls == []
    assert list(tmp_path.iterdir()) == []


def test_a_failing_pip_is_an_error_that_says_why_and_what_to_do(pip):
    pip.status, pip.problem = 1, "ERROR: no network"
    with pytest.raises(AssertionError, match=r"(?s)no network.*Runtime version: Latest"):
        run_cell()


def test_a_notebook_with_another_set_up_cell_is_found_and_mended(tmp_path):
    for name in ("pyproject.toml", "_config.yml", "CITATION.cff"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "notebooks").mkdir()
    path = tmp_path / "notebooks" / notebooks()[0].name
    shutil.copy(notebooks()[0], path)
    assert repository.disagreements(tmp_path) == []
    right = path.read_text(encoding="utf-8")
    path.write_text(right.replace("--constraint=", "--requirement="), encoding="utf-8")
    (line,) = repository.disagreements(tmp_path)
    assert line == f"notebooks/{path.name} has another set-up cell for Colab"
    assert repository.rewrite(tmp_path) == [f"notebooks/{path.name}"]
    assert path.read_text(encoding="utf-8") == right
    path.write_text(right.replace("# @title Set-up", "# @title Setup"), encoding="utf-8")
    (line,) = repository.disagreements(tmp_path)
    assert line == f"notebooks/{path.name} has no set-up cell for Colab"


# --- an environment like Colab's ------------------------------------------------------


@dataclass(frozen=True)
class Colab:
    """Where the environment is, what it holds, and the repository to install from."""

    python: Path
    jupyter: Path
    brought: dict[str, str]
    repository: str

    def environment(self) -> dict[str, str]:
        """The environment variables of its kernel: nothing of ours leaks in."""
        mine = re.compile(r"HOME|LANG|LC_\w+|TMPDIR|SSL_\w+|\w+_(?:proxy|PROXY)|PIP_\w+|XDG_\w+")
        kept = {name: value for name, value in os.environ.items() if mine.fullmatch(name)}
        assets = os.environ.get("HANDBOOK_ASSETS")
        return {
            **kept,
            **({"HANDBOOK_ASSETS": assets} if assets else {}),
            "PATH": f"{self.python.parent}:/usr/local/bin:/usr/bin:/bin",
            "COLAB_RELEASE_TAG": "release-colab-external-images_20261008-060111_RC00",
            "COLAB_GPU": "",
            "HANDBOOK_PROFILE": "small",
            "HANDBOOK_REPOSITORY": self.repository,
            "HF_HUB_OFFLINE": "1",  # the packaged assets are complete
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(execute.THREADS)),
        }


@pytest.fixture(scope="session")
def colab(tmp_path_factory) -> Colab:
    folder = BUILD / "colab"
    here = [path for path in sorted(HERE.rglob("*")) if path.suffix in (".py", ".txt")]
    content = "".join(path.read_text(encoding="utf-8") for path in here)
    key = hashlib.sha256(f"{content} {lock.TORCH} {sys.version} {os.environ.get('TORCH')}".encode())
    stamp = folder / "stamp"
    python = folder / ".venv/bin/python"
    if not stamp.exists() or stamp.read_text() != key.hexdigest():
        stamp.unlink(missing_ok=True)
        build(folder)
        stamp.write_text(key.hexdigest())
    tidy(python)
    return Colab(python, folder / "jupyter", lanes.installed(python), snapshot(tmp_path_factory))


def build(folder: Path) -> None:
    """Make the environment: the listed packages, torch, and the stand-in for Colab's own."""
    python = lanes.new_environment(folder / ".venv")
    (pin,) = LISTED["torch"].specifier
    lanes.install_torch(python, pin.version if os.environ.get("TORCH") == "cpu" else lock.TORCH)
    torch = f"torch=={lanes.installed(python)['torch']}\n"
    pins = "".join(f"{one}\n" for name, one in LISTED.items() if name != "torch")
    lanes.uv("pip", "install", "--quiet", "--python", str(python), "-r", "-", text=torch + pins)
    command = "import sysconfig; print(sysconfig.get_path('purelib'))"
    ran = subprocess.run([python, "-c", command], check=True, capture_output=True, text=True)
    shutil.copytree(HERE / "site", Path(ran.stdout.strip()), dirs_exist_ok=True)
    kernel = folder / "jupyter/kernels/colab"
    kernel.mkdir(parents=True, exist_ok=True)
    start = [str(python), "-m", "colab_kernel_launcher", "-f", "{connection_file}"]
    start = {"argv": start, "display_name": "Colab", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(start))
    (folder / "brought.json").write_text(json.dumps(lanes.installed(python)))


def tidy(python: Path) -> None:
    """Take away what a set-up added, so that the next one begins like the first."""
    brought = json.loads((BUILD / "colab/brought.json").read_text())
    added = sorted(set(lanes.installed(python)) - set(brought))
    if added:
        lanes.uv("pip", "uninstall", "--quiet", "--python", str(python), *added)
    assert lanes.installed(python) == brought


def snapshot(factory) -> str:
    """Commit the files of this checkout, as they are now, to a repository; return its URL."""
    folder = factory.mktemp("repository")
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]
    listed = [*git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file() and not (ROOT / name).is_symlink():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "-m", "now"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    return f"file://{folder}"


def run_alone(notebook: nbformat.NotebookNode, folder: Path, colab: Colab, monkeypatch) -> None:
    """Execute ``notebook`` in ``folder`` with the kernel of ``colab``."""
    monkeypatch.setenv("JUPYTER_PATH", str(colab.jupyter))
    client = NotebookClient(
        notebook,
        kernel_name="colab",
        timeout=execute.TIMEOUT,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=colab.environment())


def said(cell: nbformat.NotebookNode) -> str:
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


PROBE = """
import importlib.metadata as metadata
import importlib.util
import json
import sys

versions = {one.name: one.version for one in metadata.distributions()}
found = importlib.util.find_spec("helpers")
print(json.dumps({
    "versions": versions,
    "modules": sorted(name for name in sys.modules if "." not in name),
    "of": {name: owners for name, owners in metadata.packages_distributions().items()},
    "helpers": found and found.origin,
    "torch": __import__("torch").__version__,
}))
"""

every_notebook = pytest.mark.parametrize("name", [path.stem for path in notebooks()])


@pytest.mark.colab
@every_notebook
def test_the_set_up_adds_what_is_missing_and_changes_nothing(name, colab, tmp_path, monkeypatch):
    path = tmp_path / "content" / f"{name}.ipynb"
    path.parent.mkdir()
    shutil.copy(ROOT / "notebooks" / path.name, path)
    notebook = nbformat.read(path, nbformat.NO_CONVERT)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert first.source == CELL
    probe, again = (new_code_cell(source) for source in (PROBE, CELL))
    notebook.cells = [probe, first, new_code_cell(PROBE), again]
    try:
        run_alone(notebook, path.parent, colab, monkeypatch)
        _, _, after, again = notebook.cells
        was, now = json.loads(said(probe)), json.loads(said(after))
        # Nothing of ours was there before; ours is what was installed, not this checkout.
        assert was["helpers"] is None
        assert Path(now["helpers"]).is_relative_to(colab.python.parent.parent)
        # Every version that was there is there still, and it is the same torch.
        assert was["versions"].items() <= now["versions"].items()
        assert was["torch"] == now["torch"]
        # It says what it added: the handbook, and what it needs and did not find.
        added = set(now["versions"]) - set(was["versions"])
        listing = said(first).splitlines()
        assert listing[0] == f"Installing the handbook from {colab.repository}"
        pairs = sorted(f"{one}=={now['versions'][one]}" for one in added - {"huggingface-handbook"})
        assert listing[1] == f"Added to what Colab has: {', '.join(['the handbook', *pairs])}"
        wanted = {canonicalize_name(one.name) for one in lock.direct(())}
        assert wanted - set(LISTED) <= {canonicalize_name(one) for one in added}
        # Nothing that was imported has been replaced: no restart.
        assert not [one for one in was["modules"] if set(now["of"].get(one, [])) & added]
        # A second time: no error, nothing added.
        assert said(again).splitlines()[1] == "Added to what Colab has: the handbook"
        assert [file.name for file in path.parent.iterdir()] == [path.name]
        # Under a minute beyond downloads; these few are counted too.
        assert execute.seconds_of(nbformat.v4.new_notebook(cells=[first])) < 60
        lanes.uv("pip", "check", "--python", str(colab.python))  # raises if anything is missing
    finally:
        tidy(colab.python)


def quickest() -> str:
    """The notebook that ran the shortest here; where none has run, the first."""
    records = {path.stem: baselines.load(CHECKS, path.stem) for path in notebooks()}
    times = {name: one.get("execution_seconds") for name, one in records.items()}
    known = {name: seconds for name, seconds in times.items() if seconds is not None}
    return min(known, key=known.__getitem__) if known else notebooks()[0].stem


WHOLE = [path.stem for path in notebooks()] if os.environ.get("COLAB") == "all" else [quickest()]


@pytest.mark.colab
@pytest.mark.parametrize("name", WHOLE)
def test_the_whole_notebook_runs_alone(name, colab, tmp_path, monkeypatch):
    path = tmp_path / "content" / f"{name}.ipynb"
    path.parent.mkdir()
    shutil.copy(ROOT / "notebooks" / path.name, path)
    notebook = nbformat.read(path, nbformat.NO_CONVERT)
    try:
        run_alone(notebook, path.parent, colab, monkeypatch)
    finally:
        tidy(colab.python)
    assert execute.problem_of(notebook) is None
    records = baselines.load(path.parent / "_build/checks", name)
    assert records["profile"] == "small"
    assert records["versions"]["transformers"] == str(LISTED["transformers"].specifier)[2:]
    known = {check["name"] for check in baselines.load(baselines.BASELINES, name)["checks"]}
    assert {check["name"] for check in records["checks"]} == known


@pytest.mark.colab
def test_a_runtime_whose_libraries_are_too_old_is_refused_by_name(colab, tmp_path):
    python = lanes.new_environment(tmp_path / ".venv")
    old = tmp_path / "old/transformers-4.57.6.dist-info"
    old.mkdir(parents=True)
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: transformers\nVersion: 4.57.6\n")
    (old / "INSTALLER").write_text("pip\n")
    (old / "RECORD").write_text("")
    stub = "import sys, types\nsys.modules['google.colab'] = types.ModuleType('google.colab')\n"
    environment = colab.environment() | {"PYTHONPATH": str(old.parent)}
    command = [python, "-c", stub + CELL]
    ran = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 1
    assert "transformers==4.57.6" in ran.stderr
    assert ran.stderr.rstrip().endswith("Runtime version: Latest.")
