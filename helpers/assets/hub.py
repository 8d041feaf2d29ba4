"""The full profile: assets from the Hugging Face Hub, and what it may answer, in one line."""

from __future__ import annotations

import errno
from pathlib import Path

from helpers import profiles
from helpers.assets.cache import AssetError
from helpers.assets.entries import Asset

# Formats that cannot run code, and of those only what the libraries load.
_PATTERNS = {
    "model": ["*.json", "*.txt", "*.model", "*.spm", "*.safetensors", "*.md"],
    "dataset": ["*.parquet", "*.md"],
}


def snapshot(asset: Asset) -> Path:
    """Download the pinned revision and return its folder, so that all callers get the same.

    Raises:
        AssetError: the Hub does not deliver it; the message says why and what to do.
    """
    from huggingface_hub import constants, snapshot_download

    try:
        folder = snapshot_download(
            asset.hub_id,
            repo_type=asset.kind,
            revision=asset.hub_revision,
            allow_patterns=_PATTERNS[asset.kind],
        )
    except Exception as problem:
        raise AssetError(
            f"{asset.hub_id} at {asset.hub_revision or 'main'} could not be fetched from "
            f"{constants.ENDPOINT}: {_refusal(problem)}, "
            f"or set {profiles.VARIABLE}=small to run on the packaged assets."
        ) from problem
    return Path(folder)


def _refusal(problem: BaseException) -> str:
    """Return why the Hub did not deliver and what to do about it, in one line."""
    from huggingface_hub import constants

    links: list[BaseException] = []
    link: BaseException | None = problem
    while link is not None:
        links.append(link)
        link = link.__cause__ or link.__context__
    # By name: the classes of network errors belong to a library that the Hub's client may change.
    kinds = {kind.__name__ for link in links for kind in type(link).__mro__}
    codes = {getattr(link, "errno", None) for link in links}
    answers = (getattr(getattr(link, "response", None), "status_code", 0) for link in links)
    status = max(answers, default=0)
    if codes & {errno.ENOSPC, errno.EDQUOT}:
        return f"the disk is full. Free some space in {constants.HF_HOME}, point HF_HOME elsewhere"
    if codes & {errno.EACCES, errno.EPERM, errno.EROFS}:
        return f"{constants.HF_HOME} cannot be written. Point HF_HOME at a folder that can be"
    if "GatedRepoError" in kinds:
        return "access has to be granted first. Ask for it on its page and run `hf auth login`"
    if "RevisionNotFoundError" in kinds:
        return "this revision is gone. Please report this to the handbook"
    if "RepositoryNotFoundError" in kinds:
        return "it is gone, or private. Run `hf auth login` if you have access"
    if "OfflineModeIsEnabled" in kinds:
        return "HF_HUB_OFFLINE forbids it. Unset that"
    if status >= 400:
        return f"the Hub answered {status}. Try again later"
    if kinds & {"TimeoutException", "TimeoutError"}:
        return "the Hub did not answer in time. Try again"
    said = " ".join(str(problem).split()) or type(problem).__name__
    if kinds & {"RemoteProtocolError", "IncompleteRead"} or "Consistency check failed" in said:
        return "the connection broke off. Run this again"
    if kinds & {"NetworkError", "ConnectionError"}:
        return f"the Hub cannot be reached ({said[:120]}). Check the network"
    return f"{said[:200]}. Mend that"
