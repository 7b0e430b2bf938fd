"""Page of the report: table, verdict, figures and provenance, as Markdown in reports/README.md."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.reporting import tables
from pipeline.reporting.columns import DASH, NOT_RUN
from pipeline.reporting.figures.style import FigureEntry, Picture
from pipeline.reporting.rows import Table

FIGURES = "figures"

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


@dataclass(frozen=True)
class PageSection:
    """Section of the page: a title, Markdown text, and a figure above the text; either may be missing."""

    title: str
    text: str = ""
    figure: FigureEntry | None = None


def sections(
    table: Table,
    shown: Sequence[FigureEntry],
    samplers: Mapping[str, Mapping[str, Any]],
    features: Mapping[str, Any],
    toy: Mapping[str, Any],
    checks: Sequence[Mapping[str, Any]] = (),
) -> list[PageSection]:
    """The page's parts in their order, the same in Markdown and in HTML.

    Args:
        samplers: row -> settings of the sampler that made its samples.
        features: metrics of the feature space.
        toy: metrics of the two-mode mixture.
        checks: the evaluator's self-test.
    """
    origin = [tables.provenance(table), *_accuracy(features), _stages()]
    return [
        PageSection("The table", "\n\n".join([tables.results_table(table), tables.verdict_lines(table)])),
        *(PageSection(figure.title, figure=figure) for figure in shown),
        *_toy_sections(toy),
        PageSection("How the samples were made", _settings(samplers)),
        PageSection("What is measured", tables.measures_table()),
        *_selftest(checks),
        PageSection("Where it comes from", "\n\n".join(origin)),
    ]


def title(table: Table) -> str:
    """What the page is called."""
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
    """The figure's caption and what makes it, in Markdown."""
    return f"*{figure.caption}* Made by `{figure.command}`."


def not_run(figure: FigureEntry, picture: Picture) -> str:
    """What is shown in the place of a picture whose stage has not run, in Markdown."""
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


def _toy_sections(toy: Mapping[str, Any]) -> Iterator[PageSection]:
    """The panels of the toy's Fig 3 in numbers; nothing where the stage has not run."""
    if not toy:
        return
    head = ["| Samples of the mixture | In the heavier mode | Std within a mode |", "| :-- | --: | --: |"]
    lines = [f"| {name} | {p['fraction']:.3f} | {p['spread']:.3f} |" for name, p in toy["panels"].items()]
    yield PageSection("Toy: in numbers", "\n".join([*head, "| the mixture itself | 0.8 | 1 |", *lines]))


def _selftest(checks: Sequence[Mapping[str, Any]]) -> Iterator[PageSection]:
    """What the evaluator answered where the answer is known; nothing where it was not asked."""
    if not checks:
        return
    head = ["| Asked before anything is scored | Known | Found | Tolerance |", "| :-- | --: | --: | --: |"]
    lines = [
        f"| {c['name']} | {c['expected']:.6g} | {c['found']:.6g} | {c['tolerance']:.1e} |" for c in checks
    ]
    yield PageSection("The evaluator's self-test", "\n".join([*head, *lines]))


def _settings(samplers: Mapping[str, Mapping[str, Any]]) -> str:
    head = ["Row", *(title for title, _ in SETTINGS)]
    lines = [head, [":--", *("--:" for _ in SETTINGS)]]
    for row, settings in samplers.items():
        lines.append([f"`{row}`", *(_setting(settings.get(key)) for _, key in SETTINGS)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _setting(value: Any) -> str:
    if value is None:
        return DASH
    return f"`{value}`" if isinstance(value, str) else f"{value:.4g}"


def _accuracy(features: Mapping[str, Any]) -> Iterator[str]:
    """How good the classifier of the feature space is; nothing for one that others have trained."""
    if not features:
        yield f"The feature space: {NOT_RUN}: `dvc repro features`"
    elif (accuracy := features.get("held_out_accuracy")) is not None:
        yield f"The classifier of the feature space names {accuracy:.2%} of the held-out images correctly."


def _stages() -> str:
    head = ["| Made by | What | Decided in params.yaml by |", "| :-- | :-- | :-- |"]
    return "\n".join([*head, *(f"| `dvc repro {name}` | {what} | {key} |" for name, what, key in STAGES)])
