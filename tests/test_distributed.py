"""The fine-tuning command on several processes and hosts: killed, resumed, refused, dry-run.

Two hosts are two network namespaces of this machine, joined by a pair of virtual network cards.
``scaled_out.py`` gives the command few reviews, and lets a process or a host die.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import gates
import numpy as np
import pytest
import torch
import yaml
from accelerate.commands import launch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin, patch_environment
from accelerate.utils import launch as launching
from faulty import Server, contents, tiny_model
from filelock import FileLock
from scaled_out import SIZES, few_reviews
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from helpers import finetuning

ROOT = Path(__file__).resolve().parents[1]
READY = ROOT / "helpers/configurations"
SCALED_OUT = str(ROOT / "tests/scaled_out.py")
TINY = ["--max-length", "16", "--read-length", "16", "--batch-size", "8", "--evaluations", "3"]
TINY += ["--trainable", "head"]  # six steps, a checkpoint after every second one
DIES = {"FAULTY_STEP": "4"}
PATIENCE = 300  # seconds; what hangs is ended, and the test fails

# /run is this command's own, so that nothing is left of it. Each host runs as who called.
HOSTS = """
set -e
mount -t tmpfs none /run
for host in 0 1; do ip netns add host$host; done
ip link add card netns host0 type veth peer name card netns host1
for host in 0 1; do
  ip -n host$host address add 10.0.0.$((host + 1))/24 dev card
  ip -n host$host link set card up
  ip -n host$host link set lo up
done
set +e
for host in 0 1; do
  (
    nsenter --net=/run/netns/host$host setpriv --reuid=$3 --regid=$4 --keep-groups \
      timeout --kill-after=9 $1 sh -c "$5" sh $host > "$2/host$host" 2>&1
    echo "$? $(date +%s)" > "$2/ended$host"
  ) &
done
wait
"""


@dataclass
class Ended:
    """How the launcher of a host ended, when, and what it and its processes said."""

    status: int
    second: int
    said: str


def at_two_hosts(command: str, folder: Path, environment: dict[str, str]) -> list[Ended] | None:
    """Run a line of shell on both hosts, the number of the host in ``$1``.

    None if no way to make hosts is open: to be root, to be so in a user namespace, to have sudo.
    """
    alone = ["unshare", "--net", "--mount"]
    keep = [f"{name}={environment[name]}" for name in ("PATH", "HOME") if name in environment]
    ways = [alone, [*alone, "--user", "--map-root-user"]]
    ways += [["sudo", "--non-interactive", "--preserve-env", "env", *keep, *alone]]
    folder.mkdir()
    for way in ways:
        me = ("0", "0") if way[0] == "unshare" else (str(os.getuid()), str(os.getgid()))
        words = [*way, "sh", "-c", HOSTS, "sh", str(PATIENCE), str(folder), *me, command]
        if not shutil.which(way[0]):
            continue
        done = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True)
        if done.returncode == 0:
            ended = [(folder / f"ended{host}").read_text().split() for host in (0, 1)]
            said = [(folder / f"host{host}").read_text(errors="replace") for host in (0, 1)]
            return [Ended(*map(int, end), text) for end, text in zip(ended, said, strict=True)]
    return None


@pytest.fixture(scope="module")
def hosts(tmp_path_factory) -> None:
    """Two hosts that reach each other, or a skip."""
    folder = tmp_path_factory.mktemp("hosts") / "trial"
    trial = at_two_hosts("ip -brief address show card", folder, dict(os.environ))
    if trial is None:
        gates.missing("no network namespaces: they take iproute2, and root, a user's own, or sudo")
    addresses = [re.search(r"10\.0\.0\.\d", end.said)[0] for end in trial]
    assert addresses == ["10.0.0.1", "10.0.0.2"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny") / "model")


def environment(tiny: Path, card: str = "lo", **more: str) -> dict[str, str]:
    own = {"ACCELERATE_USE_CPU": "true", "HANDBOOK_PROFILE": "small", "OMP_NUM_THREADS": "1"}
    return os.environ | own | {"GLOO_SOCKET_IFNAME": card, "TINY": str(tiny)} | more


def train_on_two_hosts(
    tiny: Path, folder: Path, output: Path, *more: str, **faults: str
) -> list[Ended]:
    """By the ready file for several hosts; one process on each."""
    words = ["--config_file", str(READY / "several-hosts.yaml"), "--num_processes", "2"]
    words += ["--mixed_precision", "no", SCALED_OUT, *TINY, "--output", str(output), *more]
    command = f"{shlex.quote(sys.executable)} -m accelerate.commands.launch --machine_rank $1 "
    return at_two_hosts(command + shlex.join(words), folder, environment(tiny, "card", **faults))


@pytest.fixture(scope="module")
def two_processes(tiny):
    """A function that runs the command on two processes of this host, and has them ready."""
    server = Server(sys.executable, SCALED_OUT, "--serve")
    # Below 32768, where Linux begins to give ports away: nobody else gets it in the meantime. Each
    # process of these tests has a hundred of its own.
    ports = itertools.count(20_000 + 100 * (os.getpid() % 100))

    def run(*words: str, **more: str) -> list[subprocess.CompletedProcess[str]]:
        own = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(next(ports))}
        own |= environment(tiny, **more)
        return server.run_all([*words], [own | {"RANK": n, "LOCAL_RANK": n} for n in "01"])

    yield run
    server.close()


def result(output: Path) -> dict[str, object]:
    """What ``metrics.json`` says, without how long it took, and the weights of all that is kept."""
    metrics = json.loads((output / "metrics.json").read_text())
    metrics.pop("train_seconds")
    weights = {name: sum for name, sum in contents(output).items() if name.endswith("safetensors")}
    assert len(weights) == 3  # the model and two checkpoints
    return metrics | weights


def errors(said: str) -> list[str]:
    """The lines of our own; fails if a process has shown a traceback, as launchers do."""
    assert "helpers/finetuning" not in said, said
    return [line for line in said.splitlines() if line.startswith("error: ")]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, two_processes) -> Path:
    """The output folder of a training; ``logits.npy`` in it are the test reviews'."""
    folder = tmp_path_factory.mktemp("undisturbed")
    ended = two_processes(*TINY, "--output", str(folder / "out"), LOGITS=f"{folder}/logits.npy")
    assert [end.returncode for end in ended] == [0, 0], ended
    (folder / "logits.npy").rename(folder / "out/logits.npy")
    return folder / "out"


# --- several hosts ------------------------------------------------------------------


def test_one_host_dies_and_both_go_on_from_the_last_checkpoint(
    hosts, tiny, undisturbed, tmp_path
) -> None:
    """Host 0 dies, through which the other one found it and which writes the checkpoints."""
    out, faults = tmp_path / "out", DIES | {"FAULTY_RANK": "0", "FAULTY_HOST": "yes"}
    dead, left = train_on_two_hosts(tiny, tmp_path / "killed", out, **faults)
    assert (dead.status, left.status) == (137, 1), left.said
    assert left.second - dead.second < 60
    (message,) = errors(left.said)
    assert "Another process of this training is gone or silent" in message
    assert "--resume" in message
    assert [path.name for path in out.glob("checkpoint-*")] == ["checkpoint-2"]
    ended = train_on_two_hosts(tiny, tmp_path / "resumed", out, "--resume")
    assert [end.status for end in ended] == [0, 0], ended
    assert result(out) == result(undisturbed)


def test_torchrun_starts_again_what_died_and_it_goes_on_by_itself(
    tiny, undisturbed, tmp_path
) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["--max-restarts=1", SCALED_OUT, *TINY, "--output", str(tmp_path / "out")]
    # https://github.com/pytorch/pytorch/issues/135712
    faults = DIES | {"FAULTY_RANK": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    done = subprocess.run(
        command, env=environment(tiny, **faults), cwd=ROOT, timeout=PATIENCE,
        capture_output=True, text=True, errors="replace",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "failed (exitcode: -9)" in done.stderr
    assert result(tmp_path / "out") == result(undisturbed)


def test_uneven_batches_give_each_review_one_answer_in_its_place(undisturbed) -> None:
    """As many as one process gives, for the same weights: here, one review at a time."""
    metrics = json.loads((undisturbed / "metrics.json").read_text())
    state = json.loads((undisturbed / "checkpoint-6/trainer_state.json").read_text())
    best = undisturbed / Path(state["best_model_checkpoint"]).name
    reviews = few_reviews()
    for name, folder in (("validation", best), ("test", undisturbed)):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        rows = finetuning.tokenize(reviews[name], tokenizer, max_length=16, head_share=0.25)
        with torch.no_grad():
            answers = [model(torch.tensor([ids])).logits[0].numpy() for ids in rows["input_ids"]]
        accuracy = np.mean(np.argmax(answers, axis=-1) == rows["labels"])
        assert SIZES[name] % 2 == 1
        assert rows["length"] != sorted(rows["length"])  # so they are read in another order
        assert metrics[f"{name}_accuracy"] == pytest.approx(accuracy, abs=1e-12)
    np.testing.assert_allclose(np.load(undisturbed / "logits.npy"), answers, atol=1e-5)


# --- refused ------------------------------------------------------------------------


def test_what_one_process_refuses_ends_all_with_one_line(
    two_processes, undisturbed, tmp_path
) -> None:
    """And nobody waits; nothing is overwritten."""
    damaged = shutil.copytree(undisturbed, tmp_path / "damaged")
    (damaged / "checkpoint-6/optimizer.pt").write_bytes(b"")
    unreadable = shutil.copytree(undisturbed, tmp_path / "unreadable")
    (unreadable / "training.json").write_text("[")
    for folder in ("busy", "0", "1"):
        (tmp_path / folder).mkdir()
    cases = {
        f"--resume --output {tmp_path}/none": f"there is no folder {tmp_path}/none",
        f"--resume --output {damaged}": f"{damaged}/checkpoint-6/optimizer.pt is damaged",
        f"--resume --output {unreadable}": "training.json is missing or unreadable",
        f"--output {undisturbed}": "holds checkpoints of an earlier training",
        f"--output {tmp_path}/busy": "another training is at work",
        "--output own": "own is not the same folder on every host",  # in "0" and in "1"
        f"--output {tmp_path}/small": "training with batches of 8 reviews",  # only one lacks memory
        f"--output {tmp_path}/slow": "is gone or silent",  # for --timeout seconds
    }
    before = contents(undisturbed), contents(damaged), contents(unreadable)
    each = json.dumps([[*case.split(), *TINY, "--timeout", "25"] for case in cases])
    faults = {"FAULTY_RANK": "1", "FAULTY_PLACE": str(tmp_path)}
    with FileLock(tmp_path / "busy/.training.lock"):
        first, other = two_processes(EACH=each, **faults)
    told = errors(first.stderr)
    assert len(told) == len(cases), first.stderr
    for line, said in zip(told, cases.values(), strict=True):
        assert said in line
    assert errors(other.stderr) == []
    assert first.stdout.split() == ["1"] * len(cases)
    assert other.stdout.split() == ["1"] * (len(cases) - 1)  # in the last run it is silent
    assert (first.returncode, other.returncode) == (1, -signal.SIGKILL)
    assert (contents(undisturbed), contents(damaged), contents(unreadable)) == before
    assert {path.name for path in (tmp_path / "small").iterdir()} == {".training.lock"}


@pytest.mark.parametrize(
    ("variables", "words", "said"),
    [
        ({}, "--resume --seed 1", "another training: seed was 0, now 1; processes was 2, now 1."),
        ({}, "--timeout 0", "--timeout must be at least 1, got 0"),
        ({"ACCELERATE_USE_FSDP": "true"}, "", "FSDP and DeepSpeed divide"),
    ],
)
def test_what_another_launch_would_be_refused(
    undisturbed, capsys, monkeypatch, variables, words, said
) -> None:
    for name, value in ({"HANDBOOK_PROFILE": "small"} | variables).items():
        monkeypatch.setenv(name, value)
    before = contents(undisturbed)
    assert finetuning.main([*TINY, "--output", str(undisturbed), *words.split()]) == 1
    assert said in capsys.readouterr().err
    assert contents(undisturbed) == before


# --- ready files --------------------------------------------------------------------


@pytest.fixture
def dry_run(monkeypatch):
    """A function from words after ``accelerate launch`` to the options and environment it makes."""
    made = []
    for name, prepare in (
        ("simple_launcher", lambda options: launching.prepare_simple_launcher_cmd_env(options)[1]),
        ("multi_gpu_launcher", launching.prepare_multi_gpu_env),
        ("deepspeed_launcher", lambda options: launching.prepare_deepspeed_cmd_env(options)[1]),
    ):
        note = lambda options, prepare=prepare: made.append((vars(options), prepare(options)))  # noqa: E731
        monkeypatch.setattr(launch, name, note)
    monkeypatch.setattr(launching, "is_port_in_use", lambda _: False)

    def start(*words: str) -> tuple[dict[str, object], dict[str, str]]:
        launch.launch_command(launch.launch_command_parser().parse_args([*words]))
        return made.pop()

    return start


# What each ready file starts: options of the launcher, variables of the environment.
STARTS = {
    "one-gpu": ({"num_processes": 1}, {"CUDA_VISIBLE_DEVICES": "0"}),
    "several-gpus": ({"nproc_per_node": "8", "multi_gpu": True}, {}),
    "several-hosts": (
        {"nproc_per_node": "8", "nnodes": "2", "node_rank": 1, "multi_gpu": True}
        | {"rdzv_endpoint": "10.0.0.1:29500", "rdzv_backend": "static"},
        {},
    ),
    "fsdp": ({"nproc_per_node": "8", "use_fsdp": True}, {"FSDP_VERSION": "2"}),
    "deepspeed": (
        {"nproc_per_node": "8", "use_deepspeed": True},
        {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "2", "ACCELERATE_GRADIENT_CLIPPING": "1.0"},
    ),
}


@pytest.mark.parametrize("name", sorted(path.stem for path in READY.glob("*.yaml")))
def test_a_ready_file_starts_what_it_says(dry_run, name) -> None:
    options, variables = STARTS[name]
    path = READY / f"{name}.yaml"
    words = ["--machine_rank", "1"] if "hosts" in name else []
    made = dry_run("--config_file", str(path), *words, "-m", "helpers.finetuning", "--max-steps=1")
    assert made[0] | options == made[0]
    assert made[0]["training_script_args"] == ["--max-steps=1"]
    assert made[1] | variables | {"ACCELERATE_MIXED_PRECISION": "bf16"} == made[1]
    assert isinstance(load_config_from_file(str(path)).distributed_type, DistributedType)
    # Accelerate refuses an unknown key, but not within another one, nor one that it ignores.
    known = vars(launch.launch_command_parser().parse_args(["script"]))
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    within = [content.pop(key) for key in list(content) if isinstance(content[key], dict)]
    for key in ("compute_environment", "distributed_type", "mixed_precision"):
        content.pop(key)  # what they decide is compared above
    for key, value in [pair for part in (content, *within) for pair in part.items()]:
        assert (key in known, made[0][key]) == (True, value)
    if name == "fsdp":
        with patch_environment(**made[1]):
            plugin = FullyShardedDataParallelPlugin()
        wanted = (2, True, "FULL_STATE_DICT", ["BertLayer"])
        assert wanted == (
            plugin.fsdp_version, plugin.reshard_after_forward, plugin.state_dict_type.name,
            plugin.transformer_cls_names_to_wrap,
        )  # fmt: skip


# Of the options that sbatch documents, those that a script of ours may need.
SBATCH = {"job-name", "nodes", "ntasks-per-node", "gpus-per-node", "cpus-per-task", "time"}
SLURM = {
    "scontrol": '[ "$*" = "show hostnames alpha,beta" ] && printf "alpha\\nbeta\\n"',
    "srun": '[ "$1" = --kill-on-bad-exit=1 ] || exit 64; shift; '
    'for node in 0 1; do SLURM_NODEID=$node "$@"; done',
    "accelerate": 'printf "%s\\0" "$@"; echo',
}


@pytest.mark.parametrize("restarts", ["", "1"])
def test_the_slurm_script_starts_a_launcher_on_each_host(dry_run, tmp_path, restarts) -> None:
    script = READY / "slurm.sh"
    for name, body in SLURM.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    job = {"NNODES": "2", "GPUS_ON_NODE": "4", "JOB_ID": "71234", "JOB_NODELIST": "alpha,beta"}
    job |= {"RESTART_COUNT": restarts} if restarts else {}
    slurm = {f"SLURM_{name}": value for name, value in job.items()}
    place = os.environ | slurm | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    words = ["bash", str(script), "--output", "/shared/two words"]
    done = subprocess.run(words, env=place, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    for node, line in enumerate(done.stdout.splitlines()):
        command, *arguments = line.rstrip("\0").split("\0")
        options, variables = dry_run(*arguments)
        wanted = {"node_rank": node, "nnodes": "2", "nproc_per_node": "4", "multi_gpu": True}
        wanted |= {"rdzv_endpoint": "alpha:29734", "training_script": "helpers.finetuning"}
        wanted |= {"module": True}
        assert (command, options | wanted) == ("launch", options)
        assert variables["ACCELERATE_MIXED_PRECISION"] == "bf16"
        again = ["--resume"] if restarts else []
        assert options["training_script_args"] == ["--output", "/shared/two words", *again]
    assert node == 1
    options = re.findall(r"^#SBATCH --([\w-]+)", script.read_text(), re.MULTILINE)
    assert set(options) == SBATCH | {"requeue"}
