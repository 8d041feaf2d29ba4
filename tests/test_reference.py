"""The reference: API pages, links in code, glossary, bibliography, index, notation.

Chapters and modules are found here by themselves. What needs the built book is marked so.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
from collections import Counter
from functools import cache
from html import unescape
from html.parser import HTMLParser
from importlib import metadata
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.utils import canonicalize_name
from packaging.version import Version

from tools import glossary, inventories, lock, names, papers
from tools.cache import BUILD, NOTEBOOKS, ROOT, notebooks

sys.path.insert(0, str(ROOT / "book" / "_extensions"))

import api_reference

HTML = BUILD / "html"
CHAPTERS = [path.stem for path in notebooks()]
MODULES = names.helper_modules()

built = pytest.mark.built
every_chapter = pytest.mark.parametrize("chapter", CHAPTERS)
every_module = pytest.mark.parametrize("module", MODULES)


def cells(chapter: str, kind: str) -> list[str]:
    content = nbformat.read(NOTEBOOKS / f"{chapter}.ipynb", nbformat.NO_CONVERT)
    return [cell.source for cell in content.cells if cell.cell_type == kind]


# --- names in code ------------------------------------------------------------------


def found(source: str, scope: names.Scope | None = None) -> list[tuple[str, str]]:
    """What is written in the source, and what it stands for."""
    return [(source[use.start : use.end], use.names[0]) for use in names.uses(source, scope)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import math\nmath.sqrt(2)", [("math", "math"), ("math.sqrt", "math.sqrt")]),
        ("import numpy as np\nnp.argmax", [("numpy", "numpy"), ("np.argmax", "numpy.argmax")]),
        ("from math import sqrt as root\nroot(2)", [("sqrt", "math.sqrt"), ("root", "math.sqrt")]),
        # An instance: its class is known from the call, its method from the class.
        (
            "from pathlib import Path\np = Path('ä')\np.exists()",
            [("Path", "pathlib.Path"), ("Path", "pathlib.Path"), ("exists", "pathlib.Path.exists")],
        ),
        # From the annotation of what is called.
        (
            "from helpers import checks\nchecks.records_folder().exists()",
            [
                ("checks", "helpers.checks"),
                ("checks.records_folder", "helpers.checks.records_folder"),
                ("exists", "pathlib.Path.exists"),
            ],
        ),
        # Bound anew, as an argument, in a loop, in a comprehension: no longer the module.
        ("import math\nmath = 3\nmath.sqrt", [("math", "math")]),
        ("import math\ndef f(math):\n    return math.sqrt", [("math", "math")]),
        ("import math\nfor math in ():\n    math.sqrt", [("math", "math")]),
        ("import math\n[math.sqrt for math in ()]", [("math", "math")]),
        ("unknown.name", []),
        ("import math\nmath.no_such_thing", [("math", "math"), ("math", "math")]),
    ],
)
def test_names_are_found_without_running_the_code(source, expected):
    assert found(source) == expected


def test_cells_share_what_they_import_and_magics_keep_the_places():
    scope = names.Scope()
    assert found("import sys\nif sys:\n    %pip install x\nsys.exit", scope)[-1][0] == "sys.exit"
    assert found("print('ü'); sys.exit()", scope) == [("sys.exit", "sys.exit")]


def test_nothing_is_run():
    assert found("import os\nos.abort()") == [("os", "os"), ("os.abort", "os.abort")]


def test_a_class_is_known_by_its_public_name():
    linear = importlib.import_module("torch").nn.Linear
    assert names.own_names(linear) == ["torch.nn.Linear", "torch.nn.modules.linear.Linear"]


# --- links in highlighted code ------------------------------------------------------


def test_links_are_put_around_whole_names_and_change_nothing_else():
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    source = 'import math\n\nx = math.sqrt("<&>")  # math.sqrt\n'
    start = source.index("math.sqrt")
    made = highlight(source, PythonLexer(), HtmlFormatter())
    linked = api_reference.with_links(made, source, [(start, start + 9, "a?b&c", "math.sqrt")])
    assert linked.count("<a ") == linked.count("</a>") == 1
    assert 'href="a?b&amp;c" title="math.sqrt"' in linked
    inside = re.search(r"<a [^>]*>(.*?)</a>", linked)[1]
    assert re.sub(r"<[^>]*>", "", inside) == "math.sqrt"
    assert inside.count("<span") == inside.count("</span>")
    assert re.sub(r"</?a\b[^>]*>", "", linked) == made


def test_code_that_was_changed_on_the_way_gets_no_links():
    made = '<div><pre><span></span><span class="n">y</span>\n</pre></div>'
    assert api_reference.with_links(made, "x\n", [(0, 1, "a", "x")]) == made


# --- inventories --------------------------------------------------------------------


def listed(library: str) -> dict[str, str]:
    text = (inventories.FOLDER / f"{library}.txt").read_text(encoding="utf-8")
    lines = (line.split() for line in text.splitlines() if not line.startswith("#"))
    return {line[0]: line[3] for line in lines}


def is_as_locked(library: str) -> bool:
    """Whether the lock's version is installed; in a lane names may be defined elsewhere."""
    if library == "python":
        return True
    name = {"sklearn": "scikit-learn"}.get(library, library)
    here = Version(metadata.version(name)).public
    pins = lock.locked(lock.LOCK.read_text(encoding="utf-8"))[canonicalize_name(name)]
    return any(pin.specifier.contains(here) for pin in pins)


def test_the_inventories_are_those_that_the_command_writes():
    texts, _ = inventories.inventories()
    kept = {p.stem: p.read_text(encoding="utf-8") for p in inventories.FOLDER.glob("*.txt")}
    assert sorted(kept) == sorted(texts)
    for library in filter(is_as_locked, kept):
        assert kept[library] == texts[library], "python -m tools.inventories writes them"


def test_every_name_of_an_inventory_is_in_the_installed_library():
    lost = [
        name
        for library in inventories.LIBRARIES
        for name in listed(library)
        if name != "None" and inventories.thing_called(name) is None
    ]
    assert lost == []


# Addresses that were read in the libraries' own inventories or pages.
@pytest.mark.parametrize(
    ("library", "name", "address"),
    [
        ("python", "pathlib.Path", "library/pathlib.html#pathlib.Path"),
        ("python", "collections.abc.Callable",
         "library/collections.abc.html#collections.abc.Callable"),
        ("python", "str", "library/stdtypes.html#str"),
        ("python", "ValueError", "library/exceptions.html#ValueError"),
        ("torch", "torch.Tensor", "tensors.html#torch.Tensor"),
        ("torch", "torch.softmax", "generated/torch.softmax.html#torch.softmax"),
        ("torch", "torch.nn.modules.module.Module",
         "generated/torch.nn.Module.html#torch.nn.Module"),
        ("numpy", "numpy.abs", "reference/generated/numpy.absolute.html#numpy.absolute"),
        ("pandas", "pandas.DataFrame", "reference/api/pandas.DataFrame.html#pandas.DataFrame"),
        ("scipy", "scipy.special.softmax",
         "reference/generated/scipy.special.softmax.html#scipy.special.softmax"),
        ("transformers", "transformers.Trainer", "main_classes/trainer#transformers.Trainer"),
        ("datasets", "datasets.load_dataset",
         "package_reference/loading_methods#datasets.load_dataset"),
    ],
)  # fmt: skip
def test_addresses_are_those_of_the_documentation(library, name, address):
    assert listed(library)[name] == address


# --- API pages ----------------------------------------------------------------------


class Anchors(HTMLParser):
    """Collect ids, and links with the text they hold."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.ids: set[str] = set()
        self.links: list[tuple[str, str, str]] = []
        self.open: list[tuple[str, str, str]] = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if given.get("id"):
            self.ids.add(given["id"])
        if tag == "a":
            self.open.append((given.get("class") or "", given.get("href") or "", ""))

    def handle_endtag(self, tag):
        if tag == "a" and self.open:
            self.links.append(self.open.pop())

    def handle_data(self, data):
        self.open = [(kind, address, text + data) for kind, address, text in self.open]


@cache
def page(name: str) -> Anchors:
    path = HTML / f"{name}.html"
    assert path.is_file(), f"{path} is missing; `make book` builds it"
    reader = Anchors()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader


def test_a_new_module_would_be_found():
    files = {p.stem for p in (ROOT / "helpers").rglob("*.py") if not p.stem.startswith("_")}
    assert files <= {module.rpartition(".")[2] for module in MODULES}


@every_module
def test_every_public_name_has_a_docstring(module):
    content = importlib.import_module(module)
    assert inspect.getdoc(content)
    for name in names.public_names(module):
        assert inspect.getdoc(getattr(content, name)), f"{module}.{name}"


@built
@every_module
def test_every_public_name_is_on_its_api_page(module):
    ids = page(f"book/api/{module.removeprefix('helpers.')}").ids
    missing = {f"{module}.{name}" for name in names.public_names(module)} - ids
    assert missing == set()


@built
def test_the_first_page_of_the_api_leads_to_every_module():
    addresses = {address for _, address, _ in page("book/api").links}
    assert {f"api/{module.removeprefix('helpers.')}.html" for module in MODULES} <= addresses


@built
def test_types_of_other_libraries_are_links():
    links = {address for _, address, _ in page("book/api/attention").links}
    assert "https://docs.pytorch.org/docs/stable/tensors.html#torch.Tensor" in links
    assert "https://docs.python.org/3/library/exceptions.html#ValueError" in links
    links = {address for _, address, _ in page("book/api/finetuning").links}
    for part in ("numpy.org/doc/stable/", "docs/transformers/", "docs/datasets/", "pathlib.Path"):
        assert any(part in address for address in links), part


def code_links(chapter: str) -> dict[str, str]:
    links = page(f"notebooks/{chapter}").links
    return {text: address for kind, address, text in links if kind == "handbook-code"}


@built
@every_chapter
def test_code_of_every_chapter_is_linked(chapter):
    """What the static analysis finds in the visible cells, and what is documented, is linked."""
    scope, expected = names.Scope(), set()
    external = {name for library in inventories.LIBRARIES for name in listed(library)}
    own = {f"{module}.{name}" for module in MODULES for name in names.public_names(module)}
    content = nbformat.read(NOTEBOOKS / f"{chapter}.ipynb", nbformat.NO_CONVERT)
    for cell in content.cells:
        if cell.cell_type != "code":
            continue
        uses = names.uses(cell.source, scope)
        if "remove-cell" not in cell.metadata.get("tags", []):
            expected |= {use.names for use in uses if set(use.names) & (external | own)}
    titles = re.findall(
        r'class="handbook-code" href="[^"]*" title="([^"]*)"',
        (HTML / f"notebooks/{chapter}.html").read_text(encoding="utf-8"),
    )
    assert [use for use in expected if not set(use) & set(titles)] == []


@built
def test_links_lead_where_they_should():
    links = code_links("02-attention")
    address = "../book/api/attention.html#helpers.attention.scaled_dot_product_attention"
    assert links["attention.scaled_dot_product_attention"] == address
    pytorch = "https://docs.pytorch.org/docs/stable/generated/"
    assert links["torch.softmax"] == f"{pytorch}torch.softmax.html#torch.softmax"
    assert links["F.cross_entropy"].startswith(f"{pytorch}torch.nn.functional.cross_entropy.html")
    links = code_links("08-imdb")
    hugging_face = "https://huggingface.co/docs/"
    assert (
        links["Trainer"] == f"{hugging_face}transformers/main_classes/trainer#transformers.Trainer"
    )
    assert links["load_dataset"].startswith(f"{hugging_face}datasets/package_reference/")


@built
@every_chapter
def test_links_in_code_lead_to_pages_that_are_there_or_to_known_libraries(chapter):
    bases = tuple(library.base for library in inventories.LIBRARIES.values())
    for text, address in code_links(chapter).items():
        if address.startswith("https://"):
            assert address.startswith(bases), (text, address)
        else:
            file, _, anchor = address.partition("#")
            target = (HTML / "notebooks" / file).resolve().relative_to(HTML.resolve())
            assert anchor in page(target.with_suffix("").as_posix()).ids, (text, address)


@built
@every_chapter
def test_a_name_is_linked_once_in_a_section(chapter):
    """Else a reader with a keyboard passes hundreds of links."""
    text = (HTML / f"notebooks/{chapter}.html").read_text(encoding="utf-8")
    headings = [match.start() for match in re.finditer(r"<h2\b", text)]
    for begin, end in pairwise([0, *headings, len(text)]):
        titles = re.findall(r'class="handbook-code"[^>]*title="([^"]*)"', text[begin:end])
        assert [title for title, count in Counter(titles).items() if count > 1] == []


@built
@every_chapter
def test_links_leave_the_code_as_it_was(chapter):
    """What a copy button copies, and what is read aloud, is the source of the cell."""
    text = (HTML / f"notebooks/{chapter}.html").read_text(encoding="utf-8")
    blocks = re.findall(
        r'<div class="highlight-ipython3[^>]*>.*?<pre\b[^>]*>(.*?)</pre>', text, re.DOTALL
    )
    shown = {unescape(re.sub(r"<[^>]*>", "", block)).strip() for block in blocks}
    content = nbformat.read(NOTEBOOKS / f"{chapter}.ipynb", nbformat.NO_CONVERT)
    visible = [
        cell.source.strip()
        for cell in content.cells
        if cell.cell_type == "code" and "remove-cell" not in cell.metadata.get("tags", [])
    ]
    assert [source for source in visible if source not in shown] == []


# --- glossary -----------------------------------------------------------------------

# The Chinese terms of the article: of its titles, its lists, and its formulas.
ARTICLE = re.findall(
    r"\S+",
    """
    人工智能 计算机视觉 自然语言处理 推荐系统 机器学习 深度学习 开源 开源社区 生成式AI
    预训练模型 数据集 注意力机制 神经网络 架构 序列 编码器 解码器 向量 无标注数据 下游任务
    微调 迁移 文本分类 机器翻译 问答系统 子词 训练循环 优化器 学习率 学习率调度
    混合精度训练 梯度 梯度累积 分布式训练 模型并行 查询 键 值 点积 注意力分数 注意力权重
    缩放因子 多头注意力机制 头 拼接 掩码语言模型 下一句预测 掩码 参数 初始化 训练数据
    验证集 测试集 评估 层 缩放点积注意力 矩阵 维度 收敛 线性变换 投影 负对数似然
    条件概率 损失函数 交叉熵损失函数 样本 标签 one-hot向量 概率 准确率 批大小 训练轮数
    情感分析 新闻分类 垃圾邮件检测 二分类 输出层 评估策略 评估指标 训练参数 权重衰减
    分词器 训练器 数字ID
    """,
)


def test_every_term_of_the_article_is_in_the_glossary():
    known = {name for term in glossary.terms() for name in term.chinese}
    assert sorted(set(ARTICLE) - known) == []


def test_every_entry_has_both_languages_and_a_definition():
    for term in glossary.terms():
        assert term.english, term
        assert term.chinese, term
        plain = re.sub(r"\[[^\]]*\]\([^)]*\)", "", term.definition)
        assert len(plain.split()) >= 4, term
        assert term.definition.endswith("."), term


def test_entries_are_sorted_and_none_occurs_twice():
    first = [term.english[0].casefold() for term in glossary.terms()]
    assert first == sorted(first)
    every = [name.casefold() for t in glossary.terms() for name in (*t.english, *t.chinese)]
    assert [name for name, count in Counter(every).items() if count > 1] == []


def test_an_entry_says_where_it_is_explained_or_why_not():
    for term in glossary.terms():
        background = ("learning", "language", "vision", "open source", "systems", "recommender")
        assert (
            term.places
            or re.search(r"Chapters? \d\d|article-map|Not treated", term.definition)
            or any(word in " ".join(term.english) for word in background)
        ), term


def test_terms_that_the_chapters_stress_are_in_the_glossary():
    """What a chapter sets in bold as a new term must be explained here."""
    known = {name.casefold() for term in glossary.terms() for name in term.english}
    for chapter in ("02-attention", "03-transformer"):
        text = " ".join(cells(chapter, "markdown"))
        for word in re.findall(r"\*\*([A-Za-z -]+?)\*\*", text):
            about = word.casefold().rstrip("s")
            if about in {name.rstrip("s") for name in known}:
                continue
            assert about in STRESSED, f"{chapter}: is {word!r} a term? Then the glossary needs it"


# Set in bold for another reason than being a term.
STRESSED = {
    "after this chapter you can", "not", "order", "place", "already written", "how far apart",
    "the same", "after", "before", "between", "within", "average", "write", "no position",
    "no causal mask", "no warm-up", "one head", "day", "one",
}  # fmt: skip


@built
def test_chinese_terms_say_that_they_are_chinese():
    text = (HTML / "book/glossary.html").read_text(encoding="utf-8")
    tagged = re.findall(r'<dt[^>]*lang="zh-hans"[^>]*>([^<]*)', text)
    expected = [name for term in glossary.terms() for name in term.chinese]
    assert [name.strip() for name in tagged] == expected


# --- bibliography -------------------------------------------------------------------


def test_every_paper_that_is_linked_has_an_entry():
    assert papers.missing() == []


def test_every_entry_is_cited_and_complete():
    seen: set[str] = set()
    for key, entry in papers.entries().entries.items():
        assert papers.cited_in(key), f"{key} is cited nowhere"
        assert entry.persons.get("author"), key
        assert re.fullmatch(r"(19|20)\d\d", entry.fields["year"]), key
        assert key == f"{entry.persons['author'][0].last_names[0].lower()}{entry.fields['year']}"
        venue = {"article": "journal", "inproceedings": "booktitle", "misc": "eprint"}[entry.type]
        assert entry.fields.get(venue), f"{key} lacks its {venue}"
        assert "others" not in str(entry.persons["author"][-1]), f"{key}: name all authors"
        assert not papers.identifiers(entry) & seen, f"{key} is there twice"
        seen |= papers.identifiers(entry)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[x](https://arxiv.org/abs/1706.03762).", {"arxiv:1706.03762"}),
        ("https://arxiv.org/pdf/1706.03762v5", {"arxiv:1706.03762"}),
        ("[x](https://doi.org/10.1162/08997669830), 1998", {"doi:10.1162/08997669830"}),
        ("[x](https://aclanthology.org/P11-1015/)", {"acl:p11-1015"}),
        ("[x](https://aclanthology.org/2020.emnlp-main.1)", {"acl:2020.emnlp-main.1"}),
        ("https://example.org/1706.03762", set()),
    ],
)  # fmt: skip
def test_papers_are_known_by_their_links(text, expected):
    assert papers.papers_in(text) == expected


@built
def test_the_bibliography_names_every_paper_and_where_it_is_cited():
    reader = page("book/bibliography")
    addresses = [address for _, address, _ in reader.links]
    for key, entry in papers.entries().entries.items():
        for place in papers.cited_in(key):
            if not place.startswith("helpers/"):
                assert f"../notebooks/{place}.html" in addresses, key
        if "eprint" in entry.fields:
            assert any(entry.fields["eprint"] in address for address in addresses), key
    cited = [text for _, address, text in reader.links if address.startswith("../notebooks/")]
    pairs = sum(
        not place.startswith("helpers/")
        for key in papers.entries().entries
        for place in papers.cited_in(key)
    )
    assert sum(text.startswith("chapter ") for text in cited) == pairs


# --- index --------------------------------------------------------------------------


def test_every_entry_of_the_index_leads_to_a_section():
    lost = [
        (chapter, anchor)
        for chapter, anchor in glossary.index_entries()
        if chapter not in CHAPTERS or anchor not in glossary.anchors(chapter)
    ]
    assert lost == []


@every_chapter
def test_the_index_leads_into_every_chapter(chapter):
    places = {anchor for name, anchor in glossary.index_entries() if name == chapter}
    assert len(places) >= 3, f"{chapter}: add terms to book/glossary.md or book/index-entries.yml"


@built
def test_the_index_holds_terms_sections_and_functions():
    reader = page("book/subject-index")
    addresses = {address for _, address, _ in reader.links}
    for (chapter, anchor), _ in glossary.index_entries().items():
        ids = page(f"notebooks/{chapter}").ids
        mine = {a.partition("#")[2] for a in addresses if f"notebooks/{chapter}.html#" in a}
        assert anchor in mine or mine & ids, (chapter, anchor)
        assert mine <= ids
    for module in MODULES:
        for name in names.public_names(module):
            target = f"api/{module.removeprefix('helpers.')}.html#{module}.{name}"
            assert any(address.endswith(target) for address in addresses), target
    for term in glossary.terms():
        assert any("glossary.html#term-" in a for a in addresses), term


# --- notation -----------------------------------------------------------------------

NOTATION = ROOT / "book" / "notation.md"
# What is no symbol of ours: operators, functions everybody knows, spacing, environments.
OPERATORS = set(
    re.findall(
        r"\S+",
        r"""
        \frac \sqrt \sum \max \min \log \ln \sin \cos \partial \top \infty \cdot \times \odot
        \leftarrow \approx \in \dots \quad \qquad \left \right \lvert \rvert \le \ge
        """,
    )
)
OLD_AND_NEW = {r"\text{old}", r"\text{new}", r"\text{so}"}


def formulas(text: str) -> list[str]:
    """The formulas of a Markdown text, code left out."""
    text = re.sub(r"(?ms)^```.*?^```|`[^`\n]*`", "", text)
    pairs = re.findall(r"\$\$(.+?)\$\$|(?<![\\$])\$([^$\n]+)\$(?!\$)", text, re.DOTALL)
    return [displayed or inline for displayed, inline in pairs]


def rows() -> list[list[str]]:
    found = []
    for line in NOTATION.read_text(encoding="utf-8").splitlines():
        if line.startswith("| ") and not line.startswith(("| symbol", "| ---")):
            found.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return found


def symbols() -> dict[str, list[str]]:
    """Each symbol, without spaces, with its row."""
    found: dict[str, list[str]] = {}
    for row in rows():
        for symbol in re.findall(r"\$([^$]+)\$", row[0]):
            symbol = symbol.replace(" ", "")
            assert symbol not in found, f"{symbol} has two meanings"
            found[symbol] = row
    return found


def parts_of(formula: str, known: dict[str, list[str]]) -> tuple[set[str], set[str]]:
    """Return the symbols of the table that a formula uses, and what is in no table."""
    formula = re.sub(r"\\tag\{[^}]*\}|\\(begin|end)\{[^}]*\}|\\[,;:! ]|\\\\", " ", formula)
    formula = re.sub(r"\s+(?![A-Za-z])|(?<![A-Za-z])\s+", "", formula)
    longest = sorted((re.escape(s) for s in known), key=len, reverse=True)
    # A command such as \in must not be found inside another one such as \infty.
    pattern = "|".join([rf"(?:{s})(?![A-Za-z])" if s[-1].isalpha() and s.startswith(r"\\") else s
                        for s in longest])  # fmt: skip
    tokens = re.findall(
        rf"{pattern}|\\text\{{[^}}]*\}}|\\operatorname\{{[^}}]*\}}|\\[A-Za-z]+|[A-Za-z]", formula
    )
    used = {token for token in tokens if token in known}
    return used, set(tokens) - used - OPERATORS - OLD_AND_NEW


def test_formulas_are_read():
    known = {
        s: ["row"] for s in (r"d_\text{model}", "PE", "P", "X", "i", r"\omega_i", r"\hat{y}", "e")
    }
    used, unknown = parts_of(r"\sqrt{d_\text{model}} \cdot PE(i)", known)
    assert (used, unknown) == ({r"d_\text{model}", "PE", "i"}, set())
    used, unknown = parts_of(r"PX + \omega_i + q_i \tag{3}", known)
    assert (used, unknown) == ({"P", "X", r"\omega_i", "i"}, {"q"})
    used, unknown = parts_of(r"e^{-\infty} \approx \hat{y}_i", known)
    assert (used, unknown) == ({"e", r"\hat{y}", "i"}, set())
    assert formulas("a $x$ and `$no$` costs \\$5\n$$\ny\n$$") == ["x", "\ny\n"]


@every_chapter
def test_every_symbol_of_a_formula_is_in_the_table(chapter):
    known = symbols()
    lost = {
        formula: unknown
        for text in cells(chapter, "markdown")
        for formula in formulas(text)
        if (unknown := parts_of(formula, known)[1])
    }
    assert lost == {}, "book/notation.md lists the symbols"


def test_every_symbol_is_used_and_its_first_chapter_is_right():
    known, first = symbols(), {}
    for chapter in CHAPTERS:
        for text in cells(chapter, "markdown"):
            for formula in formulas(text):
                for symbol in parts_of(formula, known)[0]:
                    first.setdefault(symbol, chapter[:2])
    assert set(known) == set(first), "a row whose symbols no chapter uses"
    for row in rows():
        stated = {first[s.replace(" ", "")] for s in re.findall(r"\$([^$]+)\$", row[0])}
        assert min(stated) == row[4], row[0]


@cache
def identifiers() -> set[str]:
    """Every name in the code of the chapters, the helpers, and the layers of torch."""
    from IPython.core.inputtransformer2 import TransformerManager

    transform = TransformerManager().transform_cell
    sources = [p.read_text(encoding="utf-8") for p in (ROOT / "helpers").rglob("*.py")]
    sources += [transform(source) for chapter in CHAPTERS for source in cells(chapter, "code")]
    found = {"in_features", "out_features"}  # of torch.nn.Linear
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            for field in ("id", "attr", "arg", "name"):
                value = getattr(node, field, None)
                found |= {value} if isinstance(value, str) else set()
        # Sizes that stand in docstrings, in the shapes of arguments.
        found |= set(re.findall(r"\bn_\w+\b", source))
    return found


def test_every_name_in_code_is_in_the_code():
    named = {name for row in rows() for name in re.findall(r"`([^`]+)`", row[1])}
    assert all(re.findall(r"`[^`]+`", row[1]) for row in rows())
    assert sorted(named - identifiers()) == []


# --- the whole ----------------------------------------------------------------------


def test_the_reference_pages_are_in_the_table_of_contents():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    (part,) = [part for part in toc["parts"] if part["caption"] == "Proof and reference"]
    pages = {entry["file"]: entry for entry in part["chapters"] if "file" in entry}
    wanted = {"api", "glossary", "notation", "bibliography", "subject-index"}
    assert {f"book/{name}" for name in wanted} <= set(pages)
    assert {"glob": "book/api/*"} in part["chapters"]


@built
@pytest.mark.parametrize(
    "path", sorted((HTML / "book" / "api").glob("*.html")), ids=lambda p: p.stem
)
def test_every_signature_could_be_read(path):
    """Sphinx leaves a tilde before a type where it could not read a signature and link it."""
    text = unescape(re.sub(r"<[^>]+>", "", path.read_text(encoding="utf-8")))
    assert re.findall(r"~[\w.]+|= <[^>]*>", text) == []


def test_nothing_is_left_out_of_the_strict_build():
    """Only names that no documentation can have are excused from resolving."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["sphinx"]["config"]
    assert config["nitpick_ignore_regex"] == [["py:class", "helpers.profiles.T"]]
    assert "intersphinx_mapping" not in config, "inventories are local: book/_inventories"


def test_generated_pages_are_not_committed():
    assert "/book/api/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert Path(ROOT / "book" / "_inventories").is_dir()
