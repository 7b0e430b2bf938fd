"""The numbers of one row, from the folder that `generate` wrote."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline.files import read_json, sha256, write_json
from pipeline.metrics import evaluate_row as module
from pipeline.metrics.evaluate_row import evaluator, headline
from pipeline.metrics.inputs import UNSEEN, Described, ImageInputs, reference_split, spread
from pipeline.metrics.neighbours import nearest
from pipeline.ncsn.errors import UserError

KID = {"kid_subsets": 5, "kid_subset_size": 100}
SETTINGS = {"nearest_k": 5, **KID, "splits": 10, "fid_points": 5, "seed": 0}
TRAIN = {"reference": "train", "searched": False}


def evaluate(samples, reference, **settings):
    return module.evaluate(ImageInputs(samples, reference, SimpleNamespace(**settings)))


def evaluate_row(folder, train, held_out, classifier, *, searched, **settings):
    settings = SimpleNamespace(**settings, likelihood=SimpleNamespace(num_images=2, num_levels=2))
    return module.evaluate_row(folder, train, held_out, classifier, torch.nn.Identity(), settings, searched=searched)


@pytest.fixture
def folder(digits, tmp_path):
    np.save(tmp_path / "raw.npy", 255 - digits.held_out)
    np.save(tmp_path / "denoised.npy", digits.held_out)
    manifest = {
        "seed": 3000,
        "num_samples": 720,
        "nfe": {"raw": 50, "denoised": 51},
        "sha256": {path.name: sha256(path) for path in tmp_path.glob("*.npy")},
    }
    write_json(tmp_path / "manifest.json", manifest)
    return tmp_path


def test_rows(folder, digits, classifier):
    found = evaluate_row(folder, digits.train, digits.held_out, classifier, **TRAIN, **SETTINGS)
    train = Described.by(classifier, digits.train)
    rows = {"raw": 255 - digits.held_out, "denoised": digits.held_out, "floor": digits.held_out}
    for name, images in rows.items():
        expected = evaluate(Described.by(classifier, images), train, **SETTINGS)
        assert found[name].items() >= {**expected, "evaluator": evaluator(classifier)}.items()
        assert ("memorisation_pixels" in found[name]) == (name != "floor")
    assert (found["nfe"], found["num_samples"]) == ({"raw": 50, "denoised": 51}, 720)
    assert "carries no ladder" in found["bits_per_dim"]["not_measured"]


def test_each_set_is_scored_alone(folder, digits, classifier):
    manifest = read_json(folder / "manifest.json")
    write_json(folder / "manifest.json", manifest | {"num_samples": 360, "sample_sets": 2})
    found = evaluate_row(folder, digits.train, digits.held_out, classifier, **TRAIN, **SETTINGS)
    train, *sets = (Described.by(classifier, x) for x in (digits.train, *np.split(digits.held_out, 2)))
    halves = [evaluate(half, train, **SETTINGS) for half in sets]
    assert halves[0].items() <= found["denoised"].items()
    assert halves[1].items() <= found["further_sets"]["denoised"][0].items()
    assert halves[0]["fid"] != halves[1]["fid"] and halves[0]["n"] == 360
    (other,) = found["further_sets"]["raw"]
    assert other["memorisation_pixels"]["ratio"] != found["raw"]["memorisation_pixels"]["ratio"]


def test_held_out_images_as_samples_are_as_near_as_held_out_images(folder, digits, classifier):
    found = evaluate_row(folder, digits.train, digits.held_out, classifier, **TRAIN, **SETTINGS)
    for space in ("pixels", "features"):
        near = found["denoised"][f"memorisation_{space}"]
        assert near["ratio"] == 1 and near["low"] < 1 < near["high"]
        assert found["raw"][f"memorisation_{space}"]["low"] > 1.5  # inverted digits are far from all


def test_neighbours_are_those_of_the_first_denoised_samples(folder, digits, classifier):
    found = evaluate_row(folder, digits.train, digits.held_out, classifier, **TRAIN, **SETTINGS)
    assert found["neighbours"]["pixels"] == nearest(digits.held_out[:8], digits.train, k=5)[1].tolist()
    x, train = classifier.features(digits.held_out[:8]), classifier.features(digits.train)
    assert found["neighbours"]["features"] == nearest(x, train, k=5)[1].tolist()


def test_what_dvc_shows_are_flat_numbers_of_the_row_alone(folder, digits, classifier):
    found = evaluate_row(folder, digits.train, digits.held_out, classifier, **TRAIN, **SETTINGS)
    block = found["denoised"]
    expected = {name: block[name] for name in ("fid", "kid", "precision", "recall")} | {"nfe": found["nfe"]["denoised"]}
    shown = headline(found)
    assert shown.items() >= expected.items() and not shown.keys() & {"inception_score", "density", "coverage"}
    assert all(type(value) in (int, float) for value in shown.values())


@pytest.mark.parametrize(
    ("searched", "name", "rows"),
    [(False, "held_out", slice(None)), (True, "held_out_unseen", slice(1, None, 2))],
)
def test_against_held_out_images_the_floor_is_of_training_images(folder, digits, classifier, searched, name, rows):
    options = {"reference": "held_out", "searched": searched}
    found = evaluate_row(folder, digits.train, digits.held_out, classifier, **options, **SETTINGS)
    reference = Described.by(classifier, digits.held_out[rows])
    for key, images in (("raw", 255 - digits.held_out), ("floor", spread(digits.train, 720))):
        expected = evaluate(Described.by(classifier, images), reference, **SETTINGS)
        assert found[key].items() >= {**expected, "reference": name}.items()
    train = evaluate_row(folder, digits.train, digits.held_out, classifier, **TRAIN, **SETTINGS)
    assert train["denoised"]["reference"] == "train"
    for key in ("memorisation_pixels", "memorisation_features"):
        assert found["raw"][key] == train["raw"][key], "of training images, whatever the reference"
    assert found["neighbours"] == train["neighbours"]
    assert searched or found["denoised"]["fid"] < 1e-9, "the samples are the held-out images themselves"


def test_the_unseen_half_is_what_no_search_judges_by(digits):
    """The folder `features` has the moments a search judges by; with the unseen half they are the whole."""
    judged = digits.held_out[::2]
    assert len(judged) + len(digits.held_out[UNSEEN]) == len(digits.held_out)
    assert not {x.tobytes() for x in judged} & {x.tobytes() for x in digits.held_out[UNSEEN]}


@pytest.mark.parametrize("name", ["raw.npy", "denoised.npy", "manifest.json"])
def test_missing_file(folder, digits, classifier, name):
    (folder / name).unlink()
    with pytest.raises(UserError, match=name):
        evaluate_row(folder, digits.train, digits.held_out, classifier, **TRAIN, **SETTINGS)


@pytest.mark.parametrize("name", ["raw.npy", "denoised.npy"])
def test_damaged_file(folder, digits, classifier, name):
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name} does not have the sha256"):
        evaluate_row(folder, digits.train, digits.held_out, classifier, **TRAIN, **SETTINGS)


def test_the_floor_of_a_folder_sorted_by_class_has_all_classes(digits, classifier):
    train, sizes = Described.by(classifier, digits.train), {"num_samples": 30, "searched": False}
    sorted_by_class = np.repeat(np.arange(10, dtype=np.uint8), 10).reshape(-1, 1, 1, 1) * np.ones_like(
        digits.held_out[:1]
    )
    found = reference_split(train, sorted_by_class, classifier, SimpleNamespace(reference="train"), **sizes)
    assert [int(image[0, 0, 0]) for image in found.floor.images] == np.repeat(range(10), 3).tolist()
    assert spread(sorted_by_class, 100) is sorted_by_class


def test_the_floor_has_as_many_images_as_there_are_samples_or_as_the_other_split(digits, classifier):
    train = Described.by(classifier, digits.train)

    def count(split, samples):
        held_out = digits.held_out[:100]
        settings = SimpleNamespace(reference=split)
        sizes = {"num_samples": samples, "searched": False}
        return len(reference_split(train, held_out, classifier, settings, **sizes).floor.images)

    assert [count("train", n) for n in (50, 300)] == [50, 100]
    assert [count("held_out", n) for n in (50, 300)] == [50, 300]
