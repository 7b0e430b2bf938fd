"""reports/README.md: the table, the verdict, the figures and where it all comes from, on one page."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.reporting import tables
from pipeline.reporting.columns import DASH, NOT_RUN
from pipeline.reporting.figures import Shown
from pipeline.reporting.rows import Table

FIGURES = "figures"

# Stage, what it makes, the sections of params.yaml that decide it.
STAGES = (
    ("prepare", "the data set and its checksums", "`data`"),
    ("reference", "the classifier whose features the evaluation uses", "`reference`"),
    ("tune_noise", "the noise range of `tuned`, and its trials", "`noise`, `tune_noise`"),
    ("train", "one network per variant, and its loss curve", "`train`, `recipes`"),
    ("tune_sampler", "step size and steps per level, and the trials", "`sampler`, `tune_sampler`"),
    ("generate", "the samples, with NFE counted and time taken", "`generate`"),
    ("evaluate", "the numbers of the table", "`evaluate`"),
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
    ("Step size ε", "step_lr"),
)


def readme(
    table: Table,
    shown: Sequence[Shown],
    samplers: Mapping[str, Mapping[str, Any]],
    reference: Mapping[str, Any],
    toy: Mapping[str, Any],
) -> str:
    """The page as Markdown; its pictures are links relative to the page.

    Args:
        samplers: variant -> settings of the sampler that made its samples.
        reference: metrics of the reference classifier.
        toy: metrics of the two-mode mixture.
    """
    first, *rest = shown
    parts = [
        f"# Results on {table.data}",
        "Every number and picture here was computed by `dvc repro` from files in `artifacts/`. The table is "
        "also there as [Markdown](table.md), [CSV](table.csv) and [JSON](table.json), and the networks have "
        "a [model card](model_card.md), the data a [card](dataset_card.md) of their own.",
        "## The table",
        tables.results(table),
        tables.verdict_lines(table),
        *_figure(first),
        *(text for figure in rest for text in _figure(figure)),
        *_toy_lines(toy),
        "## How the samples were made",
        _settings(samplers),
        "## Where it comes from",
        tables.provenance(table),
        _reference_line(reference),
        _stages(),
    ]
    return "\n\n".join(parts) + "\n"


def _figure(figure: Shown) -> list[str]:
    if not figure.files:
        return [f"## {figure.title}", f"{NOT_RUN}: `{figure.command}`"]
    picture = f"![{figure.title}]({FIGURES}/{figure.files[0]})"
    vector = "".join(f" [{name.rsplit('.')[-1].upper()}]({FIGURES}/{name})" for name in figure.files[1:])
    return [f"## {figure.title}", picture, f"*{figure.caption}* Made by `{figure.command}`.{vector}"]


def _toy_lines(toy: Mapping[str, Any]) -> list[str]:
    """The panels of the toy's Fig 3 in numbers; nothing where the stage has not run."""
    if not toy:
        return []
    head = ["| Samples of the mixture | In the heavier mode | Std within a mode |", "| :-- | --: | --: |"]
    lines = [f"| {name} | {p['fraction']:.3f} | {p['spread']:.3f} |" for name, p in toy["panels"].items()]
    return ["\n".join([*head, "| the mixture itself | 0.8 | 1 |", *lines])]


def _settings(samplers: Mapping[str, Mapping[str, Any]]) -> str:
    head = ["Variant", *(title for title, _ in SETTINGS)]
    lines = [head, [":--", *("--:" for _ in SETTINGS)]]
    for variant, settings in samplers.items():
        lines.append([f"`{variant}`", *(_setting(settings.get(key)) for _, key in SETTINGS)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _setting(value: Any) -> str:
    if value is None:
        return DASH
    return f"`{value}`" if isinstance(value, str) else f"{value:.4g}"


def _reference_line(reference: Mapping[str, Any]) -> str:
    accuracy = reference.get("held_out_accuracy")
    if accuracy is None:
        return f"Reference classifier: {NOT_RUN}: `dvc repro reference`"
    return f"The reference classifier names {accuracy:.2%} of the held-out images correctly."


def _stages() -> str:
    head = ["| Made by | What | Decided in params.yaml by |", "| :-- | :-- | :-- |"]
    return "\n".join([*head, *(f"| `dvc repro {name}` | {what} | {key} |" for name, what, key in STAGES)])
