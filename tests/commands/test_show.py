"""`python -m pipeline.commands.show` says what is prepared, and its numbers are right."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.distance import pdist

from pipeline.commands import show
from pipeline.data import source
from pipeline.data.preparation import prepare
from pipeline.data.summary import histogram, pixels
from pipeline.ncsn import noise

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 3, 8, 8), np.uint8)
IMAGES[0, 0, 0, :2] = 0, 255
IMAGES[-1] = IMAGES[0]


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    np.savez(tmp_path / "in.npz", images=IMAGES, labels=np.arange(30) // 10)
    arguments = {"name": "npz", "source": str(tmp_path / "in.npz"), "image_size": 8, "num_held_out": 6}
    prepare(tmp_path / "data", seed=0, **arguments)
    return tmp_path / "data"


@given(values=st.lists(st.integers(0, 255), min_size=1, max_size=50))
@settings(max_examples=50, deadline=None)
def test_statistics_are_numpys(values: list[int]) -> None:
    channel = np.array(values, np.uint8)
    found, x = pixels(np.bincount(channel, minlength=256)), channel / 255
    expected = (x.mean(), x.std(), x.min(), x.max(), (channel == 0).mean(), (channel == 255).mean())
    assert tuple(vars(found).values()) == pytest.approx(expected, abs=1e-12)


def test_histogram_is_the_same_in_any_block(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [np.bincount(IMAGES[:, channel].ravel(), minlength=256) for channel in range(3)]
    for size in (1, 1000, 1 << 20):
        monkeypatch.setattr(source, "BLOCK_BYTES", size)
        np.testing.assert_array_equal(histogram(IMAGES), expected)


def test_it_says_what_is_prepared(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show.main(["--folder", str(prepared), "--picture", str(prepared.parent / "examples.png")]) == 0
    said = capsys.readouterr().out
    data = np.load(prepared / "images.npy")
    counts = np.bincount(np.load(prepared / "labels.npy")[:24])
    assert "30 images of 3 x 8 x 8, uint8" in said
    assert f"train: 24 images; by class {' '.join(map(str, counts))}\n" in said
    assert "held_out: 6 images" in said
    held = {0, 29} & set(json.loads((prepared / "manifest.json").read_text())["split"]["held_out_source_rows"])
    assert f"{len(held) % 2} of held_out are in train too" in said, "the first and the last image are equal"
    assert f"channel 1: mean {data[:24, 1].mean() / 255:.4f}, standard deviation" in said
    sigma_max = pdist(data[:24].reshape(24, -1) / 255).max()
    levels = noise.num_levels(sigma_max, 0.01, 192, 0.5)
    step_size = noise.step_size(noise.geometric_sigmas(sigma_max, 0.01, levels), 5)
    assert f"sigma_1 {sigma_max:.4g}, L {levels}, eps {step_size:.3g}\n" in said


def test_the_picture_holds_the_images(prepared: Path) -> None:
    """The first image is there, each of its pixels a square of the same size."""
    path = prepared.parent / "examples.png"
    show.picture(show.open_dataset(prepared), path)
    picture = np.asarray(Image.open(path).convert("RGB"))
    first = np.load(prepared / "images.npy")[0].transpose(1, 2, 0)
    corners = np.argwhere((picture == first[0, 0]).all(axis=2))
    assert any(
        np.array_equal(picture[top : top + 8 * size : size, left : left + 8 * size : size], first)
        for top, left in corners[:3]
        for size in range(5, 20)
    )


def test_many_classes_are_summed_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "in.npz", images=IMAGES, labels=np.arange(30))
    arguments = {"name": "npz", "source": str(tmp_path / "in.npz"), "image_size": 8, "num_held_out": 6}
    prepare(tmp_path / "data", seed=0, **arguments)
    show.main(["--folder", str(tmp_path / "data"), "--picture", str(tmp_path / "x.png")])
    assert "train: 24 images; 30 classes of 0 to 1\n" in capsys.readouterr().out


def test_damage_and_absence_are_told(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show.main(["--folder", "nowhere"]) == 2
    assert "nowhere/manifest.json is missing" in capsys.readouterr().err
    (prepared / "labels.npy").write_bytes(b"")
    assert show.main(["--folder", str(prepared)]) == 2
    assert "labels.npy is corrupt" in capsys.readouterr().err


def test_the_document_holds_the_catalogue(capsys: pytest.CaptureFixture[str]) -> None:
    assert show.main(["catalogue"]) == 0
    document = (Path(__file__).parents[2] / "docs/reference/data.md").read_text()
    assert capsys.readouterr().out in document, "put what `python -m pipeline.commands.show catalogue` says there"
