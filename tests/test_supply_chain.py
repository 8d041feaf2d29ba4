"""What comes from outside: pinned, hashed, unable to run code, and asked for by nobody in secret.

Hashes in the locks are tested in test_repository.py.
"""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import check_jsonschema
import nbformat
import pytest
import yaml
from click.testing import CliRunner
from IPython.core.inputtransformer2 import TransformerManager
from packaging.utils import canonicalize_name

from tools import lock
from tools.cache import ROOT, notebooks

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
PROGRAMS = Path(sys.executable).parent


def code_of(*folders: str) -> dict[str, str]:
    """The Python of these folders, file by file, and of all notebooks, cell by cell."""
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    found = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    for path in notebooks():
        for number, cell in enumerate(nbformat.read(path, nbformat.NO_CONVERT).cells, start=1):
            if cell.cell_type == "code":
                source = TransformerManager().transform_cell(cell.source)
                found[f"{path.name} cell {number}"] = source
    return found


# --- workflows ----------------------------------------------------------------------


def test_the_linters_find_nothing_to_say_about_the_workflows():
    command = [PROGRAMS / "zizmor", "--offline", "--no-progress", "--persona=regular", GITHUB]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout
    for schema, paths in (
        ("github-workflows", WORKFLOWS),
        ("dependabot", [GITHUB / "dependabot.yml"]),
    ):
        words = ["--builtin-schema", f"vendor.{schema}", *map(str, paths)]
        checked = CliRunner().invoke(check_jsonschema.main, words)
        assert checked.exit_code == 0, checked.output


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_cannot_hang_and_installs_nothing_without_its_hash(path):
    """Rights, and actions by commit, are zizmor's part."""
    text = path.read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    assert [name for name, job in jobs.items() if not job.get("timeout-minutes")] == []
    assert not re.search(r"pip install(?!.*--require-hashes)", text)


# --- files ----------------------------------------------------------------------------

ELSEWHERE = re.compile(
    r"https?://[^\s/\"']*(pypi|pythonhosted|npmjs|download\.pytorch)|(index-url|find-links)[ =]"
    r"|(?<![\w.])/(home/[a-z]|Users/|root/|mnt/)"
)


def test_no_file_names_a_package_index_or_a_place_on_somebody_s_machine():
    for text in ("pip install --index-url=x", "open('/home/me/x')", "https://" + "pypi.org/x"):
        assert ELSEWHERE.search(text), text
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    found = []
    for name in names.splitlines():
        path = ROOT / name
        if path.is_file() and not path.is_symlink() and path != Path(__file__):
            text = path.read_bytes().decode("utf-8", errors="ignore")
            found += [f"{name}: {match[0]}" for match in ELSEWHERE.finditer(text)]
    assert found == []


# --- code -----------------------------------------------------------------------------

# Where work is done is Accelerate's to decide. Not here: .cpu(), which brings a result home.
NAMES_A_DEVICE = (
    r"""["'](cuda|cpu|mps|xpu|npu|hpu|xla)(:[^"']*)?["']"""
    r"|\.(cuda|xpu|npu|hpu|set_default_device)\(|torch\.cuda\.|\bdevice\((?!.meta)|\bdevice=\d"
    r"|\b(device_map|device_type|device_ids|no_cuda|use_mps_device|use_cuda)="
)
# Formats that can hold a program. safetensors, JSON and yaml.safe_load cannot.
CAN_RUN_CODE = (
    r"^\s*(import|from)\b.*\b(c?pickle|dill|joblib|cloudpickle|shelve|marshal)\b"
    r"|torch\.(hub\.)?load\(|\.read_pickle\(|yaml\.(load|unsafe_load|full_load)\("
    r"|\b(trust_remote_code|allow_pickle)=(?!False)"
)
OFFENCE = re.compile(rf"(?mi){NAMES_A_DEVICE}|{CAN_RUN_CODE}")


def test_no_device_is_named_and_nothing_that_can_run_code_is_loaded():
    for example in (
        "model.to('cuda')", 'torch.zeros(2, device="cpu")', "device = f'cuda:{rank}'",
        "model.cuda()", "torch.device(number)", "pipeline('text-classification', device=0)",
        "load('x', device_map=places)", "import numpy, dill", "from pickle import load",
        "torch.load('weights.pt')", "pd.read_pickle('x.pkl')", "yaml.load(text)",
        "load('x', trust_remote_code=True)", "np.load('x.npy', allow_pickle=True)",
    ):  # fmt: skip
        assert OFFENCE.search(f"first = 1\n{example}"), example
    sources = code_of("helpers", "tools")
    found = {where: match[0] for where, text in sources.items() if (match := OFFENCE.search(text))}
    assert found == {}


def imported(source: str) -> set[str]:
    """The top-level modules that a piece of Python imports."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").split(".")[0])
    return found - set(sys.stdlib_module_names) - {"helpers"}


def test_whatever_helpers_and_chapters_import_is_a_direct_dependency_with_a_lower_bound():
    owners = importlib.metadata.packages_distributions()
    direct = {canonicalize_name(wanted.name) for wanted in lock.direct(())}
    for module in set().union(*map(imported, code_of("helpers").values())):
        names = {canonicalize_name(name) for name in owners[module]}
        assert names & direct, f"{module} comes with {names}, which pyproject.toml does not name"
    for wanted in lock.direct(("book", "lab", "test", "author")):
        assert {each.operator for each in wanted.specifier} & {">=", "=="}, wanted


# --- no network ---------------------------------------------------------------------

REACH = """
import socket
try:
    socket.create_connection(("192.0.2.1", 80), timeout=5)
except OSError as problem:
    print("outside:", type(problem).__name__, problem.errno)
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname()).close()
    print("loopback answers")
from helpers import assets
print(assets.model("encoder"), assets.dataset("imdb"))
"""


def offline(*command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    command = (str(ROOT / ".ci/offline"), *command)
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)


def test_the_assets_are_all_there_without_a_network():
    found = offline(sys.executable, "-c", REACH)
    if found.returncode == 69:
        pytest.skip(found.stderr.strip())
    assert found.returncode == 0, found.stderr
    assert re.search(r"outside: OSError (101|113)", found.stdout), found.stdout
    assert "loopback answers" in found.stdout
    assert offline("false").returncode == 1, "the status of the command is lost"
