"""Model card and dataset card in the Hugging Face format: YAML front matter, then Markdown.

References:
    Mitchell et al., Model Cards for Model Reporting, FAT* 2019; Gebru et al., Datasheets for Datasets, CACM 2021.
    The fields of the front matter are those of the Hugging Face Hub's specifications (`model-index` is its block
    of results).
"""

import io
from collections.abc import Iterator, Mapping, Sequence

from ruamel.yaml import YAML

from pipeline.data.dataset import Manifest
from pipeline.metrics.measures import results
from pipeline.ncsn.sampler import Sampler
from pipeline.reporting import columns, tables, verdict
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

LICENCES = {"CC-BY-4.0", "MIT", "CC-BY-SA-3.0", "CC0-1.0", "CC-BY-NC-SA-4.0"}
"""Those whose name in small letters is the Hub's; any other is `other`, with its name."""
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
MOST_CLASSES = 20
"""With more, their images are not counted one by one."""

Counts = Mapping[str, Sequence[int]]
"""split -> images of each class, from class 0."""


def model_card(table: Table, manifest: Manifest, samplers: Mapping[str, Sampler], *, published: bool = False) -> str:
    """The card of all networks of a table, the best one first.

    Args:
        samplers: by row, what drew its samples.
        published: whether the card is next to the weights, as `pipeline.commands.publish` leaves them.
    """
    return with_front_matter(front_matter(table, manifest), _model_text(table, manifest, samplers, published))


def with_front_matter(head: Mapping[str, object], text: str) -> str:
    """A card of the Hub: YAML between two lines of dashes, then Markdown."""
    out = io.StringIO()
    writer = YAML()
    writer.width = 10_000
    writer.dump(dict(head), out)
    return f"---\n{out.getvalue()}---\n\n{text}\n"


def front_matter(table: Table, manifest: Manifest) -> dict[str, object]:
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


def _entries(table: Table, manifest: Manifest) -> list[dict[str, object]]:
    """A model for each row of params.yaml, with a result with and without denoising."""
    rows = _measured(table)
    return [
        {"name": name, "results": [_result(row, manifest) for row in rows if row.system == name]}
        for name in dict.fromkeys(row.system for row in rows)
    ]


def _result(row: Row, manifest: Manifest) -> dict[str, object]:
    """A result whose metrics say in their names what they were measured on, against what and by what."""
    data = {"type": manifest["name"], "name": manifest["title"], "split": "train"}
    data |= {} if is_whole_split(row.reference_set, "train") else {"split": "test"}
    features = str(row.evaluator).partition(";")[0]
    terms = f"{row.how}, N={row.n:,}, against {row.reference_set}, by {features}"
    values = [
        {"type": one.name, "name": f"{one.full or one.label} ({terms})", "value": value, "verified": False}
        for one in results()
        if (value := row.value(one.name)) is not None
    ]
    return {"task": {"type": TASK}, "dataset": data, "metrics": values}


def _model_text(table: Table, manifest: Manifest, samplers: Mapping[str, Sampler], published: bool) -> str:
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


def _best(table: Table, manifest: Manifest, samplers: Mapping[str, Sampler], published: bool) -> Iterator[str]:
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


def usage(row: Row, manifest: Manifest, sampler: Sampler, *, published: bool = False) -> str:
    """A program that draws sixteen samples as the row's were drawn."""
    channels, height, width = manifest["shape"][1:]
    begun = sampler.start == "data"
    if published:
        score, law = 'load_published(Path("."))', 'load_start(Path("."))'
        imports = [f"pipeline.commands.publish import load_published{', load_start' * begun}"]
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
{data}sampler = Sampler.read({sampler.plain()})
noise = SampleNoise(seed=0, indices=range(16), shape=({channels}, {height}, {width}))
x = sampler.sample(score, noise, denoise={row.denoised}{f", law={law}" * begun})
images = to_uint8(x)  # (16, {channels}, {height}, {width}), uint8
"""


def _memorisation(manifest: Manifest) -> str:
    start, stop = manifest["split"]["train"]
    return (
        f"- Memorisation: trained on {stop - start:,} images, a network can repeat some of them, and neither "
        "FID nor recall shows it. Compare samples with their nearest training images before you call them "
        "new."
    )


def _data_lines(table: Table, manifest: Manifest) -> list[str]:
    shape = " x ".join(f"{size:,}" for size in manifest["shape"])
    return [
        f"- {manifest['title']} ({manifest['homepage'] or 'no homepage'})",
        f"- licence of the data: {manifest['licence']}",
        f"- images, channels, height, width: {shape}; sha256 of the images `{table.data_sha256}`",
        "- pixels in [0, 1]; noise levels are in that unit",
        f"- splits: {', '.join(f'{name} {stop - start:,}' for name, (start, stop) in _bounds(manifest).items())}",
    ]


def _bounds(manifest: Manifest) -> dict[str, list[int]]:
    return {"train": manifest["split"]["train"], "held_out": manifest["split"]["held_out"]}


def dataset_card(manifest: Manifest, counts: Counts) -> str:
    """The card of a prepared data set."""
    return with_front_matter(_data_front_matter(manifest), _data_text(manifest, counts))


def _data_front_matter(manifest: Manifest) -> dict[str, object]:
    """The machine-readable head of the card."""
    n = manifest["shape"][0]
    return {
        **_licence(manifest),
        "pretty_name": manifest["title"],
        "task_categories": [TASK],
        "size_categories": [next((name for most, name in SIZES if n < most), "n>1M")],
        "tags": ["image", "score-based-model"],
    }


def _licence(manifest: Manifest) -> dict[str, str]:
    licence = manifest["licence"]
    if licence in LICENCES:
        return {"license": licence.lower()}
    link = {"license_link": manifest["homepage"]} if manifest["homepage"] else {}
    return {"license": "other", "license_name": licence} | link


def _data_text(manifest: Manifest, counts: Counts) -> str:
    parts = [
        f"# {manifest['name']}",
        f"{manifest['title']}, as `dvc repro prepare` writes it for training.",
        "## Where it is from",
        "\n".join(_source_lines(manifest)),
        "## What was done to it",
        _list(manifest["transformations"]) or "Nothing.",
        "## What it is",
        "\n".join(_shape_lines(manifest)),
        "## Splits",
        _splits(manifest, counts),
        "## Limits",
        _limits(manifest),
    ]
    return "\n\n".join(parts)


def _source_lines(manifest: Manifest) -> list[str]:
    home, licence = manifest["homepage"] or "none", manifest["licence"]
    files = [f"- `{file['name']}`: sha256 `{file['sha256']}`" for file in manifest["source"]]
    return [f"- homepage: {home}", f"- licence: {licence}", *files]


def _shape_lines(manifest: Manifest) -> list[str]:
    shape = " x ".join(f"{size:,}" for size in manifest["shape"])
    return [
        f"- images, channels, height, width: {shape}",
        f"- range: {manifest['range']}",
        f"- type: {manifest['dtype']}",
        f"- classes: {manifest['classes']}",
        *(f"- sha256 of {name}.npy: `{digest}`" for name, digest in manifest["sha256"].items()),
    ]


def _splits(manifest: Manifest, counts: Counts) -> str:
    lines = [
        (f"`{name}`", f"{stop - start:,}", _by_class(counts.get(name, ())))
        for name, (start, stop) in _bounds(manifest).items()
        if stop > start
    ]
    return columns.pipe_table(("Split", "Images", "By class"), "lrl", lines)


def _by_class(counts: Sequence[int]) -> str:
    if len(counts) > MOST_CLASSES:
        return f"{len(counts)} classes of {min(counts):,} to {max(counts):,}"
    return ", ".join(f"{label}: {count:,}" for label, count in enumerate(counts)) or "not counted"


def _limits(manifest: Manifest) -> str:
    equal = manifest["duplicates"]
    equals = (
        f"Equal images, byte for byte: {equal['train']:,} images of train repeat another there; "
        f"{equal['held_out']:,} images of held_out repeat another there; "
        f"{equal['held_out_in_train']:,} images of held_out are in train too."
    )
    return _list([equals, "The licence is the source's own: read it there before you share the images."])


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
