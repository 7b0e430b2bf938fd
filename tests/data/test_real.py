"""The real Fashion-MNIST, where this machine has it: Debian's package or the folder FASHION_MNIST."""

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.data.catalogue import CATALOGUE, DEBIAN
from pipeline.data.dataset import Dataset, open_dataset
from pipeline.data.fetch import verify
from pipeline.data.preparation import prepare
from pipeline.ncsn.errors import UserError

FILES = Path(os.environ.get("FASHION_MNIST", DEBIAN))

pytestmark = pytest.mark.skipif(not FILES.is_dir(), reason="no Fashion-MNIST here: apt install dataset-fashion-mnist")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    out = tmp_path_factory.mktemp("real") / "data"
    prepare(out, name="fashion_mnist", source=str(FILES), image_size=28, num_held_out=None, seed=0)
    return open_dataset(out)


def test_it_is_what_its_authors_say(real: Dataset) -> None:
    """60,000 and 10,000 images, each class equally often, and the published mean and deviation."""
    assert real.split("train").shape == (60_000, 1, 28, 28)
    assert real.split("held_out").shape == (10_000, 1, 28, 28)
    assert np.bincount(real.split_labels("train")).tolist() == [6_000] * 10
    assert np.bincount(real.split_labels("held_out")).tolist() == [1_000] * 10
    train = real.split("train").astype(np.float32) / 255
    assert train.mean() == pytest.approx(0.2860, abs=5e-5)
    assert train.std() == pytest.approx(0.3530, abs=5e-5)


def test_pixels_are_those_of_the_files(real: Dataset) -> None:
    content = gzip.decompress((FILES / "t10k-images-idx3-ubyte.gz").read_bytes())
    np.testing.assert_array_equal(real.split("held_out").ravel(), np.frombuffer(content[16:], np.uint8))


def test_no_image_is_twice_there(real: Dataset) -> None:
    assert set(real.manifest["duplicates"].values()) == {0}


def test_recompressed_files_verify_and_others_do_not(tmp_path: Path) -> None:
    file = CATALOGUE["fashion_mnist"].files[3]
    content: Any = gzip.decompress((FILES / file.name).read_bytes())
    (tmp_path / file.name).write_bytes(gzip.compress(content, 1))
    assert (tmp_path / file.name).read_bytes() != (FILES / file.name).read_bytes()
    verify(file, tmp_path / file.name)
    (tmp_path / file.name).write_bytes(gzip.compress(content[:-1] + bytes([content[-1] ^ 1])))
    with pytest.raises(UserError, match="is not the published"):
        verify(file, tmp_path / file.name)
