"""Dataset card in the Hugging Face format, from the manifest that `prepare` wrote.

References:
    Gebru et al., Datasheets for Datasets, CACM 2021; the fields of the front matter are those of the Hugging
    Face Hub's dataset card specification.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.reporting.model_card import TASK, with_front_matter

LICENCES = {"CC-BY-4.0", "MIT", "CC-BY-SA-3.0", "CC0-1.0", "CC-BY-NC-SA-4.0"}
"""Those whose name in small letters is the Hub's; any other is `other`, with its name."""
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
MOST_CLASSES = 20
"""With more, their images are not counted one by one."""

Counts = Mapping[str, Sequence[int]]
"""split -> images of each class, from class 0."""


def dataset_card(manifest: Mapping[str, Any], counts: Counts) -> str:
    """The card of a prepared data set."""
    return with_front_matter(_front_matter(manifest), _text(manifest, counts))


def _front_matter(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The machine-readable head of the card."""
    n = manifest["shape"][0]
    return {
        **_licence(manifest),
        "pretty_name": manifest.get("title", manifest["name"]),
        "task_categories": [TASK],
        "size_categories": [next((name for most, name in SIZES if n < most), "n>1M")],
        "tags": ["image", "score-based-model"],
    }


def _licence(manifest: Mapping[str, Any]) -> dict[str, str]:
    licence = manifest.get("licence", "unknown")
    if licence in LICENCES:
        return {"license": licence.lower()}
    link = manifest.get("homepage")
    return {"license": "other", "license_name": licence} | ({"license_link": link} if link else {})


def _text(manifest: Mapping[str, Any], counts: Counts) -> str:
    parts = [
        f"# {manifest['name']}",
        f"{manifest.get('title', manifest['name'])}, as `dvc repro prepare` writes it for training.",
        "## Where it is from",
        "\n".join(_source_lines(manifest)),
        "## What was done to it",
        _list(manifest.get("transformations", ())) or "Nothing.",
        "## What it is",
        "\n".join(_shape_lines(manifest)),
        "## Splits",
        _splits(manifest, counts),
        "## Limits",
        _limits(manifest),
    ]
    return "\n\n".join(parts)


def _source_lines(manifest: Mapping[str, Any]) -> list[str]:
    home, licence = manifest.get("homepage") or "none", manifest.get("licence", "unknown")
    files = [f"- `{file['name']}`: sha256 `{file['sha256']}`" for file in manifest.get("source", ())]
    return [f"- homepage: {home}", f"- licence: {licence}", *files]


def _shape_lines(manifest: Mapping[str, Any]) -> list[str]:
    shape = " x ".join(f"{size:,}" for size in manifest["shape"])
    known = {
        "range": manifest.get("range"),
        "type": manifest.get("dtype"),
        "classes": manifest.get("classes"),
    }
    return [
        f"- images, channels, height, width: {shape}",
        *(f"- {name}: {value}" for name, value in known.items() if value is not None),
        *(f"- sha256 of {name}.npy: `{digest}`" for name, digest in manifest["sha256"].items()),
    ]


def _splits(manifest: Mapping[str, Any], counts: Counts) -> str:
    lines = ["| Split | Images | By class |", "| :-- | --: | :-- |"]
    for name in ("train", "held_out"):
        start, stop = manifest.get("split", {}).get(name, (0, 0))
        if stop > start:
            lines.append(f"| `{name}` | {stop - start:,} | {_by_class(counts.get(name, ()))} |")
    return "\n".join(lines)


def _by_class(counts: Sequence[int]) -> str:
    if len(counts) > MOST_CLASSES:
        return f"{len(counts)} classes of {min(counts):,} to {max(counts):,}"
    return ", ".join(f"{label}: {count:,}" for label, count in enumerate(counts)) or "not counted"


def _limits(manifest: Mapping[str, Any]) -> str:
    equal = manifest.get("duplicates", {})
    found = [
        f"{equal[key]:,} images of {where}"
        for key, where in (
            ("train", "train repeat another there"),
            ("held_out", "held_out repeat another there"),
            ("held_out_in_train", "held_out are in train too"),
        )
        if key in equal
    ]
    equals = [f"Equal images, byte for byte: {'; '.join(found)}."] if found else []
    return _list([*equals, "The licence is the source's own: read it there before you share the images."])


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
