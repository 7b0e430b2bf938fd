"""The classifier: good, the same bits each time, and never believed when damaged."""

import copy
import json
import re

import numpy as np
import pytest
import torch

from pipeline.metrics import features
from pipeline.metrics.features import classifier as training
from pipeline.metrics.features.classifier import Classifier, ClassifierSpace
from pipeline.ncsn.errors import UserError

TINY = {"width": 2, "epochs": 2, "batch_size": 64, "lr": 1e-2, "min_accuracy": 0.0}
WEIGHTS = "classifier.safetensors"


def train_classifier(images, labels, **settings):
    return training.train_classifier((images, labels), Classifier(**settings))


def measured(classifier):
    return ClassifierSpace(classifier.network, classifier.shape, 0.5)


@pytest.fixture
def saved(classifier, tmp_path):
    features.save(measured(classifier), "classifier", tmp_path)
    return tmp_path


def test_accuracy_on_images_never_seen(classifier, digits):
    assert classifier.accuracy(digits.held_out, digits.held_out_labels) > 0.97


def test_same_arguments_same_bits_whatever_went_before(digits):
    first = train_classifier(digits.train, digits.train_labels, seed=3, **TINY).tensors()
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        torch.manual_seed(99)
        before = torch.get_rng_state()
        assert train_classifier(digits.train, digits.train_labels, seed=3, **TINY).tensors() == first
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.get_num_threads() == 2
        assert not torch.are_deterministic_algorithms_enabled()
    finally:
        torch.set_num_threads(threads)
    assert train_classifier(digits.train, digits.train_labels, seed=4, **TINY).tensors() != first


def test_a_long_training_tells_how_far_it_is(digits, monkeypatch, caplog):
    monkeypatch.setattr(training, "LOG_EVERY_S", 0.0)
    with caplog.at_level("INFO"):
        train_classifier(digits.train, digits.train_labels, seed=3, **TINY)
    told = [record.getMessage() for record in caplog.records]
    expected = r"classifier of the feature space: batch 31 of 32, \d+ images a second, about 0 s left"
    assert len(told) == 31 and re.fullmatch(expected, told[-1])


def test_a_memory_map_trains_as_an_array(digits, tmp_path):
    np.save(tmp_path / "images.npy", digits.train)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    first = train_classifier(digits.train, digits.train_labels, seed=0, **TINY)
    assert train_classifier(mapped, digits.train_labels, seed=0, **TINY).tensors() == first.tensors()
    assert np.array_equal(first.features(mapped), first.features(digits.train))


@pytest.mark.parametrize("batch_size", [1077, 540, 500])
def test_trainings_of_one_or_two_batches(digits, batch_size):
    tiny = {**TINY, "epochs": 1, "batch_size": batch_size}
    network = train_classifier(digits.train, digits.train_labels, seed=0, **tiny).network
    assert all(torch.isfinite(tensor).all() for tensor in network.state_dict().values())


def test_features_are_standardised_on_train(classifier, digits):
    found = classifier.features(digits.train).astype(np.float64)
    assert found.shape == (1077, 64)
    assert np.abs(found.mean(axis=0)).max() < 1e-5
    assert found.var(axis=0).mean() == pytest.approx(1, rel=1e-4)


def test_probabilities_are_of_the_penultimate_layer_and_sum_to_one(classifier, digits):
    found = classifier.probabilities(digits.held_out)
    assert found.shape == (720, 10)
    assert found.sum(axis=1) == pytest.approx(np.ones(720), abs=1e-5)
    network = classifier.network
    raw = torch.from_numpy(classifier.features(digits.held_out)) * network.scale + network.centre
    assert network.head(raw).softmax(dim=1).numpy() == pytest.approx(found, abs=1e-4)


def test_saved_and_loaded_are_one(saved, classifier, digits):
    loaded = features.load_space(saved)
    assert np.array_equal(loaded.features(digits.held_out), classifier.features(digits.held_out))
    assert loaded.name == measured(classifier).name
    assert "width 16" in loaded.name and "0.5000" in loaded.name
    digest = json.loads((saved / "config.json").read_text())["sha256"][WEIGHTS]
    assert loaded.name.endswith(f"sha256 {digest[:8]}")
    assert loaded.on("cuda").name == loaded.name


def test_network_and_images_go_to_the_device(classifier, digits):
    """On "meta", torch's device without numbers, all is computed but for the way back."""
    assert classifier.on("cpu") is classifier
    placed = ClassifierSpace(copy.deepcopy(classifier.network), classifier.shape).on("meta")
    with pytest.raises(NotImplementedError, match="meta"):
        placed.features(digits.held_out)
    assert {tensor.device.type for tensor in placed.network.state_dict().values()} == {"meta"}
    assert {tensor.device.type for tensor in classifier.network.state_dict().values()} == {"cpu"}


@pytest.mark.parametrize("name", [WEIGHTS, features.CONFIG])
def test_missing_file(saved, name):
    (saved / name).unlink()
    with pytest.raises(UserError, match=name):
        features.load_space(saved)


@pytest.mark.parametrize("position", [0, 1000, -1])
def test_one_flipped_bit(saved, position):
    path = saved / WEIGHTS
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"classifier\.safetensors does not have the sha256"):
        features.load_space(saved)


def test_a_folder_without_its_kind(saved):
    config = json.loads((saved / features.CONFIG).read_text())
    del config["kind"]
    (saved / features.CONFIG).write_text(json.dumps(config))
    with pytest.raises(UserError, match="names no kind: delete"):
        features.load_space(saved)


@pytest.mark.parametrize(
    ("key", "value"), [("width", 0), ("batch_size", -1), ("lr", 0.0), ("seed", -1), ("min_accuracy", 1.5)]
)
def test_settings_out_of_range_name_their_key(key, value):
    with pytest.raises(UserError, match=rf"^{key} \({value}\)"):
        Classifier(**{**TINY, "seed": 0, key: value})


@pytest.mark.parametrize("shape", [{"width": 8}, {"depth": 3}, None])
def test_config_of_another_network(saved, shape):
    config = json.loads((saved / features.CONFIG).read_text())
    config["shape"] = {**config["shape"], **shape} if shape else shape
    (saved / features.CONFIG).write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"config\.json does not describe"):
        features.load_space(saved)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 1, 8, 8), np.float32),
        np.zeros((2, 3, 8, 8), np.uint8),
        np.zeros((2, 1, 9, 9), np.uint8),
        np.zeros((0, 1, 8, 8), np.uint8),
    ],
)
def test_images_that_do_not_fit(classifier, images):
    with pytest.raises(UserError, match="do not fit the classifier"):
        classifier.features(images)


def test_labels_and_batches_that_cannot_be_trained_on(digits):
    with pytest.raises(UserError, match=r"folders, one a class, .*none: rotations, or for colour inception or dinov2"):
        train_classifier(digits.train, np.zeros(1077, np.int64), seed=0, **TINY)
    with pytest.raises(UserError, match=r"features\.batch_size \(64\)"):
        train_classifier(digits.train[:63], digits.train_labels[:63], seed=0, **TINY)
