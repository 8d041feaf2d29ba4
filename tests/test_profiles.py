"""How the profile is chosen."""

from __future__ import annotations

import io
import urllib.error
import urllib.request

import pytest

from helpers import profiles


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    for name in (profiles.VARIABLE, profiles.REHEARSAL, "ACCELERATE_USE_CPU"):
        monkeypatch.delenv(name, raising=False)
    profiles._detected.cache_clear()
    yield
    profiles._detected.cache_clear()


def machine(monkeypatch, *, gpu: bool, hub: bool) -> None:
    import torch

    monkeypatch.setattr(torch.accelerator, "is_available", lambda: gpu)
    monkeypatch.setattr(profiles, "_hub_is_reachable", lambda: hub)


@pytest.mark.parametrize("name", ["small", "full", " full "])
def test_the_variable_decides_on_any_machine(monkeypatch, name):
    machine(monkeypatch, gpu=name == "small", hub=name == "small")
    monkeypatch.setenv(profiles.VARIABLE, name)
    assert profiles.current() == name.strip()


@pytest.mark.parametrize("name", ["Full", "big", "small,full"])
def test_an_unknown_name_is_refused_with_the_names_there_are(monkeypatch, name):
    monkeypatch.setenv(profiles.VARIABLE, name)
    with pytest.raises(ValueError, match=r"HANDBOOK_PROFILE.*'small' or 'full'") as raised:
        profiles.current()
    assert repr(name) in str(raised.value)
    with pytest.raises(ValueError, match="HANDBOOK_PROFILE"):
        profiles.pick(small=1, full=2)


@pytest.mark.parametrize(
    ("gpu", "hub", "expected"),
    [(True, True, "full"), (True, False, "small"), (False, True, "small"), (False, False, "small")],
)
def test_full_is_chosen_by_itself_only_with_a_gpu_and_the_hub(monkeypatch, gpu, hub, expected):
    machine(monkeypatch, gpu=gpu, hub=hub)
    assert profiles.current() == expected
    monkeypatch.setenv(profiles.VARIABLE, "   ")  # empty is as good as unset
    assert profiles.current() == expected


@pytest.mark.parametrize(("told", "expected"), [("true", "small"), ("1", "small"), ("0", "full")])
def test_told_to_use_the_cpu_full_is_not_chosen_by_itself(monkeypatch, told, expected):
    machine(monkeypatch, gpu=True, hub=True)
    monkeypatch.setenv("ACCELERATE_USE_CPU", told)
    assert profiles.current() == expected


def test_pick_returns_the_object_of_the_profile(monkeypatch):
    small, full = object(), object()
    monkeypatch.setenv(profiles.VARIABLE, "small")
    assert profiles.pick(small=small, full=full) is small
    monkeypatch.setenv(profiles.VARIABLE, "full")
    assert profiles.pick(small=small, full=full) is full


def test_pick_takes_its_values_by_name_only():
    with pytest.raises(TypeError):
        profiles.pick(1, 2)


def test_the_machine_is_asked_once(monkeypatch):
    asked = []
    machine(monkeypatch, gpu=True, hub=True)
    monkeypatch.setattr(profiles, "_hub_is_reachable", lambda: asked.append(1) or True)
    assert [profiles.current() for _ in range(3)] == ["full"] * 3
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("answer", "reachable"),
    [
        (None, True),
        (urllib.error.HTTPError("https://hub", 503, "busy", {}, io.BytesIO()), True),
        (urllib.error.URLError("no route"), False),
        (TimeoutError("too slow"), False),
        (ConnectionRefusedError("refused"), False),
    ],
)
def test_the_hub_is_reachable_if_it_answers_at_all(monkeypatch, answer, reachable):
    from huggingface_hub import constants

    def urlopen(request, timeout):
        assert request.full_url == constants.ENDPOINT
        assert 0 < timeout <= 5
        if answer is not None:
            raise answer
        return io.BytesIO()

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    assert profiles._hub_is_reachable() is reachable


def test_offline_mode_asks_nobody(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: pytest.fail("asked the Hub"))
    assert profiles._hub_is_reachable() is False


# --- rehearsals -----------------------------------------------------------------------


def test_a_run_is_the_real_thing_unless_it_is_said_otherwise(monkeypatch):
    monkeypatch.setenv(profiles.VARIABLE, "full")
    assert profiles.rehearsal() is None
    monkeypatch.setenv(profiles.REHEARSAL, " ")
    assert profiles.rehearsal() is None
    assert profiles.steps(1_000) == 1_000


def test_a_rehearsal_limits_the_steps(monkeypatch):
    monkeypatch.setenv(profiles.VARIABLE, "full")
    monkeypatch.setenv(profiles.REHEARSAL, "8")
    assert profiles.rehearsal() == 8
    assert [profiles.steps(planned) for planned in (1_000, 8, 3, 0)] == [8, 8, 3, 0]


@pytest.mark.parametrize("limit", ["0", "-1", "2.5", "yes", "²"])
def test_a_limit_that_is_no_number_of_steps_is_refused(monkeypatch, limit):
    monkeypatch.setenv(profiles.VARIABLE, "full")
    monkeypatch.setenv(profiles.REHEARSAL, limit)
    with pytest.raises(ValueError, match=r"HANDBOOK_REHEARSAL.*1 or more") as raised:
        profiles.rehearsal()
    assert repr(limit) in str(raised.value)


def test_small_is_not_rehearsed(monkeypatch):
    monkeypatch.setenv(profiles.VARIABLE, "small")
    monkeypatch.setenv(profiles.REHEARSAL, "2")
    with pytest.raises(ValueError, match=r"only 'full' is rehearsed.*HANDBOOK_PROFILE=full"):
        profiles.rehearsal()
