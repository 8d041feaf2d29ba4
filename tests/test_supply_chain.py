"""What comes from outside: pinned, hashed, unable to run code, and asked for by nobody in secret.

Hashes in the locks are tested in test_repository.py.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from IPython.core.inputtransformer2 import TransformerManager

from tools.cache import ROOT, notebooks

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
CI = (GITHUB / "workflows/ci.yml").read_text(encoding="utf-8")
PROGRAMS = Path(sys.executable).parent


def run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROGRAMS / program, *arguments], capture_output=True, text=True)


# --- workflows ----------------------------------------------------------------------


def test_the_linters_find_nothing_to_say_about_the_workflows():
    found = run("zizmor", "--offline", "--no-progress", "--persona=regular", GITHUB)
    assert found.returncode == 0, found.stdout
    for schema, paths in (
        ("github-workflows", WORKFLOWS),
        ("dependabot", [GITHUB / "dependabot.yml"]),
    ):
        found = run("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *paths)
        assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_has_few_rights_and_cannot_hang_and_names_versions(path):
    text = path.read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert job.get("timeout-minutes"), f"{name} may hang for hours"
        assert "permissions" not in job or (path.stem, name) == ("pages", "deploy")
    for line in re.findall(r"uses: .+", text):
        assert re.fullmatch(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)*", line), line
    if "pull_request" in text:
        assert "secrets." not in text
    assert not re.search(r"pip install(?!.*--require-hashes)", text)


def test_one_action_has_one_version_and_the_bot_watches_whatever_is_locked():
    text = "".join(path.read_text(encoding="utf-8") for path in WORKFLOWS)
    pins = set(re.findall(r"uses: (\S+)@(.+)", text))
    assert len(pins) == len({action for action, _ in pins}), sorted(pins)
    updates = yaml.safe_load((GITHUB / "dependabot.yml").read_text(encoding="utf-8"))["updates"]
    assert {each["package-ecosystem"] for each in updates} == {"pip", "github-actions", "npm"}


def test_continuous_integration_runs_the_command_of_the_readme():
    text = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert re.search(r"(?m)^  step tests \.ci/offline make test$", text)
    assert re.search(r"(?m)^step Colab make colab$", text)
    matrix = yaml.safe_load(CI)["jobs"]["test"]["strategy"]["matrix"]["include"]
    commands = {each["python"]: each["command"] for each in matrix}
    assert commands["3.11"] == commands["3.13"] == ".ci/run"
    assert commands["3.12"].endswith("unit")


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

DEVICE = re.compile(r"(cuda|cpu|mps|xpu|npu|hpu|mlu|musa|xla|privateuseone|vulkan)(:\d*)?")
# Calls and arguments that decide where work is done; that is Accelerate's to decide. Not among
# them is .cpu(), which brings a result home from wherever it was.
PLACES = re.compile(r".*\.(cuda|xpu|npu|hpu|set_default_device)|(torch\.)?device|torch\.cuda\..+")
DECIDES = {"device_map", "device_type", "device_ids", "no_cuda", "use_mps_device", "use_cuda"}
# Each reads a format that can hold a program. safetensors, JSON and yaml.safe_load cannot.
RUNS_CODE = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"}
LOADS_CODE = re.compile(
    r"torch\.(hub\.)?load|(pd|pandas)\.read_pickle|yaml\.(load|unsafe_load|full_load)"
    r"|marshal\.loads|shelve\.open|jsonpickle\.decode"
)


def offences(source: str) -> list[str]:
    """What a piece of Python must not do: name a device, or load what can run code."""
    found = []
    for node in ast.walk(ast.parse(TransformerManager().transform_cell(source))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if DEVICE.fullmatch(node.value):
                found.append(f"line {node.lineno} names the device {node.value!r}")
        elif isinstance(node, ast.Import | ast.ImportFrom):
            modules = {getattr(node, "module", None), *(alias.name for alias in node.names)}
            if modules & RUNS_CODE:
                found.append(f"line {node.lineno} imports pickle or its like")
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if PLACES.fullmatch(called) or LOADS_CODE.fullmatch(called):
                found.append(f"line {node.lineno} calls {called}()")
            for keyword in node.keywords:
                number = isinstance(getattr(keyword.value, "value", None), int)
                risky = keyword.arg in ("trust_remote_code", "allow_pickle")
                if (
                    keyword.arg in DECIDES
                    or (keyword.arg == "device" and number)
                    or (risky and ast.unparse(keyword.value) != "False")
                ):
                    found.append(f"line {node.lineno} sets {keyword.arg}")
    return found


def test_no_device_is_named_and_nothing_that_can_run_code_is_loaded():
    sources = {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for folder in ("helpers", "tools")
        for path in (ROOT / folder).rglob("*.py")
    }
    for path in notebooks():
        cells = enumerate(nbformat.read(path, nbformat.NO_CONVERT).cells, start=1)
        sources |= {f"{path.name} {n}": c.source for n, c in cells if c.cell_type == "code"}
    found = [f"{where}: {what}" for where, text in sources.items() for what in offences(text)]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "model.to('cuda')", 'torch.zeros(2, device="cpu")', "device = 'xpu:0' if there else None",
        "device = f'cuda:{rank}'", "model.cuda()", "model.xpu()", "torch.cuda.empty_cache()",
        "device = torch.device(number)", "from torch import device\ndevice(kind)",
        "pipeline('text-classification', device=0)", "load('x', device_map=places)",
        "TrainingArguments('x', no_cuda=True)", "torch.autocast(device_type=kind)",
        "torch.set_default_device(kind)", "import pickle", "from pickle import load",
        "import numpy, dill", "torch.load('weights.pt')", "pd.read_pickle('x.pkl')",
        "yaml.load(text)", "from marshal import loads", "load('x', trust_remote_code=True)",
        "np.load('x.npy', allow_pickle=True)",
    ],
)  # fmt: skip
def test_offences_are_found(source):
    assert len(offences(f"%pip list\n{source}")) == 1


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
