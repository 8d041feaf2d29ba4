"""How the profile is chosen, and what a rehearsal changes."""

from __future__ import annotations

import io
import urllib.error
import urllib.request

import pytest
import torch
from huggingface_hub import constants

from helpers import finetuning, profiles
from helpers.finetuning import classifier


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    for name in (profiles.VARIABLE, profiles.REHEARSAL, "ACCELERATE_USE_CPU"):
        monkeypatch.delenv(name, raising=False)
    profiles._detected.cache_clear()
    yield
    profiles._detected.cache_clear()


def machine(monkeypatch, *, gpu: bool, hub: bool) -> list[str]:
    """Make this such a machine; return a list that grows when the Hub is asked."""
    asked: list[str] = []
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: gpu)
    monkeypatch.setattr(profiles, "_hub_is_reachable", lambda: asked.append("hub") or hub)
    return asked


@pytest.mark.parametrize(
    ("name", "gpu", "hub", "use_cpu", "expected"),
    [
        ("small", True, True, None, "small"),
        (" full ", False, False, None, "full"),
        ("   ", True, True, None, "full"),  # empty is as good as unset
        ("", True, False, None, "small"),
        ("", False, True, None, "small"),
        ("", True, True, "true", "small"),  # as told to Accelerate
        ("", True, True, "0", "full"),
    ],
)
def test_the_variable_decides_and_else_a_gpu_to_use_and_the_hub_which_is_asked_once(
    monkeypatch, name, gpu, hub, use_cpu, expected
):
    asked = machine(monkeypatch, gpu=gpu, hub=hub)
    monkeypatch.setenv(profiles.VARIABLE, name)
    if use_cpu is not None:
        monkeypatch.setenv("ACCELERATE_USE_CPU", use_cpu)
    assert [profiles.current() for _ in range(3)] == [expected] * 3
    assert profiles.pick(small="small", full="full") == expected
    assert len(asked) <= (not name.strip())


@pytest.mark.parametrize(
    ("use_cpu", "limit", "steps", "max_steps"),
    [(True, "3", 3, 3), (False, "2000", 1_000, 2_000), (False, "", 1_000, -1)],
)
def test_a_rehearsal_limits_the_steps_and_the_trainer_is_told(
    monkeypatch, use_cpu, limit, steps, max_steps
):
    machine(monkeypatch, gpu=True, hub=True)
    monkeypatch.setenv(profiles.VARIABLE, "full")
    monkeypatch.setenv(profiles.REHEARSAL, limit)
    monkeypatch.setenv("ACCELERATE_USE_CPU", str(use_cpu))
    monkeypatch.setattr(classifier, "TrainingArguments", dict)
    assert profiles.steps(1_000) == steps
    told = finetuning.training_arguments(finetuning.Recipe(), "runs", bf16=False)
    assert (told["use_cpu"], told["dataloader_pin_memory"]) == (use_cpu, not use_cpu)
    assert told["max_steps"] == max_steps


@pytest.mark.parametrize(
    ("answer", "offline", "reachable"),
    [
        (None, False, True),
        (urllib.error.HTTPError("https://hub", 503, "busy", {}, io.BytesIO()), False, True),
        (urllib.error.URLError("no route"), False, False),
        (TimeoutError("too slow"), False, False),
        (None, True, False),
    ],
)
def test_the_hub_is_reachable_if_it_answers_at_all(monkeypatch, answer, offline, reachable):
    asked = []

    def urlopen(request, timeout):
        asked.append((request.full_url, timeout <= 5))
        if answer is not None:
            raise answer
        return io.BytesIO()

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    assert profiles._hub_is_reachable() is reachable
    assert asked == ([] if offline else [(constants.ENDPOINT, True)])


@pytest.mark.parametrize(
    ("profile", "limit", "said"),
    [
        ("Full", "", "HANDBOOK_PROFILE is 'Full'.*'small' or 'full'"),
        ("full", "0", "HANDBOOK_REHEARSAL is '0'.* 1 or more"),
        ("full", "2.5", "HANDBOOK_REHEARSAL is '2.5'.* 1 or more"),
        ("small", "2", "only 'full' is rehearsed.*HANDBOOK_PROFILE=full"),
    ],
)
def test_a_variable_that_says_something_else_is_refused(monkeypatch, profile, limit, said):
    monkeypatch.setenv(profiles.VARIABLE, profile)
    monkeypatch.setenv(profiles.REHEARSAL, limit)
    with pytest.raises(ValueError, match=said):
        profiles.pick(small=1, full=profiles.rehearsal())
