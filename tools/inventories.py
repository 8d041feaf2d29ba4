"""Write the inventories by which names of other libraries become links to their documentation.

Sphinx usually fetches the list of everything a library documents. The book is built without a
network, so ``book/_inventories`` holds small lists of our own: the names that ``helpers`` and
the chapters use, each with its address. A name is taken up only if the installed package has
it. Its address follows from how the library's documentation is built (below), so a new chapter
needs ``python -m tools.inventories`` and nothing else. ``--report`` names what has no address.
"""

from __future__ import annotations

import argparse
import builtins
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from tools import names
from tools.cache import ROOT, notebooks

FOLDER = ROOT / "book" / "_inventories"


@dataclass(frozen=True)
class Library:
    """A library's documentation: where it begins, and the page of each documented name."""

    base: str
    page: Callable[[str], str | None]


def _page_of_python(name: str) -> str | None:
    if name in _TYPES:
        return "library/stdtypes.html"
    if name in _CONSTANTS:
        return "library/constants.html"
    module, _, rest = name.rpartition(".")
    if not module:
        thing = getattr(builtins, name, None)
        if isinstance(thing, type) and issubclass(thing, BaseException):
            return "library/exceptions.html"
        return "library/functions.html" if thing is not None else f"library/{name}.html"
    if (
        module.startswith("builtins") or module == "random.Random"
    ):  # documented as functions of the module
        return None
    if inspect.isclass(thing_called(module)) and not _defined_there(name):
        return None
    while module:
        if inspect.ismodule(sys.modules.get(module)):
            whole = module if not inspect.ismodule(thing_called(name)) else f"{module}.{rest}"
            return f"library/{whole}.html"
        module = module.rpartition(".")[0]
    return None


_TYPES = {
    "str", "list", "dict", "tuple", "set", "frozenset", "bytes", "range", "bytearray", "memoryview",
}  # fmt: skip
_CONSTANTS = {"None", "True", "False", "NotImplemented", "Ellipsis"}


def _page_of_torch(name: str) -> str | None:
    special = {
        "torch.Tensor": "tensors.html",
        "torch.Size": "size.html",
        "torch.optim.Optimizer": "optim.html",
        "torch.dtype": "tensor_attributes.html",
        "torch.device": "tensor_attributes.html",
        "torch.finfo": "type_info.html#torch.torch.finfo",
        "torch.iinfo": "type_info.html#torch.torch.iinfo",
        "torch.nn.Parameter": "generated/torch.nn.parameter.Parameter.html"
        "#torch.nn.parameter.Parameter",
        "torch": "torch.html#module-torch",
        "torch.nn": "nn.html#module-torch.nn",
        "torch.nn.functional": "nn.functional.html#module-torch.nn.functional",
    }
    if name in special:
        return special[name]
    if name.startswith("torch.nn.init."):
        return "nn.init.html"
    if name.startswith("torch.utils.data."):
        return "data.html"
    undocumented = name == "torch.relu" or name.startswith("torch.multiprocessing.")
    if undocumented or inspect.ismodule(thing_called(name)):
        return None
    owner = name.rpartition(".")[0]
    if owner.startswith("torch.finfo"):
        return None
    # A method of a class stands on the page of the class, but Tensor's have pages of their own.
    in_class = inspect.isclass(thing_called(owner))
    if in_class and not _defined_there(name) and owner != "torch.Tensor":
        return None
    in_class = in_class and owner not in {"torch.Tensor", "torch.optim.Optimizer"}
    return f"generated/{owner if in_class else name}.html"


def _page_of_numpy(name: str) -> str | None:
    if name == "numpy":
        return "reference/index.html#module-numpy"
    thing = thing_called(name)
    if inspect.isclass(thing) and issubclass(thing, importlib.import_module("numpy").generic):
        return "reference/arrays.scalars.html"
    if isinstance(thing, importlib.import_module("numpy").ufunc):
        name = f"numpy.{thing.__name__}"  # numpy.abs is documented as numpy.absolute
        return f"reference/generated/{name}.html#{name}"
    if name in {"numpy.random.default_rng", "numpy.random.Generator"}:
        return "reference/random/generator.html"
    if name.startswith("numpy.random.Generator."):
        return f"reference/random/generated/{name}.html"
    return f"reference/generated/{name}.html"


def _page_of_matplotlib(name: str) -> str | None:
    owner = name.rpartition(".")[0]
    if name.startswith("matplotlib.figure.Figure"):
        return "api/_as_gen/matplotlib.figure.Figure.html"
    if name == "matplotlib.axes.Axes" or owner == "matplotlib.axes.Axes":
        return f"api/_as_gen/{name}.html"
    if owner == "matplotlib":
        return "api/matplotlib_configuration_api.html" if name.endswith("rc_context") else None
    if owner == "matplotlib.colors":
        return f"api/_as_gen/{name}.html"
    return None


def _page_of_pandas(name: str) -> str | None:
    return None if name == "pandas" else f"reference/api/{name}.html"


def _page_of_scipy(name: str) -> str | None:
    return f"reference/generated/{name}.html"


def _page_of_scikit_learn(name: str) -> str | None:
    owner = name.rpartition(".")[0]
    in_class = inspect.isclass(thing_called(owner))
    return f"modules/generated/{owner if in_class else name}.html"


def _page_of_ipython(name: str) -> str | None:
    module = name.rpartition(".")[0]
    return f"api/generated/{module}.html" if module == "IPython.display" else None


def _page_of_tqdm(name: str) -> str | None:
    return "tqdm/#tqdm-objects" if name == "tqdm.tqdm" else None


def _hugging_face(pages: dict[str, str]) -> Callable[[str], str | None]:
    """Hugging Face's pages are written by hand, so each documented name is listed here."""
    listed = {name: page for page, together in pages.items() for name in together.split()}

    def page(name: str) -> str | None:
        owner = name.rpartition(".")[0]
        if name in listed:
            return listed[name]
        in_class = owner in listed and inspect.isclass(thing_called(owner))
        return listed[owner] if in_class and _defined_there(name) else None

    return page


LIBRARIES = {
    "python": Library("https://docs.python.org/3/", _page_of_python),
    "torch": Library("https://docs.pytorch.org/docs/stable/", _page_of_torch),
    "numpy": Library("https://numpy.org/doc/stable/", _page_of_numpy),
    "matplotlib": Library("https://matplotlib.org/stable/", _page_of_matplotlib),
    "pandas": Library("https://pandas.pydata.org/docs/", _page_of_pandas),
    "scipy": Library("https://docs.scipy.org/doc/scipy/", _page_of_scipy),
    "sklearn": Library("https://scikit-learn.org/stable/", _page_of_scikit_learn),
    "IPython": Library("https://ipython.readthedocs.io/en/stable/", _page_of_ipython),
    "tqdm": Library("https://tqdm.github.io/docs/", _page_of_tqdm),
    "transformers": Library(
        "https://huggingface.co/docs/transformers/",
        _hugging_face(
            {
                "main_classes/trainer": "transformers.Trainer transformers.TrainingArguments"
                " transformers.Seq2SeqTrainer transformers.Seq2SeqTrainingArguments",
                "main_classes/pipelines": "transformers.pipeline transformers.Pipeline",
                "main_classes/model": "transformers.PreTrainedModel",
                "main_classes/configuration": "transformers.PreTrainedConfig",
                "main_classes/tokenizer": "transformers.PreTrainedTokenizer"
                " transformers.PreTrainedTokenizerFast transformers.BatchEncoding",
                "main_classes/data_collator": "transformers.DataCollatorWithPadding"
                " transformers.DataCollatorForLanguageModeling"
                " transformers.DataCollatorForSeq2Seq transformers.default_data_collator",
                "main_classes/callback": "transformers.TrainerCallback"
                " transformers.PrinterCallback transformers.ProgressCallback"
                " transformers.EarlyStoppingCallback transformers.TrainerState"
                " transformers.TrainerControl",
                "main_classes/logging": "transformers.utils.logging.set_verbosity_error"
                " transformers.utils.logging.set_verbosity"
                " transformers.utils.logging.get_verbosity"
                " transformers.utils.logging.disable_progress_bar"
                " transformers.utils.logging.enable_progress_bar",
                "main_classes/text_generation": "transformers.GenerationConfig"
                " transformers.GenerationMixin",
                "internal/trainer_utils": "transformers.EvalPrediction transformers.set_seed",
                "internal/tokenization_utils": "transformers.PreTrainedTokenizerBase",
                "model_doc/auto": "transformers.AutoConfig transformers.AutoTokenizer"
                " transformers.AutoModel transformers.AutoModelForCausalLM"
                " transformers.AutoModelForMaskedLM transformers.AutoModelForPreTraining"
                " transformers.AutoModelForSeq2SeqLM transformers.AutoModelForQuestionAnswering"
                " transformers.AutoModelForSequenceClassification"
                " transformers.AutoModelForTokenClassification"
                " transformers.AutoModelForNextSentencePrediction",
                "model_doc/bert": "transformers.BertConfig transformers.BertModel"
                " transformers.BertTokenizer transformers.BertForPreTraining"
                " transformers.BertForMaskedLM transformers.BertForSequenceClassification",
            }
        ),
    ),
    "datasets": Library(
        "https://huggingface.co/docs/datasets/",
        _hugging_face(
            {
                "package_reference/main_classes": "datasets.Dataset datasets.DatasetDict"
                " datasets.IterableDataset datasets.Features datasets.Value datasets.ClassLabel"
                " datasets.concatenate_datasets datasets.DatasetInfo",
                "package_reference/loading_methods": "datasets.load_dataset"
                " datasets.load_from_disk",
                "package_reference/utilities": "datasets.disable_progress_bars"
                " datasets.enable_progress_bars",
            }
        ),
    ),
    "evaluate": Library(
        "https://huggingface.co/docs/evaluate/",
        _hugging_face(
            {
                "package_reference/main_classes": "evaluate.Metric evaluate.MetricInfo"
                " evaluate.EvaluationModule evaluate.EvaluationModuleInfo",
                "package_reference/loading_methods": "evaluate.load",
            }
        ),
    ),
    "accelerate": Library(
        "https://huggingface.co/docs/accelerate/",
        _hugging_face(
            {
                "package_reference/accelerator": "accelerate.Accelerator",
                "package_reference/utilities": "accelerate.utils.set_seed"
                " accelerate.utils.is_bf16_available",
            }
        ),
    ),
    "huggingface_hub": Library(
        "https://huggingface.co/docs/huggingface_hub/",
        _hugging_face(
            {
                "package_reference/file_download": "huggingface_hub.snapshot_download"
                " huggingface_hub.hf_hub_download",
                "package_reference/hf_api": "huggingface_hub.HfApi",
                "package_reference/cards": "huggingface_hub.ModelCard huggingface_hub.DatasetCard",
            }
        ),
    ),
}


@cache
def thing_called(name: str) -> Any:
    """Return the object of that dotted name, or None if there is none."""
    parts = name.split(".")
    for length in range(len(parts) if name else 0, 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:length]))
        except ImportError:
            continue
        for part in parts[length:]:
            thing = getattr(thing, part, None)
        return thing
    return getattr(builtins, name, None) if name else None


def _defined_there(name: str) -> bool:
    """Is this method defined in the very class, or in a private base that nobody documents?"""
    owner, _, method = name.rpartition(".")
    for kind in inspect.getmro(thing_called(owner)):
        if method in vars(kind):
            return kind is thing_called(owner) or kind.__name__.startswith("_")
    return False


def library_of(name: str) -> str | None:
    """Return the key in :data:`LIBRARIES` of a dotted name, or None."""
    top = name.split(".")[0]
    if top in LIBRARIES and top != "python":
        return top
    is_python = top in sys.stdlib_module_names or hasattr(builtins, name)
    return "python" if is_python else None


def role_of(name: str) -> str | None:
    """Return how Sphinx calls the thing of that name, or None for what is not linked."""
    thing = thing_called(name)
    if name == "None":
        return "py:data"
    if inspect.ismodule(thing):
        return "py:module"
    if inspect.isclass(thing):
        return "py:exception" if issubclass(thing, BaseException) else "py:class"
    if callable(thing) and hasattr(thing, "__name__"):
        in_class = inspect.isclass(thing_called(name.rpartition(".")[0]))
        return "py:method" if in_class else "py:function"
    return None


def address(name: str) -> str | None:
    """Return where ``name`` is documented, from the library's base on, or None."""
    library = library_of(name)
    private = any(part.startswith("_") for part in name.split("."))
    if library is None or private or (thing_called(name) is None and name != "None"):
        return None
    page = LIBRARIES[library].page(name)
    if page is None or "#" in page:
        return page
    is_module = inspect.ismodule(thing_called(name))
    return f"{page}#{'module-' if is_module else ''}{name}"


def used() -> Iterable[tuple[str, ...]]:
    """Yield what ``helpers`` and the chapters name, each with all names it has."""
    for path in notebooks():
        yield from (use.names for use in names.chapter_uses(path))
    for module in names.helper_modules():
        source = inspect.getsource(importlib.import_module(module))
        yield from (use.names for use in names.uses(source))
        yield from ((name,) for name in names.builtins_in(source))


def inventories() -> tuple[dict[str, str], list[str]]:
    """Return the text of each library's inventory, and the names that have no address."""
    lines: dict[str, set[str]] = {library: set() for library in LIBRARIES}
    without = set()
    for candidates in used():
        if candidates[0].startswith(("helpers.", "__future__")):
            continue
        documented = next((name for name in candidates if address(name)), None)
        role = documented and role_of(documented)
        if documented is None or role is None:
            without.add(candidates[0])
            continue
        # Signatures name a class by the module that defines it.
        is_class = inspect.isclass(thing_called(documented))
        known_as = {documented, *(candidates if is_class else ())}
        library = library_of(documented)
        for name in known_as:
            lines[library].add(f"{name} {role} 1 {address(documented)} -\n")
    head = "# Sphinx inventory version 2\n# Project: {}\n# Version: \n# Plain text.\n"
    texts = {
        library: head.format(library) + "".join(sorted(content))
        for library, content in lines.items()
        if content
    }
    return texts, sorted(without)


def main(arguments: list[str] | None = None) -> int:
    """Write the inventories; say which changed."""
    parser = argparse.ArgumentParser(prog="python -m tools.inventories", description=__doc__)
    parser.add_argument("--report", action="store_true", help="list the names without an address")
    given = parser.parse_args(arguments)
    texts, without = inventories()
    if given.report:
        print("\n".join(without))
        return 0
    FOLDER.mkdir(exist_ok=True)
    changed = []
    for path in FOLDER.glob("*.txt"):
        if path.stem not in texts:
            path.unlink()
            changed.append(path.name)
    for library, text in texts.items():
        path = FOLDER / f"{library}.txt"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            staged = path.with_suffix(".new")
            staged.write_text(text, encoding="utf-8", newline="\n")
            staged.replace(path)
            changed.append(path.name)
    print("\n".join(sorted(changed)) or "Every inventory is up to date.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
