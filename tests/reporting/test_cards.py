"""The cards are read by the Hub's own library, and say what the manifest and the table say."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import DatasetCard, ModelCard

from pipeline.data.dataset import open_dataset
from pipeline.data.preparation import prepare
from pipeline.reporting import cards
from pipeline.reporting.report import _classes
from pipeline.reporting.rows import Row, Table
from tests.reporting.conftest import estimates


def test_the_model_card_s_results_are_the_hub_s(reports: Path) -> None:
    data = ModelCard.load(reports / "model_card.md").data  # raises where they are not
    fids = [result for result in data.eval_results if result.metric_type == "fid"]
    assert len(fids) == 6 and {result.dataset_type for result in fids} == {"digits"}
    assert len({result.metric_name for result in fids}) == 2, "a name tells denoising, N, data and evaluator"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The digits' manifest and card."""
    artifacts = tmp_path_factory.mktemp("cards")
    prepare(artifacts / "data", name="digits", source=None, image_size=8, num_held_out=360, seed=0)
    manifest = open_dataset(artifacts / "data").manifest
    return manifest, cards.dataset_card(manifest, _classes(artifacts, manifest))


def test_the_dataset_card_says_what_the_manifest_says(prepared: tuple[dict[str, Any], str]) -> None:
    manifest, text = prepared
    card = DatasetCard(text)
    assert card.data.license == "cc-by-4.0" and card.data.size_categories == ["1K<n<10K"]
    assert card.data.pretty_name == manifest["title"]
    said = [
        *manifest["sha256"].values(),
        *manifest["transformations"],
        manifest["range"],
        manifest["homepage"],
    ]
    said += [manifest["source"][0]["sha256"], "1,797 x 1 x 8 x 8", "CC-BY-4.0"]
    assert all(part in card.text for part in said)


def test_the_classes_of_a_split_add_up_to_it(prepared: tuple[dict[str, Any], str]) -> None:
    lines = [line for line in prepared[1].splitlines() if line.startswith(("| `train`", "| `held_out`"))]
    for line, total in zip(lines, (1437, 360), strict=True):
        _, _, images, classes, _ = line.split("|")
        counts = [int(part.split(":")[1]) for part in classes.split(",")]
        assert len(counts) == 10 and sum(counts) == total == int(images.replace(",", ""))


@pytest.mark.parametrize("licence", ["none stated by its authors", "the user's"])
def test_another_licence_is_told_in_full(licence: str, prepared: tuple[dict[str, Any], str]) -> None:
    head = cards._data_front_matter({**prepared[0], "licence": licence})
    assert (head["license"], head["license_name"]) == ("other", licence)
    assert head["license_link"] == prepared[0]["homepage"]


def test_the_model_card_names_no_metric_that_was_not_measured(
    make_row: Callable[..., Row],
    make_table: Callable[..., Table],
    prepared: tuple[dict[str, Any], str],
) -> None:
    row = make_row("ncsn", True, None, n=720, measures=estimates(2.0, kid=0.1))
    named = cards.front_matter(make_table(row), prepared[0])["metrics"]
    assert {"fid", "kid"} <= set(named) and "inception_score" not in named
