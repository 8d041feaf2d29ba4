"""A training that can be killed at any moment: one file, written beside its place and renamed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn


def save_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    losses: list[Any],
    about: dict[str, Any],
) -> None:
    """Write weights, the optimizer's state and the losses so far as safetensors, in one step.

    A parameter that is used twice is written once. ``losses`` are numbers that JSON can hold, and
    ``about`` is what a run must have in common with this one to go on from here.

    Raises:
        OSError: the file cannot be written; the one before it is untouched.
    """
    tensors = {
        f"model.{n}": p.detach() for n, p in model.named_parameters()
    }
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{key}": state[key] for key in state}
    text = json.dumps({"losses": losses, "about": about})
    beside = path.with_name(f".{path.name}")
    tensors = {
        name: tensor.contiguous() for name, tensor in tensors.items()
    }
    save_file(tensors, beside, metadata={"training": text})
    beside.replace(path)


def load_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    about: dict[str, Any],
) -> list[Any]:
    """Fill model and optimizer from a checkpoint and return its losses; ``[]`` if there is none.

    Raises:
        ValueError: the checkpoint belongs to a run with other settings; the message names them.
        RuntimeError: it belongs to a model with other parameters.
    """
    if not path.is_file():
        return []
    with safe_open(path, framework="pt") as file:
        saved = json.loads(file.metadata()["training"])
    now = json.loads(json.dumps(about))
    names = sorted(now.keys() | saved["about"].keys())
    differ = [
        f"{name} was {saved['about'].get(name)!r}, now {now.get(name)!r}"
        for name in names
        if saved["about"].get(name) != now.get(name)
    ]
    if differ:
        raise ValueError(
            f"{path} belongs to another training: {'; '.join(differ)}. "
            "Repeat its settings, or name another file."
        )
    weights, running = {}, {}
    for name, tensor in load_file(path).items():
        kind, rest = name.split(".", 1)
        if kind == "model":
            weights[rest] = tensor
        else:
            i, key = rest.split(".")
            running.setdefault(int(i), {})[key] = tensor
    model.load_state_dict(weights)
    optimizer.load_state_dict(optimizer.state_dict() | {"state": running})
    return saved["losses"]
