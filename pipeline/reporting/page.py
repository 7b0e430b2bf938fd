"""Page of the report: table, verdict, figures and provenance, as reports/README.md and reports/index.html."""

import base64
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup
from PIL import Image

from pipeline.metrics.selftest import KnownAnswer
from pipeline.ncsn.sampler import Sampler
from pipeline.reporting import tables, verdict
from pipeline.reporting.columns import DASH, NOT_RUN, pipe_table
from pipeline.reporting.figures import style
from pipeline.reporting.figures.style import FigureEntry, Picture
from pipeline.reporting.rows import Table

FIGURES = "figures"
RESULT, SEARCHES, BACKGROUND = GROUPS = ("Result", "Searches", "Background")
"""Groups of the page's sections, in order; all but the first are folded."""
GROUP_OF = {
    "dvc repro generate": RESULT,
    "dvc repro evaluate": RESULT,
    "dvc repro frontier": RESULT,
    "dvc repro tune_sampler": SEARCHES,
    "dvc repro tune_noise": SEARCHES,
}
"""By what makes a figure's data; the others are background."""

# Stage, what it makes, the sections of params.yaml that decide it.
STAGES = (
    ("prepare", "the data set and its checksums", "`data`"),
    ("features", "the feature space of the evaluation", "`features`"),
    ("tune_noise", "the search for a noise range, and its trials", "`tune_noise`"),
    ("settle_noise", "the noise range of each network", "`noise`"),
    ("train", "the networks and their loss curves", "`networks`, `train`, `recipes`"),
    ("tune_sampler", "the search for a sampler, and its trials", "`tune_sampler`"),
    ("settle_sampler", "the sampler of each row", "`rows`, `sampler`"),
    ("generate", "the samples, with NFE counted and time taken", "`generate`"),
    ("evaluate", "the numbers of the table", "`evaluate`"),
    ("frontier", "FID against network evaluations, for every kind of sampler", "`frontier`"),
    ("toy", "the two-mode mixture", "`toy`"),
    ("report", "this page", "`report`"),
)
SETTINGS = (
    ("Sampler", "kind"),
    ("σ₁", "sigma_max"),
    ("σ_L", "sigma_min"),
    ("Levels L", "num_levels"),
    ("ρ", "rho"),
    ("Steps per level T", "steps_per_level"),
    ("Step size ε", "step_size"),
)

TYPES = {".png": "image/png", ".svg": "image/svg+xml"}
FULL = style.WIDTH * style.DPI
"""Pixels of a PNG that fills the page; a narrower one fills less, so that all texts have one size."""
COLOURS = {
    "ground": ("#ffffff", "#16181d"),
    "ink": (style.INK, "#e8e8e6"),
    "soft": (style.GREY, "#a3a8b0"),
    "rule": (style.RULE, "#343941"),
}
"""The neutral colours of page and figures alike, on a light screen and on a dark one."""


class FeatureNumbers(TypedDict):
    """Metrics of the feature space: metrics/features.json."""

    held_out_accuracy: NotRequired[float]
    """Of the classifier; missing for a network that others have trained."""


class PanelNumbers(TypedDict):
    """Numbers of one panel of the toy's Fig 3."""

    fraction: float
    """Share of the samples in the heavier mode."""
    spread: float
    """Standard deviation within a mode."""


class ToyNumbers(TypedDict):
    """Metrics of the two-mode mixture: toy/numbers.json."""

    panels: dict[str, PanelNumbers]


@dataclass(frozen=True)
class PageSection:
    """Section of the page: a title, Markdown text, and a figure above the text; either may be missing."""

    title: str
    text: str = ""
    figure: FigureEntry | None = None
    group: str = BACKGROUND

    @property
    def folded(self) -> bool:
        """Whether the page shows it only when it is opened."""
        return self.group != RESULT


def sections(
    table: Table,
    shown: Sequence[FigureEntry],
    samplers: Mapping[str, Sampler],
    features: FeatureNumbers | None,
    toy: ToyNumbers | None,
    checks: Sequence[KnownAnswer] = (),
    hero: FigureEntry | None = None,
) -> list[PageSection]:
    """Sections of the page in order, the same in Markdown and in HTML.

    Args:
        samplers: by row, what drew its samples.
        features, toy: None where the stage has not run.
        checks: the evaluator's self-test.
        hero: real images beside the best row's samples.
    """
    origin = [tables.provenance(table), *_accuracy(features), _stages()]
    found = [
        *_hero(table, hero),
        PageSection("The table", _join(tables.results_table(table), tables.verdict_lines(table)), group=RESULT),
        *(PageSection(one.title, figure=one, group=GROUP_OF.get(one.command, BACKGROUND)) for one in shown),
        *_toy_sections(toy),
        PageSection("How the samples were made", _settings(samplers)),
        PageSection("What is measured", tables.measures_table()),
        *_selftest(checks),
        PageSection("Where it comes from", _join(*origin)),
    ]
    return sorted(found, key=lambda part: GROUPS.index(part.group))


def _join(*texts: str) -> str:
    return "\n\n".join(texts)


def _hero(table: Table, figure: FigureEntry | None) -> Iterator[PageSection]:
    """What was found, in a sentence under the best row's samples; nothing where no row was measured."""
    best = verdict.best(table)
    if best is None:
        return
    ratio = next(found.ratio for found in verdict.against_floor(table) if found.row is best)
    floor = f" ({ratio:.2f} times that of real images)" if ratio else ""
    cost = f", at {best.nfe:,} network evaluations a sample" if best.nfe is not None else ""
    found = f"Nearest to real images is `{best.system}` {best.how}: FID {best.fid:.3g}{floor}{cost} (N={best.n:,})."
    yield PageSection("What was found", found, figure, RESULT)


def title(table: Table) -> str:
    """Title of the page."""
    return f"Results on {table.data}"


def readme(table: Table, parts: Sequence[PageSection]) -> str:
    """The page as Markdown; its pictures are links relative to the page."""
    text = [
        f"# {title(table)}",
        "Every number and picture here was computed by `dvc repro` from files in `artifacts/`. The table is "
        "also there as [Markdown](table.md), [CSV](table.csv), [JSON](table.json) and [LaTeX](table.tex), "
        "the page as [one file](index.html); the networks have a [model card](model_card.md), the data a "
        "[card](dataset_card.md) of their own.",
    ]
    for part in parts:
        text.append(f"## {part.title}")
        text += [*(_figure(part.figure) if part.figure else []), *([part.text] if part.text else [])]
    return "\n\n".join(text) + "\n"


def made_by(figure: FigureEntry) -> str:
    """Caption of a figure and the command that makes it, in Markdown."""
    return f"*{figure.caption}* Made by `{figure.command}`."


def not_run(figure: FigureEntry, picture: Picture) -> str:
    """Placeholder of a picture whose stage has not run, in Markdown."""
    return f"{NOT_RUN}: `{figure.command}{f'@{picture.label}' if picture.label else ''}`"


def _figure(figure: FigureEntry) -> Iterator[str]:
    for picture in figure.pictures:
        if picture.label:
            yield f"**{picture.label}**"
        if not picture.files:
            yield not_run(figure, picture)
            continue
        name = f"{figure.title}: {picture.label}" if picture.label else figure.title
        vector = "".join(f" [{end.rsplit('.')[-1].upper()}]({FIGURES}/{end})" for end in picture.files[1:])
        yield f"![{name}]({FIGURES}/{picture.files[0]}){vector}"
    if figure.drawn:
        yield made_by(figure)


def _toy_sections(toy: ToyNumbers | None) -> Iterator[PageSection]:
    """The panels of the toy's Fig 3 in numbers; nothing where the stage has not run."""
    if not toy:
        return
    head = ("Samples of the mixture", "In the heavier mode", "Std within a mode")
    lines = [(name, f"{p['fraction']:.3f}", f"{p['spread']:.3f}") for name, p in toy["panels"].items()]
    yield PageSection("Toy: in numbers", pipe_table(head, "lrr", [("the mixture itself", "0.8", "1"), *lines]))


def _selftest(checks: Sequence[KnownAnswer]) -> Iterator[PageSection]:
    """The evaluator's answers where the right ones are known; nothing without a self-test."""
    if not checks:
        return
    head = ("Asked before anything is scored", "Known", "Found", "Tolerance")
    lines = [(c["name"], f"{c['expected']:.6g}", f"{c['found']:.6g}", f"{c['tolerance']:.1e}") for c in checks]
    yield PageSection("The evaluator's self-test", pipe_table(head, "lrrr", lines))


def _settings(samplers: Mapping[str, Sampler]) -> str:
    plain = {row: sampler.plain() for row, sampler in samplers.items()}
    used = [(title, key) for title, key in SETTINGS if any(key in own for own in plain.values())]
    lines = [[f"`{row}`", *(_setting(own.get(key)) for _, key in used)] for row, own in plain.items()]
    return pipe_table(["Row", *(title for title, _ in used)], "l" + "r" * len(used), lines)


def _setting(value: str | float | None) -> str:
    if value is None:
        return DASH
    return f"`{value}`" if isinstance(value, str) else f"{value:.4g}"


def _accuracy(features: FeatureNumbers | None) -> Iterator[str]:
    """How good the classifier of the feature space is; nothing for one that others have trained."""
    if not features:
        yield f"The feature space: {NOT_RUN}: `dvc repro features`"
    elif (accuracy := features.get("held_out_accuracy")) is not None:
        yield f"The classifier of the feature space names {accuracy:.2%} of the held-out images correctly."


def _stages() -> str:
    lines = [(f"`dvc repro {name}`", what, key) for name, what, key in STAGES]
    return pipe_table(("Made by", "What", "Decided in params.yaml by"), "lll", lines)


def html_page(title: str, parts: Sequence[PageSection], figures: Path) -> str:
    """The page as HTML with every picture in it; the same parts give the same bytes.

    Args:
        parts: the page's parts; their texts are Markdown, escaped where they hold HTML.
        figures: the folder of the pictures.
    """
    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"markdown": _markdown, "anchor": _anchor, "line": _line}
    environment.globals |= {
        "made_by": made_by,
        "not_run": not_run,
        "uri": lambda name: uri(figures / name),
        "still": lambda name: still(figures / name),
        "moves": lambda name: _moves(figures / name),
        "share": lambda name: _share(figures / name),
        "colours": COLOURS,
    }
    return environment.get_template("page.html.j2").render(title=title, parts=parts, groups=GROUPS)


def uri(path: Path) -> str:
    """A picture as a data URI; a vector one with the colours that it has on a dark page."""
    content = path.read_bytes()
    if path.suffix == ".svg":
        content = _themed(content.decode()).encode()
    return _uri(content, TYPES[path.suffix])


def still(path: Path) -> str:
    """The last frame of an animation as a data URI, for readers who ask for no motion."""
    with Image.open(path) as image:
        image.seek(image.n_frames - 1)  # type: ignore[attr-defined]
        out = io.BytesIO()
        image.save(out, "PNG")
    return _uri(out.getvalue(), TYPES[".png"])


def _moves(path: Path) -> bool:
    with Image.open(path) as image:
        return getattr(image, "n_frames", 1) > 1


def _share(path: Path) -> str:
    """The share of the page's width that a picture takes."""
    with Image.open(path) as image:
        return f"{min(1.0, image.width / FULL):.3f}"


def _uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _themed(svg: str) -> str:
    """An SVG whose neutral colours, written as matplotlib writes them, follow the reader's colour scheme."""
    rules = "".join(
        f'[style*="{kind}: {light.lower()}"]{{{kind}:{dark} !important}}'
        for light, dark in COLOURS.values()
        for kind in ("fill", "stroke")
    )
    themed = f"<style>@media (prefers-color-scheme:dark){{{rules}}}</style>"
    return re.sub(r"(<svg\b[^>]*>)", lambda match: match[1] + themed, svg, count=1)


_RENDERER = MarkdownIt("commonmark", {"html": False}).enable("table")


def _markdown(text: str) -> Markup:
    """Markdown as HTML, each table in a box that scrolls by itself."""
    html = _RENDERER.render(text)
    html = html.replace("<table>", '<div class="scroll" tabindex="0" role="region" aria-label="table"><table>')
    return Markup(html.replace("</table>", "</table></div>"))


def _line(text: str) -> Markup:
    return Markup(_RENDERER.renderInline(text))


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
