"""Equal images are counted, in each split and across them."""

import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.duplicates import count, fingerprints
from pipeline.data.preparation import prepare


@given(train=st.lists(st.integers(0, 6), min_size=1), held=st.lists(st.integers(0, 6), min_size=1))
@settings(max_examples=100, deadline=None)
def test_counts_are_those_of_a_plain_count(train: list[int], held: list[int]) -> None:
    assert count(np.array(train, np.uint64), np.array(held, np.uint64)) == {
        "train": len(train) - len(set(train)),
        "held_out": len(held) - len(set(held)),
        "held_out_in_train": sum(image in train for image in held),
    }


def test_one_pixel_makes_another_image() -> None:
    images = np.zeros((6, 3, 2, 2), np.uint8)
    images[1, 0, 0, 0] = images[2, 2, 1, 1] = images[3, 1, 0, 1] = images[4, 0, 0, 0] = 1
    prints = fingerprints(images.transpose(0, 1, 3, 2))
    assert prints[1] == prints[4] and prints[0] == prints[5]
    assert len(set(prints.tolist())) == 4


def test_they_are_told_and_kept_in_the_manifest(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 4), np.uint8)
    images[1:4] = images[0]
    np.save(tmp_path / "in.npy", images)
    arguments = {"name": "npz", "source": str(tmp_path / "in.npy"), "image_size": 4, "num_held_out": 3}
    with caplog.at_level(logging.WARNING):
        manifest = prepare(tmp_path / "out", seed=0, **arguments)
    held = len({0, 1, 2, 3} & set(manifest["split"]["held_out_source_rows"]))
    assert held, "this seed holds some of them out"
    assert manifest["duplicates"] == {
        "train": 3 - held,
        "held_out": held - 1,
        "held_out_in_train": held,
    }
    assert f"{held} held-out images are training images too" in caplog.text
