"""The folder of the feature space: whole, verified, or not there at all."""

import contextlib
import resource

import pytest

from pipeline.metrics import features
from pipeline.metrics.build import build
from pipeline.metrics.features.classifier import Classifier
from pipeline.metrics.fid import STATISTICS, distance, frechet_distance, load_moments, moments
from pipeline.ncsn.errors import UserError

SETTINGS = {"width": 4, "epochs": 4, "batch_size": 64, "lr": 1e-2, "seed": 0}


@pytest.fixture(scope="module")
def made(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "features"
    splits = ((digits.train, digits.train_labels), (digits.held_out, digits.held_out_labels))
    return folder, build(folder, *splits, Classifier(min_accuracy=0.5, **SETTINGS))


def test_what_is_written_is_what_is_told(made, digits):
    folder, metrics = made
    classifier = features.load_space(folder)
    assert classifier.held_out_accuracy == metrics["held_out_accuracy"]
    assert metrics["held_out_accuracy"] == classifier.accuracy(digits.held_out, digits.held_out_labels)
    assert metrics["train_accuracy"] == classifier.accuracy(digits.train, digits.train_labels)
    train, held_out = classifier.features(digits.train), classifier.features(digits.held_out)
    assert metrics["floor_fid"] == frechet_distance(held_out, train)
    assert (metrics["n"], metrics["n_reference"]) == (720, 1077)
    assert metrics["evaluator"] == classifier.name


def test_moments_are_those_of_the_features(made, digits):
    folder, _ = made
    found, x = load_moments(folder, "held_out"), features.load_space(folder).features(digits.held_out)
    assert found.n == 720
    assert found.mean.numpy() == pytest.approx(x.astype(float).mean(axis=0), abs=1e-9)
    centred = x.astype(float) - x.astype(float).mean(axis=0)
    assert (found.root.T @ found.root).numpy() == pytest.approx(centred.T @ centred / 719, abs=1e-9)


def test_searches_judge_by_every_second_held_out_image(made, digits):
    found = load_moments(made[0], "search")
    half = moments(features.load_space(made[0]).features(digits.held_out[::2]))
    assert found.n == 360 and distance(found, half) == pytest.approx(0, abs=1e-6)


def test_damaged_moments_are_refused(digits, tmp_path):
    splits = ((digits.train, digits.train_labels), (digits.held_out, digits.held_out_labels))
    build(tmp_path / "features", *splits, Classifier(min_accuracy=0.0, **{**SETTINGS, "epochs": 1}))
    path = tmp_path / "features" / STATISTICS
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"statistics\.safetensors does not have the sha256"):
        load_moments(tmp_path / "features", "train")


def test_accuracy_below_the_bound_leaves_nothing_behind(digits, tmp_path):
    splits = ((digits.train, digits.train_labels), (digits.held_out, digits.held_out_labels))
    with pytest.raises(UserError, match=r"features\.min_accuracy \(1\.0\)"):
        build(tmp_path / "features", *splits, Classifier(min_accuracy=1.0, **{**SETTINGS, "epochs": 1}))
    assert list(tmp_path.iterdir()) == []


@contextlib.contextmanager
def small_disk(limit):
    """No file of this process can grow beyond a number of bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))  # Python ignores SIGXFSZ
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_nothing_behind(digits, tmp_path):
    splits = ((digits.train, digits.train_labels), (digits.held_out, digits.held_out_labels))
    with small_disk(20_000), pytest.raises(OSError, match="File too large"):
        build(tmp_path / "features", *splits, Classifier(min_accuracy=0.0, **{**SETTINGS, "epochs": 1}))
    assert list(tmp_path.iterdir()) == []
