"""The numbers of one variant, from the folder that `generate` wrote."""

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.files import read_json, sha256, write_json
from pipeline.metrics.evaluate import evaluate
from pipeline.metrics.variant import evaluate_variant, headline

SETTINGS = {"nearest_k": 5, "kid_subsets": 5, "kid_subset_size": 100, "splits": 10, "seed": 0}


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
    found = evaluate_variant(folder, digits.train, digits.held_out, classifier, **SETTINGS)
    assert found["denoised"] == found["floor"]
    assert found["floor"] == evaluate(digits.held_out, digits.train, classifier, **SETTINGS)
    assert found["raw"] == evaluate(255 - digits.held_out, digits.train, classifier, **SETTINGS)
    assert (found["nfe"], found["num_samples"]) == ({"raw": 50, "denoised": 51}, 720)


def test_each_set_is_scored_alone(folder, digits, classifier):
    manifest = read_json(folder / "manifest.json")
    write_json(folder / "manifest.json", manifest | {"num_samples": 360, "sets": 2})
    found = evaluate_variant(folder, digits.train, digits.held_out, classifier, **SETTINGS)
    halves = [evaluate(half, digits.train, classifier, **SETTINGS) for half in np.split(digits.held_out, 2)]
    assert [found["denoised"], *found["further_sets"]["denoised"]] == halves
    assert halves[0]["fid"] != halves[1]["fid"] and halves[0]["n"] == 360
    assert len(found["further_sets"]["raw"]) == 1


def test_what_dvc_shows_are_flat_numbers_of_the_variant_alone(folder, digits, classifier):
    found = evaluate_variant(folder, digits.train, digits.held_out, classifier, **SETTINGS)
    shown = headline(found)
    assert set(shown) == {"raw", "denoised"}
    for kind, numbers in shown.items():
        assert all(type(value) in (int, float) for value in numbers.values())
        assert numbers.items() <= {**found[kind], "nfe": found["nfe"][kind]}.items()
        assert {"fid", "kid", "nfe"} <= numbers.keys()


@pytest.mark.parametrize("name", ["raw.npy", "denoised.npy", "manifest.json"])
def test_missing_file(folder, digits, classifier, name):
    (folder / name).unlink()
    with pytest.raises(UserError, match=name):
        evaluate_variant(folder, digits.train, digits.held_out, classifier, **SETTINGS)


@pytest.mark.parametrize("name", ["raw.npy", "denoised.npy"])
def test_damaged_file(folder, digits, classifier, name):
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name} does not have the sha256"):
        evaluate_variant(folder, digits.train, digits.held_out, classifier, **SETTINGS)
