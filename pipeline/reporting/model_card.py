"""Model card in the Hugging Face format: YAML front matter with the results, then the text.

References:
    Mitchell et al., Model Cards for Model Reporting, FAT* 2019; the fields of the front matter are those of
    the Hugging Face Hub's model card specification (`model-index` is its block of results).
"""

import io
from collections.abc import Iterator, Mapping
from typing import Any

from ruamel.yaml import YAML

from pipeline.metrics.measures import results
from pipeline.reporting import tables, verdict
from pipeline.reporting.rows import Row, Table, is_whole_split

LICENCE = "apache-2.0"
TASK = "unconditional-image-generation"
TAGS = ["score-based-model", "ncsn", "annealed-langevin-dynamics", "diffusion", "pytorch"]

ABOUT = """\
Networks that estimate the score, the gradient of the log density, of images under Gaussian noise of many
levels, and draw new images from it by annealed Langevin dynamics or by the probability-flow ODE. The
recipes are those of Song & Ermon (arXiv 1907.05600 and 2006.09011) and, where a network is trained at any
noise level, in the line of Karras et al. (arXiv 2206.00364), scaled to the data set."""
IMPORTS = [
    "pipeline.ncsn.images import to_uint8",
    "pipeline.ncsn.rng import SampleNoise",
    "pipeline.ncsn.sampler import Sampler",
]
LAW_IMPORTS = ["pipeline.data.dataset import open_dataset", "pipeline.ncsn.prior import Law"]
OPENED = 'data = open_dataset(Path("artifacts/data")).split("train")\n'
LIMITS = """\
- For research and teaching; no privacy of the training images is promised.
- FID, KID and the inception score depend on the evaluator and on N: numbers here compare with each other
  and not with papers that used another evaluator, another N or another reference set."""
CITATIONS = """\
- Y. Song, S. Ermon. Generative Modeling by Estimating Gradients of the Data Distribution. NeurIPS 2019,
  arXiv 1907.05600.
- Y. Song, S. Ermon. Improved Techniques for Training Score-Based Generative Models. NeurIPS 2020,
  arXiv 2006.09011.
- T. Karras, M. Aittala, T. Aila, S. Laine. Elucidating the Design Space of Diffusion-Based Generative Models.
  NeurIPS 2022, arXiv 2206.00364."""


def model_card(
    table: Table,
    manifest: Mapping[str, Any],
    samplers: Mapping[str, Mapping[str, Any]],
    *,
    published: bool = False,
) -> str:
    """The card of all networks of a table, the best one first.

    Args:
        manifest: of the data set: name, title, licence, homepage, shape (N, C, H, W).
        samplers: row -> settings of the sampler that made its samples.
        published: the card is next to the weights, as `pipeline.commands.publish` leaves them.
    """
    return with_front_matter(front_matter(table, manifest), _text(table, manifest, samplers, published))


def with_front_matter(head: Mapping[str, Any], text: str) -> str:
    """A card of the Hub: YAML between two lines of dashes, then Markdown."""
    out = io.StringIO()
    writer = YAML()
    writer.width = 10_000
    writer.dump(dict(head), out)
    return f"---\n{out.getvalue()}---\n\n{text}\n"


def front_matter(table: Table, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The machine-readable head of the card."""
    return {
        "license": LICENCE,
        "library_name": "pytorch",
        "pipeline_tag": TASK,
        "tags": list(TAGS),
        "datasets": [table.data],
        "metrics": _known(table) or [one.name for one in results()],
        "model-index": _entries(table, manifest),
    }


def _measured(table: Table) -> list[Row]:
    """The measured rows, the best one first, the others in the table's order."""
    top = verdict.best(table)
    rows = [row for row in table.rows if row.measured and not row.is_floor]
    return sorted(rows, key=lambda row: row != top)


def _known(table: Table) -> list[str]:
    rows = _measured(table)
    return [one.name for one in results() if any(row.value(one.name) is not None for row in rows)]


def _entries(table: Table, manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A model for each row of params.yaml, with a result with and without denoising."""
    rows = _measured(table)
    return [
        {"name": name, "results": [_result(row, manifest) for row in rows if row.system == name]}
        for name in dict.fromkeys(row.system for row in rows)
    ]


def _result(row: Row, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A result whose metrics say in their names what they were measured on, against what and by what."""
    data = {"type": manifest["name"], "name": manifest.get("title", manifest["name"]), "split": "train"}
    data |= {} if is_whole_split(row.reference_set, "train") else {"split": "test"}
    features = str(row.evaluator).partition(";")[0]
    terms = f"{row.how}, N={row.n:,}, against {row.reference_set}, by {features}"
    values = [
        {"type": one.name, "name": f"{one.full or one.label} ({terms})", "value": value, "verified": False}
        for one in results()
        if (value := row.value(one.name)) is not None
    ]
    return {"task": {"type": TASK}, "dataset": data, "metrics": values}


def _text(
    table: Table, manifest: Mapping[str, Any], samplers: Mapping[str, Mapping[str, Any]], published: bool
) -> str:
    parts = [
        f"# Noise conditional score networks on {table.data}",
        ABOUT,
        *_best(table, manifest, samplers, published),
        "## Evaluation",
        tables.results_table(table),
        tables.verdict_lines(table),
        "## Training data",
        "\n".join(_data_lines(table, manifest)),
        "## Limits",
        f"{LIMITS}\n{_memorisation(manifest)}\n- {tables.repetition(table)}",
        "## Where it comes from",
        tables.provenance(table),
        "## Cite",
        CITATIONS,
    ]
    return "\n\n".join(parts)


def _best(
    table: Table, manifest: Mapping[str, Any], samplers: Mapping[str, Mapping[str, Any]], published: bool
) -> Iterator[str]:
    row = verdict.best(table)
    if row is None:
        yield "No row has been evaluated: `dvc repro evaluate`."
        return
    yield f"Nearest to the data is **{row.label}**: FID {row.fid:.3f} on {row.n:,} samples."
    yield "## Use"
    if published:
        yield (
            "The weights are in `model.safetensors`, the network's settings in `config.json`; "
            "`sha256sum -c SHA256SUMS` checks them. With the project's package installed, in this folder:"
        )
    else:
        yield f"The weights are in `{row.model_folder}` (safetensors and JSON, with checksums)."
    yield f"```python\n{usage(row, manifest, samplers[row.system], published=published)}```"


def usage(
    row: Row, manifest: Mapping[str, Any], sampler: Mapping[str, Any], *, published: bool = False
) -> str:
    """A program that draws sixteen samples as the row's were drawn."""
    channels, height, width = manifest["shape"][1:]
    begun = sampler.get("start") == "data"
    if published:
        score, law = 'load(Path("."))', 'load_start(Path("."))'
        imports = [f"pipeline.commands.publish import load{', load_start' * begun}"]
    else:
        score, law = f'load_network(Path("{row.model_folder}"))', "Law.of(data)"
        imports = ["pipeline.training.checkpoints import load_network"]
        imports += LAW_IMPORTS * begun
    named = "\n".join(f"from {text}" for text in sorted([*IMPORTS, *imports]))
    data = OPENED * (begun and not published)
    return f"""\
from pathlib import Path

{named}

score = {score}
{data}sampler = Sampler.read({dict(sampler)})
noise = SampleNoise(seed=0, indices=range(16), shape=({channels}, {height}, {width}))
x = sampler.sample(score, noise, denoise={row.denoised}{f", law={law}" * begun})
images = to_uint8(x)  # (16, {channels}, {height}, {width}), uint8
"""


def _memorisation(manifest: Mapping[str, Any]) -> str:
    start, stop = manifest.get("split", {}).get("train", (0, manifest["shape"][0]))
    return (
        f"- Memorisation: trained on {stop - start:,} images, a network can repeat some of them, and neither "
        "FID nor recall shows it. Compare samples with their nearest training images before you call them "
        "new."
    )


def _data_lines(table: Table, manifest: Mapping[str, Any]) -> list[str]:
    shape = " x ".join(f"{size:,}" for size in manifest["shape"])
    return [
        f"- {manifest.get('title', table.data)} ({manifest.get('homepage') or 'no homepage'})",
        f"- licence of the data: {manifest.get('licence', 'unknown')}",
        f"- images, channels, height, width: {shape}; sha256 of the images `{table.data_sha256}`",
        "- pixels in [0, 1]; noise levels are in that unit",
        *([] if "split" not in manifest else ["- splits: " + _splits(manifest)]),
    ]


def _splits(manifest: Mapping[str, Any]) -> str:
    bounds = {name: manifest["split"][name] for name in ("train", "held_out")}
    return ", ".join(f"{name} {stop - start:,}" for name, (start, stop) in bounds.items())
