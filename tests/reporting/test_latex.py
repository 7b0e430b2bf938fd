"""The table in LaTeX: the cells of the Markdown, escaped, in a form that LaTeX can set."""

import re
from collections.abc import Callable

import pytest

from pipeline.reporting import columns, latex
from pipeline.reporting.rows import FLOOR, Row, Table


def cells(text: str) -> list[list[str]]:
    """The lines between the rules, split; the head left out."""
    body = text.split(r"\midrule", 1)[1].split(r"\bottomrule")[0]
    lines = [line.removesuffix(r" \\") for line in body.splitlines() if line.endswith(r"\\")]
    return [re.split(r" & ", line) for line in lines]


def plain(cell: str) -> str:
    """A cell as Markdown has it: the inverse of what the escaping is meant to do."""
    cell = re.sub(r"\\textbf\{(.*?)\}", r"**\1**", cell)
    cell = re.sub(r"\\texttt\{(.*?)\}", r"`\1`", cell)
    cell = cell.replace(r"$\pm$", "±").replace("--", "–")
    return re.sub(r"\\([&%$#_{}])", r"\1", cell)


@pytest.mark.parametrize(("name", "size"), [("digits", 8), ("cifar10", 32)])
def test_every_cell_is_the_markdown_tables(build: Callable[..., Table], name: str, size: int) -> None:
    table = build(name, size)
    shown = columns.result_columns(table)
    text = latex.latex_table(table)
    entries = [*table.published, *table.rows]
    expected = [[column.cell(entry) for column in shown] for entry in entries]
    assert not [i for i in range(len(shown)) if {row[i] for row in expected} <= {"–", "none"}], "a column says nothing"
    assert [[plain(cell) for cell in line] for line in cells(text)] == expected
    assert sum(cell.startswith(r"\textbf") for line in cells(text) for cell in line) == 1
    spec = re.search(r"\\begin\{tabular\}\{@\{\}([lr]+)@\{\}\}", text)
    assert spec and len(spec[1]) == len(expected[0])


def test_papers_ours_and_the_floor_are_divided_by_rules(build: Callable[..., Table]) -> None:
    text = latex.latex_table(build("cifar10", 32))
    blocks = text.split(r"\midrule")[1:]
    assert [("PixelCNN" in b, r"\texttt{tuned}" in b, FLOOR in b) for b in blocks] == [
        (True, False, False),
        (False, True, False),
        (False, False, True),
    ]


def test_the_caption_names_data_count_and_evaluator(build: Callable[..., Table]) -> None:
    caption = next(line for line in latex.latex_table(build()).splitlines() if line.startswith(r"\caption"))
    assert all(word in caption for word in ("digits", "720 samples (N)", "bold", "CNN, 64 features"))


@pytest.mark.parametrize("sign", list("&%$#_{}~^\\"))
def test_no_special_character_is_left_as_it_is(sign: str, make_row: Callable[..., Row]) -> None:
    row = make_row(f"a{sign}b", True, 1.0, evaluator=f"E{sign}")
    text = latex.latex_table(Table(f"d{sign}", "", (), (row,)))
    assert latex.escaped(f"a{sign}b") in text and latex.escaped(f"a{sign}b") != f"a{sign}b"
    body = text.split(r"\begin{tabular}")[1].split(r"\end")[0]
    unescaped = re.sub(r"\\text(asciitilde|asciicircum|backslash)\{\}|\\.", "", body)
    assert unescaped.count("{") == unescaped.count("}")
    for line in body.splitlines():
        if line.startswith(r"\texttt"):
            assert len(re.findall(r"(?<!\\)&", line)) == len(cells(text)[0]) - 1


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("**1.5**", r"\textbf{1.5}"),
        ("not run: `dvc repro evaluate@a_b`", r"not run: \texttt{dvc repro evaluate@a\_b}"),
        ("1 ± 2", r"1 $\pm$ 2"),
        ("2 * 3 ** 4", "2 * 3 ** 4"),
    ],
)
def test_inline_markdown(markdown: str, expected: str) -> None:
    assert latex.escaped(markdown) == expected
