"""A Hugging Face Hub on loopback: the real ids and revisions, tiny weights, few rows.

``with Hub() as hub`` serves a twin of every asset of :mod:`helpers.assets` to the real clients
(``huggingface_hub``, ``transformers``, ``datasets``) under ``hub.endpoint``, which goes into
``HF_ENDPOINT``. A twin has the layout, file names, formats, columns and split names of the
original, random weights of the same architecture, and rows of the packaged data sets. A new
asset needs one line in ``TWINS``.

Only routes that the Hub documents are here (https://huggingface.co/docs/hub/api and
https://huggingface.co/docs/huggingface_hub): whatever else a client asks for is kept in
``hub.unknown``, and the rehearsal fails on it.

Servers that exist were looked at first. ``olah`` 0.5.4 mirrors the Hub, and serves local
repositories only from git, under the commits that git computes: the revisions that the handbook
pins cannot be given to repositories with other contents. It answers no range requests for them
and brings 21 dependencies. ``hf-local-hub`` 3.0.0 on the package index is a client; the server
it starts is a program in Go that has to be compiled from another place. Neither can be told to
fail, and the faults of a Hub are half of what is tested here.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tempfile
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from helpers import assets

Files = dict[str, bytes]
LARGE = (".safetensors", ".parquet", ".bin")  # what the Hub keeps in its large file storage
# Old names under which the Hub still finds a repository, by answering with a redirect.
ALIASES = {"bert-base-cased": "google-bert/bert-base-cased", "imdb": "stanfordnlp/imdb"}


# --- twins ------------------------------------------------------------------------------


def packaged_rows(name: str) -> list[dict[str, Any]]:
    """The rows of a packaged data set, ``text`` and ``label``, in their order."""
    lines = (assets.fetch(name) / "train.jsonl").open(encoding="utf-8")
    with lines:
        return [json.loads(line) for line in lines]


def reviews(parts: dict[str, slice], *, source: str, file: str, unlabelled: str = "") -> Files:
    """Parquet files of labelled texts with a card, the layout of IMDB and Rotten Tomatoes.

    Args:
        parts: for each split, which rows of each label it gets.
        source: the packaged data set that the rows come from.
        file: the file of a split, with ``{}`` for its name.
        unlabelled: a split whose labels are all -1, made of texts of the first one.
    """
    import yaml
    from datasets import ClassLabel, Dataset, Features, Value

    names = ["neg", "pos"]
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    rows = packaged_rows(source)
    halves = [[row for row in rows if row["label"] == label] for label in range(len(names))]
    splits = {split: [*halves[0][part], *halves[1][part]] for split, part in parts.items()}
    if unlabelled:
        splits[unlabelled] = [row | {"label": -1} for row in splits["train"][:100]]
    files, sizes = {}, []
    for split, chosen in splits.items():
        buffer = io.BytesIO()
        count = Dataset.from_list(chosen, features=features).to_parquet(buffer)
        files[file.format(split)] = buffer.getvalue()
        sizes.append({"name": split, "num_bytes": count, "num_examples": len(chosen)})
    label = {"class_label": {"names": {str(n): name for n, name in enumerate(names)}}}
    card = {
        "dataset_info": {
            "features": [{"name": "text", "dtype": "string"}, {"name": "label", "dtype": label}],
            "splits": sizes,
        },
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": file.format(split)} for split in splits],
            }
        ],
    }
    return files | {"README.md": f"---\n{yaml.safe_dump(card)}---\n# A twin\n".encode()}


def cased_vocabulary(size: int = 28_996) -> list[str]:
    """A WordPiece vocabulary laid out as that of bert-base-cased: same size, same marker ids."""
    from tokenizers.pre_tokenizers import BertPreTokenizer

    split = BertPreTokenizer().pre_tokenize_str
    found: Counter[str] = Counter()
    for row in packaged_rows("imdb")[::5]:
        found.update(word for word, _ in split(row["text"]))
    markers = ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = ["[PAD]", *(f"[unused{n}]" for n in range(1, 100)), *markers]
    letters = [chr(code) for code in range(33, 127)] + ["é", "è", "ö", "ü", "’", "–"]
    known = dict.fromkeys([*vocabulary, *letters, *(f"##{letter}" for letter in letters)])
    words = sorted(found, key=lambda word: (-found[word], word))
    return list(dict.fromkeys([*known, *words]))[:size]


def weights_of(model: Any, rename: Callable[[str], str] = str) -> Files:
    """The weights as safetensors; tied ones are written once, as on the Hub."""
    from safetensors.torch import save

    seen: set[int] = set()
    tensors = {}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            tensors[rename(name)] = tensor.contiguous()
    return {"model.safetensors": save(tensors, metadata={"format": "pt"})}


def tiny_bert() -> Files:
    """bert-base-cased: its files and names, two layers of four heads, random weights."""
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertForPreTraining

    words = cased_vocabulary()
    config = BertConfig(
        architectures=["BertForMaskedLM"], vocab_size=len(words), hidden_size=32,
        num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BertForPreTraining(config)
    tokenizer = BertWordPieceTokenizer({word: n for n, word in enumerate(words)}, lowercase=False)
    settings = {"do_lower_case": False, "model_max_length": 512}

    # The file on the Hub was made in 2018 and still has the names of those days.
    def as_of_2018(name: str) -> str:
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        return name.replace("LayerNorm.bias", "LayerNorm.beta")

    return weights_of(model, as_of_2018) | {
        "config.json": config.to_json_string(use_diff=False).encode(),
        "tokenizer.json": tokenizer.to_str().encode(),
        "tokenizer_config.json": json.dumps(settings).encode(),
        "vocab.txt": "\n".join([*words, ""]).encode(),
        "README.md": b"---\nlicense: apache-2.0\n---\n# A twin of bert-base-cased\n",
        # Never to be fetched: a pickle can run code when it is loaded.
        "pytorch_model.bin": b"a pickle",
    }


def tiny_llama() -> Files:
    """SmolLM2-135M-Instruct: its tokenizer, four layers, random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = assets.fetch("generator")
    kept = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")
    files = {name: (folder / name).read_bytes() for name in kept if (folder / name).is_file()}
    smaller = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "head_dim": 8,
        "num_attention_heads": 4, "num_key_value_heads": 2, "dtype": "float32",
    }  # fmt: skip
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8")) | smaller
    config = LlamaConfig(**settings)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    return files | weights_of(model) | {"config.json": json.dumps(settings).encode()}


# One line for each asset. IMDB keeps its order: chapter 08 cuts 24 gaps of 30 reviews and 1,200
# for validation out of it, so fewer rows than this would leave nothing to train on.
TWINS: dict[str, Callable[[], Files]] = {
    "encoder": tiny_bert,
    "generator": tiny_llama,
    "imdb": lambda: reviews(
        {"train": slice(0, 3_000), "test": slice(9_000, 9_300)},
        source="imdb", file="plain_text/{}-00000-of-00001.parquet", unlabelled="unsupervised",
    ),
    "rotten-tomatoes": lambda: reviews(
        {"train": slice(0, 500), "validation": slice(600, 700), "test": slice(800, 900)},
        source="rotten-tomatoes", file="{}.parquet",
    ),
}  # fmt: skip


# --- repositories -----------------------------------------------------------------------


@dataclass
class Repository:
    """One model or data set at one commit; ``main`` points at it."""

    id: str
    kind: str  # "models" or "datasets", as in the Hub's addresses
    commit: str
    make: Callable[[], Files]
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @cached_property
    def _files(self) -> Files:
        return self.make()

    @property
    def files(self) -> Files:
        """The files, made when they are first asked for."""
        with self.lock:
            return self._files


@cache
def twins() -> tuple[Repository, ...]:
    """A twin for each asset; made once in a process, for all hubs."""
    return tuple(
        Repository(
            asset.hub_id,
            f"{asset.kind}s",
            asset.hub_revision or hashlib.sha1(asset.hub_id.encode()).hexdigest(),
            TWINS[asset.name],
        )
        for asset in assets.ASSETS.values()
    )


def blob(content: bytes) -> str:
    """The name that git gives a file, which is its ETag on the Hub."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


# --- the server -------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """How the Hub answers requests whose address holds ``at``, instead of serving them.

    ``status`` and ``code`` (the Hub's ``X-Error-Code``) refuse; ``keep`` sends only that share
    of the body and hangs up; ``seconds`` lets the client wait; ``times`` limits how often.
    """

    at: str
    status: int = 0
    code: str = ""
    keep: float = 1.0
    seconds: float = 0.0
    times: int = 1_000_000


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Say nothing when a client hangs up; one that meets a fault does."""


class Hub:
    """The server, as a context manager; every request it gets is kept in ``requests``."""

    def __init__(self, *repositories: Repository, faults: tuple[Fault, ...] = ()) -> None:
        self.repositories = {(one.kind, one.id): one for one in repositories or twins()}
        self.faults = {fault: fault.times for fault in faults}
        self.requests: list[str] = []
        self.unknown: list[str] = []
        self._server = _Server(("127.0.0.1", 0), _handler_for(self))

    @property
    def endpoint(self) -> str:
        """The address for ``HF_ENDPOINT``."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def storage(self) -> str:
        """Where large files are. As on the real Hub another host: a client must not follow."""
        return self.endpoint.replace("127.0.0.1", "localhost")

    def environment(self, home: Path) -> dict[str, str]:
        """What a process needs to use this Hub and no other, with caches below ``home``."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_TOKEN_PATH": str(home / "no-token"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_OFFLINE": "0",
            "HANDBOOK_PROFILE": "full",
            # The packaged assets must not help out.
            "HANDBOOK_ASSETS": str(home / "no-packaged-assets"),
        }

    def __enter__(self) -> Hub:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fault_of(self, address: str) -> Fault | None:
        """The fault that this request meets, counted down."""
        for fault, left in self.faults.items():
            if fault.at in address and left:
                self.faults[fault] = left - 1
                return fault
        return None


NAME = r"(?P<id>[\w.-]+(?:/[\w.-]+)?)"
ROUTES = (
    ("info", re.compile(rf"/api/(?P<kind>models|datasets)/{NAME}(?:/revision/(?P<revision>.+))?")),
    (
        "tree",
        re.compile(
            rf"/api/(?P<kind>models|datasets)/{NAME}/tree/(?P<revision>[^/]+)(?:/(?P<path>.*))?"
        ),
    ),
    (
        "paths",
        re.compile(rf"/api/(?P<kind>models|datasets)/{NAME}/paths-info/(?P<revision>[^/]+)"),
    ),
    (
        "file",
        re.compile(
            rf"/(?:(?P<kind>datasets|spaces)/)?{NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)"
        ),
    ),
    ("large", re.compile(r"/large/(?P<sha256>[0-9a-f]{64})")),
    ("home", re.compile(r"/")),
)


def _handler_for(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        fault: Fault | None = None

        def log_message(self, *_: Any) -> None:
            """Keep the terminal quiet; ``hub.requests`` has it all."""

        def do_GET(self) -> None:
            self._answer()

        do_HEAD = do_POST = do_GET

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length).decode() if length else ""
            address = urllib.parse.unquote(self.path)
            hub.requests.append(f"{self.command} {address}")
            self.fault = hub.fault_of(address)
            if self.fault:
                time.sleep(self.fault.seconds)
                if self.fault.status:
                    return self._refuse(self.fault.status, self.fault.code)
            path, _, query = address.partition("?")
            for name, pattern in ROUTES:
                if match := pattern.fullmatch(path):
                    return getattr(self, f"_{name}")(
                        **match.groupdict(), **({"query": query or body} if name == "paths" else {})
                    )
            hub.unknown.append(f"{self.command} {address}")
            return self._refuse(404, "")

        # --- routes

        def _home(self) -> None:
            self._send(b"", "text/html")

        def _info(self, kind: str, id: str, revision: str | None) -> None:
            if repository := self._repository(kind, id, revision):
                self._json(
                    {
                        "_id": repository.commit[:24],
                        "id": repository.id,
                        "author": repository.id.split("/")[0],
                        "sha": repository.commit,
                        "private": False,
                        "gated": False,
                        "disabled": False,
                        "downloads": 0,
                        "likes": 0,
                        "tags": [],
                        "lastModified": "2024-01-04T12:00:00.000Z",
                        "createdAt": "2022-03-02T23:29:04.000Z",
                        "siblings": [{"rfilename": path} for path in repository.files],
                    },
                    commit=repository.commit,
                )

        def _tree(self, kind: str, id: str, revision: str, path: str | None) -> None:
            repository = self._repository(kind, id, revision)
            if repository is None:
                return
            start = f"{path.rstrip('/')}/" if path else ""
            inside = [entry for entry in _entries(repository) if entry["path"].startswith(start)]
            if start and not inside:
                return self._refuse(404, "EntryNotFound")
            if "recursive=true" not in self.path.lower():
                inside = [entry for entry in inside if "/" not in entry["path"][len(start) :]]
            self._json(inside, commit=repository.commit)

        def _paths(self, kind: str, id: str, revision: str, query: str) -> None:
            if repository := self._repository(kind, id, revision):
                if query.startswith("{"):
                    wanted = json.loads(query)["paths"]
                else:
                    wanted = urllib.parse.parse_qs(query)["paths"]
                found = [entry for entry in _entries(repository) if entry["path"] in wanted]
                self._json(found, commit=repository.commit)

        def _file(self, kind: str | None, id: str, revision: str, path: str) -> None:
            repository = self._repository(kind or "models", id, revision)
            if repository is None:
                return
            content = repository.files.get(path)
            if content is None:
                return self._refuse(404, "EntryNotFound")
            headers = {"X-Repo-Commit": repository.commit}
            if path.endswith(LARGE):
                # Large files are somewhere else, and the address says so.
                sha256 = hashlib.sha256(content).hexdigest()
                headers |= {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{sha256}"'}
                headers |= {"Location": f"{hub.storage}/large/{sha256}"}
                return self._send(b"", "text/plain", status=302, headers=headers)
            return self._send(
                content, "text/plain", headers=headers | {"ETag": f'"{blob(content)}"'}
            )

        def _large(self, sha256: str) -> None:
            for repository in hub.repositories.values():
                for path, content in repository.files.items():
                    if path.endswith(LARGE) and hashlib.sha256(content).hexdigest() == sha256:
                        headers = {"ETag": f'"{sha256}"'}
                        return self._send(content, "application/octet-stream", headers=headers)
            return self._refuse(404, "EntryNotFound")

        # --- answers

        def _repository(self, kind: str, id: str, revision: str | None) -> Repository | None:
            """The repository asked for; None if the question has been answered otherwise."""
            if id in ALIASES and (kind, ALIASES[id]) in hub.repositories:
                location = self.path.replace(f"/{id}", f"/{ALIASES[id]}", 1)
                self._send(b"", "text/plain", status=307, headers={"Location": location})
                return None
            repository = hub.repositories.get((kind, id))
            if repository is None:
                # The Hub does not tell whether a repository is missing or private.
                self._refuse(401, "RepoNotFound")
            elif revision not in (None, "main", "refs/heads/main", repository.commit):
                self._refuse(404, "RevisionNotFound")
            else:
                return repository
            return None

        def _refuse(self, status: int, code: str) -> None:
            headers = {"X-Error-Code": code, "X-Error-Message": f"the Hub says {code or status}"}
            self._json({"error": code or str(status)}, status=status, headers=headers)

        def _json(
            self, content: Any, status: int = 200, commit: str = "", headers: dict | None = None
        ) -> None:
            extra = (headers or {}) | ({"X-Repo-Commit": commit} if commit else {})
            self._send(json.dumps(content).encode(), "application/json", status, extra)

        def _send(
            self, content: bytes, media: str, status: int = 200, headers: dict | None = None
        ) -> None:
            span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            whole = len(content)
            if span and status == 200:
                first, last = int(span[1]), min(int(span[2] or whole - 1), whole - 1)
                if first >= whole:
                    return self._refuse(416, "")
                content, status = content[first : last + 1], 206
                headers = (headers or {}) | {"Content-Range": f"bytes {first}-{last}/{whole}"}
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Type", media)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "HEAD":
                return None
            if self.fault and self.fault.keep < 1:
                self.wfile.write(content[: int(len(content) * self.fault.keep)])
                self.close_connection = True
                return None
            self.wfile.write(content)
            return None

    return Handler


def _entries(repository: Repository) -> Iterator[dict[str, Any]]:
    """What the Hub says of each file and folder of a repository."""
    folders = {path.rsplit("/", 1)[0] for path in repository.files if "/" in path}
    for folder in sorted(folders):
        yield {"type": "directory", "oid": blob(folder.encode()), "size": 0, "path": folder}
    for path, content in repository.files.items():
        entry = {"type": "file", "oid": blob(content), "size": len(content), "path": path}
        if path.endswith(LARGE):
            sha256 = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 134}
        yield entry


if __name__ == "__main__":  # for a look at it: python tests/hub.py
    with Hub() as served, tempfile.TemporaryDirectory() as temporary:
        for name, value in served.environment(Path(temporary)).items():
            print(f"export {name}={value}")
        threading.Event().wait()
