"""Pinned classifiers: the same feature space as the one trained, and refused where it is not of this run."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors
from torch import Tensor

from pipeline.commands import pin_evaluator
from pipeline.commands.preset import compose
from pipeline.data.preparation import prepare
from pipeline.metrics.build import build
from pipeline.metrics.features import _pinned, load_space
from pipeline.metrics.features.classifier import Classifier, ClassifierSpace, train_classifier
from pipeline.ncsn.errors import UserError
from pipeline.params import load

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)
LABELS = np.arange(64) % 2
IMAGES = (RNG.integers(0, 100, (64, 1, 8, 8)) + 100 * LABELS[:, None, None, None]).astype(np.uint8)
SETTINGS = Classifier(4, 2, 16, 1e-2, 0, 0.5)
SPLIT = (IMAGES, LABELS)


@pytest.fixture
def pinned(tmp_path: Path) -> Classifier:
    """Settings of a pinned classifier."""
    space = train_classifier(SPLIT, SETTINGS)
    path = tmp_path / "pinned.safetensors"
    sha256 = _pinned.write(path, space.network.state_dict(), space.shape, IMAGES, {"command": "a test"})
    return replace(SETTINGS, weights=str(path), sha256=sha256)


def _parts(space: ClassifierSpace) -> tuple[dict[str, Tensor], dict[str, int]]:
    return space.network.state_dict(), space.shape


def test_a_pinned_classifier_is_the_space_that_was_trained(pinned: Classifier) -> None:
    trained, read = SETTINGS.build(SPLIT, SPLIT), replace(pinned, epochs=1).build(SPLIT, SPLIT)
    space = train_classifier(SPLIT, SETTINGS)
    assert read.space.tensors() == trained.space.tensors() and read.accuracies == trained.accuracies
    assert read.space.name == trained.space.name
    first = Path(str(pinned.weights)).read_bytes()
    _pinned.write(Path(str(pinned.weights)), *_parts(space), IMAGES, {"command": "a test"})
    assert Path(str(pinned.weights)).read_bytes() == first


def test_what_is_not_this_run_s_is_refused(pinned: Classifier) -> None:
    path = Path(str(pinned.weights))
    other = (np.roll(IMAGES, 1, axis=0), LABELS)
    with pytest.raises(UserError, match=r"trained on other images.*data.seed"):
        pinned.build(other, SPLIT)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"has sha256 .* not features.sha256"):
        pinned.build(SPLIT, SPLIT)
    path.unlink()
    with pytest.raises(UserError, match=r"is no file.*null to train"):
        pinned.build(SPLIT, SPLIT)
    with pytest.raises(UserError, match="both of weights and sha256"):
        replace(pinned, sha256=None)


def test_the_classifier_of_a_run_is_pinned_with_what_made_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(ROOT / "conf/digits.yaml", tmp_path / "params.yaml")
    assert pin_evaluator.main(["x.safetensors"], tmp_path) == 2
    build(tmp_path / "artifacts/features", SPLIT, SPLIT, SETTINGS)
    prepare(tmp_path / "artifacts/data", **load(tmp_path / "params.yaml").data.kwargs())
    path = tmp_path / "evaluators/one.safetensors"
    assert pin_evaluator.main([str(path)], tmp_path) == 0
    assert f"weights: {path}" in capsys.readouterr().out
    with safetensors.safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["about"])
    assert about["evaluator"] == load_space(tmp_path / "artifacts/features").name
    assert "torch" in about["versions"] and "preset digits" in about["settings"]


@pytest.mark.parametrize("preset", ["digits", "fashion_mnist"])
def test_a_shipped_evaluator_has_the_hash_of_its_preset(preset: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(compose(ROOT / "conf", preset))
    settings = load(tmp_path / "params.yaml").features
    assert isinstance(settings, Classifier) and settings.weights
    assert _pinned.sha256(ROOT / settings.weights) == settings.sha256
