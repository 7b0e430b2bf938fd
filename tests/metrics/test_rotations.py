"""Features without labels: told by rotations, refused where there are none, and named as such."""

import numpy as np
import pytest

from pipeline.metrics.build import build
from pipeline.metrics.features import load_space
from pipeline.metrics.features.rotations import Rotations, RotationSpace, turned
from pipeline.metrics.fid import distance, moments
from pipeline.ncsn.errors import UserError

SETTINGS = Rotations(width=8, epochs=4, batch_size=64, lr=4e-3, seed=0, min_accuracy=0.6)


def without_labels(images):
    return images, np.zeros(len(images), np.int64)


@pytest.fixture(scope="module")
def made(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    numbers = build(folder, without_labels(digits.train), without_labels(digits.held_out), SETTINGS)
    return load_space(folder), numbers


def test_images_are_turned_by_quarters():
    images = np.arange(8, dtype=np.uint8).reshape(2, 1, 2, 2)
    found, label = turned(images)
    assert label.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    np.testing.assert_array_equal(
        found[::2, 0], [[[0, 1], [2, 3]], [[1, 3], [0, 2]], [[3, 2], [1, 0]], [[2, 0], [3, 1]]]
    )


def test_the_stage_builds_it_without_labels_and_loads_it(made, digits):
    space, numbers = made
    assert isinstance(space, RotationSpace)
    assert numbers["rotation_accuracy"] == space.held_out_accuracy > 0.6
    assert "held_out_accuracy" not in numbers, "the page would call it that of a classifier"
    assert numbers["evaluator"] == space.name
    assert space.name.startswith("trained without labels to tell rotations: CNN width 8, ")
    features, classes = space.both(digits.held_out)
    assert features.shape == (len(digits.held_out), 64) and classes.shape == (len(digits.held_out), 0)


def test_its_distance_tells_data_from_what_is_not(made, digits):
    space, numbers = made
    reference = moments(space.features(digits.train))
    noise = np.random.default_rng(0).permuted(digits.held_out, axis=3)
    assert distance(moments(space.features(noise)), reference) > 5 * numbers["floor_fid"]


def test_images_without_an_upright_position_are_refused():
    dots = np.random.default_rng(0).integers(0, 256, (200, 1, 8, 8), np.uint8)
    settings = Rotations(**{**vars(SETTINGS), "epochs": 1})
    with pytest.raises(UserError, match=r"0\.\d+ of the turned held-out images is told, below .*upright"):
        settings.build(without_labels(dots[:150]), without_labels(dots[150:]))


def test_a_wrong_setting_is_refused_as_the_classifiers():
    with pytest.raises(UserError, match="epochs"):
        Rotations(**{**vars(SETTINGS), "epochs": 0})
