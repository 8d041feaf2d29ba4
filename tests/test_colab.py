"""A notebook alone in Colab: its set-up cell, and then the whole of it.

The quick tests run the cell with pip replaced. Those marked ``colab`` build an environment with
what Colab ships of our dependencies (``colab/packages.txt``), a kernel like Colab's, and a git
repository of this checkout, copy a notebook by itself into an empty directory, and run it there:
``make colab`` the one that ran the shortest here, ``make colab-all`` every one. All notebooks have
the same set-up cell (see test_repository.py). torch is the version of the lock as pip finds it;
with ``TORCH=cpu`` it is the version that Colab has.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import MagicMock

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools import lock, repository
from tools.cache import BUILD, ROOT, notebooks

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
INSTALL = f"    %pip install --quiet git+{PUBLIC}\n"


def test_our_bounds_admit_what_colab_ships():
    """What Colab does not ship, the set-up adds: the tests below see that it does."""
    assert re.search(r"^# Looked up on \d{4}-\d\d-\d\d\.", PACKAGES, re.MULTILINE)
    shipped = [one for one in lock.direct(()) if canonicalize_name(one.name) in LISTED]
    assert {"torch", "transformers", "datasets"} <= {one.name for one in shipped}
    for wanted in shipped:
        listed = LISTED[canonicalize_name(wanted.name)]
        (pin,) = listed.specifier
        assert pin.operator == "=="
        assert wanted.specifier.contains(pin.version), f"Colab has {listed}, we want {wanted}"


def test_the_cell_installs_the_package_in_colab_alone_and_sees_that_it_did(monkeypatch):
    """With pip replaced."""
    source = TransformerManager().transform_cell(CELL)
    magics = []
    shell = MagicMock(run_line_magic=lambda name, line: magics.append(f"%{name} {line}"))
    shell.__str__.return_value = "<ipykernel.zmqshell.ZMQInteractiveShell object at 0x7f>"
    exec(source, {"get_ipython": lambda: shell})
    assert magics == []
    shell.__str__.return_value = "<google.colab._shell.Shell object at 0x7f>"
    exec(source, {"get_ipython": lambda: shell})
    assert magics == [INSTALL.strip()]
    monkeypatch.setitem(sys.modules, "helpers", None)  # as after a pip that installed nothing
    with pytest.raises(ModuleNotFoundError):
        exec(source, {"get_ipython": lambda: shell})
    assert len(CELL.splitlines()) <= 6
    assert max(map(len, CELL.splitlines())) <= 76


# --- an environment like Colab's ------------------------------------------------------


def uv(*arguments: str, text: str = "") -> str:
    command = [sys.executable, "-m", "uv", *arguments]
    return subprocess.run(command, input=text, check=True, capture_output=True, text=True).stdout


def installed(python: Path) -> dict[str, str]:
    """The version of every distribution in an environment, by name."""
    listed = json.loads(uv("pip", "list", "--format", "json", "--python", str(python)))
    return {canonicalize_name(each["name"]): each["version"] for each in listed}


@dataclass(frozen=True)
class Colab:
    """Where the environment and the kernel are, what it holds, and where the handbook lies."""

    python: Path
    jupyter: Path
    brought: dict[str, str]
    repository: str

    def environment(self) -> dict[str, str]:
        """The environment variables of its kernel: nothing of ours leaks in."""
        mine = re.compile(
            r"HOME|LANG|LC_\w+|TMPDIR|SSL_\w+|\w+_(?:proxy|PROXY)|PIP_\w+|XDG_\w+|HANDBOOK_ASSETS"
        )
        kept = {name: value for name, value in os.environ.items() if mine.fullmatch(name)}
        return kept | {
            "PATH": f"{self.python.parent}:/usr/local/bin:/usr/bin:/bin",
            "COLAB_RELEASE_TAG": "release-colab-external-images_20261008-060111_RC00",
            "COLAB_GPU": "",
            "HANDBOOK_PROFILE": "small",
            "HF_HUB_OFFLINE": "1",  # the packaged assets are complete
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"),
            # The cell runs as it is; git takes this checkout for the public repository.
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{self.repository}.insteadOf",
            "GIT_CONFIG_VALUE_0": PUBLIC,
        }

    def run(self, notebook: nbformat.NotebookNode, folder: Path) -> None:
        """Execute ``notebook`` in ``folder``; raise CellExecutionError if a cell fails."""
        client = NotebookClient(
            notebook,
            kernel_name="colab",
            timeout=1800,
            resources={"metadata": {"path": str(folder)}},
        )
        client.execute(env=self.environment())

    def tidy(self) -> None:
        """Take away what a set-up added, so that the next one begins like the first."""
        added = sorted(set(installed(self.python)) - set(self.brought))
        if added:
            uv("pip", "uninstall", "--quiet", "--python", str(self.python), *added)
        assert installed(self.python) == self.brought


@pytest.fixture(scope="session")
def environment() -> Path:
    """The folder of the environment; built when the list or torch's version is a new one."""
    folder = BUILD / "colab"
    files = [path for path in sorted(HERE.rglob("*")) if path.suffix in (".py", ".txt")]
    key = "".join(path.read_text(encoding="utf-8") for path in files)
    key += f"{lock.TORCH} {sys.version} {os.environ.get('TORCH')}"
    stamp = folder / "stamp"
    if not stamp.exists() or stamp.read_text() != key:
        stamp.unlink(missing_ok=True)
        build(folder)
        stamp.write_text(key)
    return folder


def build(folder: Path) -> None:
    """Make the environment: the listed packages, torch, and the stand-in for Colab's own."""
    python = folder / ".venv/bin/python"
    arguments = ["--quiet", "--clear", "--seed", "--python", sys.executable]
    uv("venv", *arguments, str(folder / ".venv"))
    # Only uv knows where a CPU build lies; only pip reads a configuration that may know it too.
    if os.environ.get("TORCH") == "cpu":
        pin = f"torch{LISTED['torch'].specifier}"
        uv("pip", "install", "--no-deps", "--torch-backend=cpu", "--python", str(python), pin)
    else:
        command = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
        subprocess.run([*command, "--no-deps", f"torch=={lock.TORCH}"], check=True)
    pins = [f"torch=={installed(python)['torch']}"]
    pins += [str(one) for name, one in LISTED.items() if name != "torch"]
    uv("pip", "install", "--quiet", "--python", str(python), "-r", "-", text="\n".join(pins))
    command = "import sysconfig; print(sysconfig.get_path('purelib'))"
    ran = subprocess.run([python, "-c", command], check=True, capture_output=True, text=True)
    shutil.copytree(HERE / "site", Path(ran.stdout.strip()), dirs_exist_ok=True)
    kernel = folder / "jupyter/kernels/colab"
    kernel.mkdir(parents=True, exist_ok=True)
    start = [str(python), "-m", "colab_kernel_launcher", "-f", "{connection_file}"]
    start = {"argv": start, "display_name": "Colab", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(start))
    (folder / "brought.json").write_text(json.dumps(installed(python)))


def snapshot(folder: Path) -> str:
    """Commit what the package is made of, as it is now, to a repository; return its URL."""
    shutil.copytree(ROOT / "helpers", folder / "helpers")
    for name in ("pyproject.toml", "README.md", "LICENSE", "LICENSE-TEXT"):
        shutil.copy(ROOT / name, folder)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "-m", "now"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    return f"file://{folder}"


@pytest.fixture
def colab(environment, tmp_path_factory, monkeypatch):
    python, jupyter = environment / ".venv/bin/python", environment / "jupyter"
    monkeypatch.setenv("JUPYTER_PATH", str(jupyter))
    brought = json.loads((environment / "brought.json").read_text())
    ready = Colab(python, jupyter, brought, snapshot(tmp_path_factory.mktemp("repository")))
    ready.tidy()
    yield ready
    ready.tidy()


PROBE = """
import importlib.metadata as metadata
import json
import sys

print(json.dumps({
    "versions": {one.name: one.version for one in metadata.distributions()},
    "modules": sorted(name for name in sys.modules if "." not in name),
    "owners": {name: owners for name, owners in metadata.packages_distributions().items()},
    "torch": __import__("torch").__version__,
}))
"""


def said(cell: nbformat.NotebookNode) -> str:
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def seconds(chapter: str) -> float:
    baseline = ROOT / f"tests/baselines/{chapter}.json"
    return json.loads(baseline.read_text(encoding="utf-8"))["seconds"] if baseline.exists() else 1e9


ALL = [path.stem for path in notebooks()]
CHOSEN = ALL if os.environ.get("COLAB") == "all" else [min(ALL, key=seconds)]


@pytest.mark.colab
@pytest.mark.parametrize("name", CHOSEN)
def test_a_notebook_runs_alone_and_changes_no_version(name, colab, tmp_path):
    assert "huggingface-handbook" not in colab.brought
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", nbformat.NO_CONVERT)
    set_up = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert set_up.source == CELL
    before, after, again = (new_code_cell(source) for source in (PROBE, PROBE, CELL))
    # At the end, since nothing must have been replaced by the chapter either.
    notebook.cells = [before, *notebook.cells, again, after]
    colab.run(notebook, tmp_path)
    was, now = json.loads(said(before)), json.loads(said(after))
    # Every version that was there is there still, and it is the same torch.
    assert was["versions"].items() <= now["versions"].items()
    assert was["torch"] == now["torch"]
    added = {canonicalize_name(one) for one in set(now["versions"]) - set(was["versions"])}
    assert "huggingface-handbook" in added
    # Nothing that was imported has been replaced: no restart.
    owners = {name: set(map(canonicalize_name, of)) for name, of in now["owners"].items()}
    assert [one for one in was["modules"] if owners.get(one, set()) & added] == []
    uv("pip", "check", "--python", str(colab.python))  # raises if anything is missing
    assert "The handbook is installed" in said(set_up)
    assert "The handbook is installed" in said(again)
    records = json.loads((tmp_path / f"_build/checks/{name}.json").read_text(encoding="utf-8"))
    assert records["versions"]["transformers"] == str(LISTED["transformers"].specifier)[2:]
    baseline = json.loads((ROOT / f"tests/baselines/{name}.json").read_text(encoding="utf-8"))
    names = [{check["name"] for check in found["checks"]} for found in (records, baseline)]
    assert names[0] == names[1]
