"""The reference: API pages, links in code, glossary, bibliography, index, notation.

Chapters and rooms are found here by themselves. What needs the built book is marked so.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections import Counter

import nbformat
import pytest
from built_pages import page

from tools import glossary, papers
from tools.cache import NOTEBOOKS, ROOT, notebooks

sys.path.insert(0, str(ROOT / "book" / "_extensions"))

import api_reference

CHAPTERS = [path.stem for path in notebooks()]
ROOMS = api_reference.rooms()
LIBRARIES = {name: address for name, _kind, address in api_reference.libraries()}
CODE = ".sphinx-codeautolink-a"

built = pytest.mark.built
every_chapter = pytest.mark.parametrize("chapter", CHAPTERS)
every_room = pytest.mark.parametrize("room", ROOMS)


def cells(chapter: str, kind: str) -> list[str]:
    """The sources of the cells of a kind that a reader of the book can see."""
    content = nbformat.read(NOTEBOOKS / f"{chapter}.ipynb", nbformat.NO_CONVERT)
    hidden = {"remove-cell", "remove-input"}
    seen = [cell for cell in content.cells if not hidden & {*cell.metadata.get("tags", [])}]
    return [cell.source for cell in seen if cell.cell_type == kind]


def offered(room: str) -> dict[str, str]:
    """The classes and functions that a reader imports from a room, with their addresses."""
    content = vars(importlib.import_module(room))
    mine = [key for key, value in content.items() if getattr(value, "__module__", None) == room]
    names = content.get("__all__", [name for name in mine if not name.startswith("_")])
    names = [n for n in names if inspect.isclass(content[n]) or inspect.isfunction(content[n])]
    return {n: f"book/api/{room.removeprefix('helpers.')}.html#{room}.{n}" for n in names}


def test_the_list_of_addresses_is_right_and_all_its_names_are_installed():
    names = [name for name, _kind, _address in api_reference.libraries()]  # raises for lost ones
    assert len(names) == len(LIBRARIES), "a name is listed twice"
    module = "https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module"
    assert LIBRARIES["torch.nn.Module.eval"] == f"{module}.eval"
    assert LIBRARIES["numpy.abs"].endswith("/numpy.absolute.html#numpy.absolute")


@built
@every_room
def test_every_room_has_a_page_that_documents_what_it_offers(room):
    name = f"book/api/{room.removeprefix('helpers.')}"
    assert {f"{room}.{thing}" for thing in offered(room)} <= page(name).ids
    assert f"{name.removeprefix('book/')}.html" in page("book/api").links()
    # Sphinx leaves a tilde before a type where it could not read a signature and link it.
    assert re.findall(r"~[\w.]+|= <[^>]*>", page(name).text) == []


@built
@every_chapter
def test_names_in_code_are_linked_and_the_code_stays_as_it_was(chapter):
    """What is copied is the source; a reader with a keyboard does not pass each link many times."""
    soup = page(f"notebooks/{chapter}").soup
    shown = {block.get_text().strip() for block in soup.select("div.highlight pre")}
    assert [source for source in cells(chapter, "code") if source.strip() not in shown] == []
    count = Counter(
        (*[around["id"] for around in link.find_parents("section")][-2:-1], link["href"])
        for link in soup.select(CODE)
    )
    assert [place for place, times in count.items() if times > 1] == []
    found = {link for *_, link in count}
    ours = found - set(LIBRARIES.values())
    assert len(found - ours) > 10
    assert len(ours) >= 3
    for link in ours:
        file, _, anchor = link.removeprefix("../").partition("#")
        assert anchor in page(file.removesuffix(".html")).ids, link


# --- glossary, index, bibliography --------------------------------------------------

# The Chinese terms of the article: of its titles, its lists, and its formulas.
ARTICLE = """
    人工智能 计算机视觉 自然语言处理 推荐系统 机器学习 深度学习 开源 开源社区 生成式AI
    预训练模型 数据集 注意力机制 神经网络 架构 序列 编码器 解码器 向量 无标注数据 下游任务
    微调 迁移 文本分类 机器翻译 问答系统 子词 训练循环 优化器 学习率 学习率调度
    混合精度训练 梯度 梯度累积 分布式训练 模型并行 查询 键 值 点积 注意力分数 注意力权重
    缩放因子 多头注意力机制 头 拼接 掩码语言模型 下一句预测 掩码 参数 初始化 训练数据
    验证集 测试集 评估 层 缩放点积注意力 矩阵 维度 收敛 线性变换 投影 负对数似然
    条件概率 损失函数 交叉熵损失函数 样本 标签 one-hot向量 概率 准确率 批大小 训练轮数
    情感分析 新闻分类 垃圾邮件检测 二分类 输出层 评估策略 评估指标 训练参数 权重衰减
    分词器 训练器 数字ID
"""


def test_the_glossary_is_complete_sorted_and_in_both_languages():
    terms = glossary.terms()
    assert set(re.findall(r"\S+", ARTICLE)) <= {name for term in terms for name in term.chinese}
    first = [term.english[0].casefold() for term in terms]
    assert first == sorted(first)
    every = [name.casefold() for term in terms for name in (*term.english, *term.chinese)]
    assert [name for name, count in Counter(every).items() if count > 1] == []
    for term in terms:
        assert all((term.english, term.chinese, re.search(r"(\S+\s+){3}.*\.$", term.definition)))


@built
def test_the_index_holds_sections_and_functions_and_chinese_is_called_chinese():
    found = page("book/subject-index").links()
    for chapter in CHAPTERS:
        mine = {a.partition("#")[2] for a in found if f"notebooks/{chapter}.html#" in a}
        assert len(mine) >= 3
        assert mine <= page(f"notebooks/{chapter}").ids
    assert {f"../{place}" for room in ROOMS for place in offered(room).values()} <= found
    tagged = page("book/glossary").soup.find_all("dt", lang="zh-hans")
    texts = [term.find(string=True).strip() for term in tagged]
    assert texts == [name for term in glossary.terms() for name in term.chinese]


def test_papers_and_entries_belong_together_and_are_complete():
    found: list[str] = []
    for key, entry in papers.entries().items():
        assert papers.cited_in(entry), f"{key} is cited nowhere"
        assert re.fullmatch(r"(19|20)\d\d", entry.fields["year"]), key
        venue = {"article": "journal", "inproceedings": "booktitle", "misc": "eprint"}[entry.type]
        assert entry.fields.get(venue), f"{key} lacks its {venue}"
        assert "others" not in str(entry.persons["author"][-1]), f"{key}: name all authors"
        found += papers.identifiers(entry)
    assert [paper for paper, count in Counter(found).items() if count > 1] == []
    lacking = {place: linked - set(found) for place, linked in papers.places().items()}
    assert {place: some for place, some in lacking.items() if some} == {}, "no entry"


@built
def test_the_bibliography_names_every_paper_and_where_it_is_cited():
    found = page("book/bibliography").links()
    for key, entry in papers.entries().items():
        chapters = [place for place in papers.cited_in(entry) if place in CHAPTERS]
        assert {f"../notebooks/{chapter}.html" for chapter in chapters} <= found, key
        assert any(entry.fields.get("eprint", "") in address for address in found), key


# --- notation -----------------------------------------------------------------------

# What is no symbol of ours: operators, functions everybody knows, spacing, words in formulas.
OPERATORS = r"""
    \frac \sqrt \sum \max \min \log \ln \sin \cos \partial \top \infty \cdot \times \odot
    \leftarrow \approx \in \cap \dots \quad \qquad \left \right \lvert \rvert \lVert \rVert \le \ge
    \text{old} \text{new} \text{so} \big \bigl \bigr
"""


def notation() -> dict[str, list[str]]:
    """Each symbol of the table, with its row."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / "book" / "notation.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| ") and not line.startswith(("| symbol", "| ---")):
            row = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for symbol in map(tight, re.findall(r"\$([^$]+)\$", row[0])):
                assert symbol not in found, f"{symbol} has two meanings"
                found[symbol] = row
    return found


def tight(formula: str) -> str:
    """A formula without its spaces, but for one that ends a command, as in ``\\bar h``."""
    return re.sub(r"\s+(?![A-Za-z])|(?<![A-Za-z])\s+", "", formula)


def symbols_of(text: str, known: dict[str, list[str]]) -> set[str]:
    """The symbols in the formulas of a Markdown text; of two known ones, the longer."""
    text = re.sub(r"(?ms)^```.*?^```|`[^`\n]*`", "", text)
    formulas = re.findall(r"\$\$.+?\$\$|(?<![\\$])\$[^$\n]+\$(?!\$)", text, re.DOTALL)
    # A command such as \in must not be found inside another one such as \infty.
    parts = [
        re.escape(symbol) + ("(?![A-Za-z])" if re.match(r"\\.*[A-Za-z]$", symbol) else "")
        for symbol in sorted(known, key=len, reverse=True)
    ]
    pattern = "|".join([*parts, r"\\(?:text|operatorname)\{[^}]*\}", r"\\[A-Za-z]+", "[A-Za-z]"])
    found: set[str] = set()
    for formula in formulas:
        plain = re.sub(r"\\tag\{[^}]*\}|\\(begin|end)\{[^}]*\}|\\[,;:! ]|\\\\", " ", formula)
        found |= set(re.findall(pattern, tight(plain))) - set(OPERATORS.split())
    return found


def test_the_table_of_symbols_is_that_of_the_chapters():
    known, first = notation(), {}
    for chapter in CHAPTERS:
        for symbol in symbols_of("\n".join(cells(chapter, "markdown")), known):
            assert symbol in known, f"{chapter}: book/notation.md does not list {symbol}"
            first.setdefault(symbol, chapter[:2])
    assert set(known) == set(first), "a row whose symbols no chapter uses"
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "helpers").rglob("*.py")]
    sources += [source for chapter in CHAPTERS for source in cells(chapter, "code")]
    words = set(re.findall(r"\w+", "\n".join(sources))) | {"in_features", "out_features"}
    for symbol, row in known.items():
        assert min(first[other] for other in known if known[other] is row) == row[4], symbol
        assert set(re.findall(r"`([^`]+)`", row[1])) & words, f"{symbol}: its name in code"
        assert set(re.findall(r"`([^`]+)`", row[1])) <= words, f"{symbol}: its name in code"
