"""Table in LaTeX for a paper: reports/table.tex, which needs the package booktabs.

It is the Markdown table cell by cell, so that the two cannot differ.
"""

import re
from collections.abc import Sequence

from pipeline.reporting import columns
from pipeline.reporting.rows import Table, common

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "–": "--",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≈": r"$\approx$",
    "→": r"$\to$",
    "∞": r"$\infty$",
    "−": "$-$",
    "σ": r"$\sigma$",
    "ε": r"$\epsilon$",
    "²": r"\textsuperscript{2}",
    "₁": r"\textsubscript{1}",
}
_MARKED = re.compile(r"\*\*(?P<bold>.+?)\*\*|`(?P<code>[^`]+)`")


def latex_table(found: Table) -> str:
    """A `table*` environment: papers' rows, ours, the floor, divided by rules; the lowest FID in bold."""
    shown = columns.filled(columns.result_columns(found), [*found.published, *found.rows])
    ours = [row for row in found.rows if not row.is_floor]
    blocks: list[Sequence[columns.Entry]] = [found.published, ours, found.floors()]
    bodies = ["\n".join(_line(shown, entry) for entry in block) for block in blocks if block]
    spec = "".join(_side(column) for column in shown)
    head = " & ".join(_head(column) for column in shown)
    return "\n".join(
        [
            r"% needs \usepackage{booktabs} and \usepackage{graphicx}; shrinks where the page is too narrow",
            r"\begin{table*}",
            r"\centering\footnotesize\setlength{\tabcolsep}{3.5pt}",
            rf"\caption{{{_caption(found)}}}",
            rf"\label{{tab:{re.sub(r'[^a-z0-9]+', '-', found.data.lower())}}}",
            r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{@{{}}{spec}@{{}}}}",
            r"\toprule",
            rf"{head} \\",
            r"\midrule",
            "\n\\midrule\n".join(bodies),
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table*}",
            "",
        ]
    )


def escaped(text: str) -> str:
    """Markdown's inline text as LaTeX: bold and code as such, every special character as itself."""
    out, end = "", 0
    for match in _MARKED.finditer(text):
        kind = "textbf" if match["bold"] else "texttt"
        out += _plain(text[end : match.start()]) + rf"\{kind}{{{escaped(match['bold'] or match['code'])}}}"
        end = match.end()
    return out + _plain(text[end:])


def _plain(text: str) -> str:
    return "".join(_SPECIAL.get(sign, sign) for sign in text)


def _head(column: columns.Column) -> str:
    """A title; of several words on two lines as even as can be."""
    words = column.title.split(" ")
    splits = [(" ".join(words[:i]), " ".join(words[i:])) for i in range(1, len(words))]
    if not splits:
        return escaped(column.title)
    upper, lower = min(splits, key=lambda split: max(len(split[0]), len(split[1])))
    return rf"\shortstack[{_side(column)}]{{{escaped(upper)}\\{escaped(lower)}}}"


def _side(column: columns.Column) -> str:
    return "r" if column.numeric else "l"


def _line(shown: Sequence[columns.Column], entry: columns.Entry) -> str:
    return " & ".join(escaped(column.cell(entry)) for column in shown) + r" \\"


def _caption(found: Table) -> str:
    counts = " or ".join(f"{n:,}" for n in columns.sample_counts(found)) or "no"
    parts = [f"Results on {found.data}, each on {counts} samples (N); the lowest FID in bold."]
    parts += [
        f"{title}: {value}."
        for title, name in (("Evaluator", "evaluator"), ("Reference set", "reference_set"))
        if (value := common(found.rows, name))
    ]
    parts += [f"{text}." for text in columns.checkpoint_lines(found)]
    return escaped(" ".join(parts))
