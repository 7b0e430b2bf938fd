"""The one call: every number sane on sets whose quality is known."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline.metrics.evaluate_row import evaluate as evaluate_inputs
from pipeline.metrics.evaluate_row import evaluator
from pipeline.metrics.inputs import Described, ImageInputs
from pipeline.ncsn.errors import UserError

SETTINGS = {
    "nearest_k": 5,
    "kid_subsets": 20,
    "kid_subset_size": 200,
    "splits": 10,
    "fid_points": 5,
    "seed": 0,
}


def evaluate(samples, reference, classifier, **settings):
    described = (Described.by(classifier, images) for images in (samples, reference))
    return evaluate_inputs(ImageInputs(*described, SimpleNamespace(**settings)))


def blurred(images, std, seed=0):
    noise = std * 255 * np.random.default_rng(seed).standard_normal(images.shape)
    return np.floor(np.clip(images + noise, 0, 255) + 0.5).astype(np.uint8)


def test_identical_sets(digits, classifier):
    found = evaluate(digits.train, digits.train, classifier, **SETTINGS)
    assert found["fid"] == pytest.approx(0, abs=1e-9)
    assert abs(found["kid"]) < found["kid_std"]
    assert {found[key] for key in ("precision", "recall", "coverage")} == {1.0}
    assert found["density"] == pytest.approx(1, abs=0.01)
    assert (found["n"], found["n_reference"]) == (1077, 1077)


def test_worse_samples_score_worse(digits, classifier):
    """Held-out images with ever more noise, and at last nothing but noise, in one order by every metric."""
    uniform = np.random.default_rng(1).integers(0, 256, digits.held_out.shape, dtype=np.uint8)
    sets = [digits.held_out, *(blurred(digits.held_out, std) for std in (0.1, 0.2, 0.4)), uniform]
    found = [evaluate(images, digits.train, classifier, **SETTINGS) for images in sets]
    for key in ("fid", "kid"):
        values = [metrics[key] for metrics in found]
        assert values == sorted(values)
    for key in ("inception_score", "precision", "density", "coverage"):
        values = [metrics[key] for metrics in found]
        assert values == sorted(values, reverse=True)
    assert found[1]["fid"] > 1.5 * found[0]["fid"]
    assert found[-1]["fid"] > 50 * found[0]["fid"]


def test_a_class_left_out_is_seen(digits, classifier):
    without = digits.held_out[digits.held_out_labels != 3]
    whole = evaluate(digits.held_out, digits.train, classifier, **SETTINGS)
    found = evaluate(without, digits.train, classifier, **SETTINGS)
    assert found["fid"] > 2 * whole["fid"]
    assert found["recall"] < whole["recall"] - 0.05
    assert found["coverage"] < whole["coverage"] - 0.05


def test_same_bits_for_json_whatever_the_threads(digits, classifier):
    first = evaluate(digits.held_out, digits.train, classifier, **SETTINGS)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        torch.manual_seed(1)
        again = evaluate(digits.held_out, digits.train, classifier, **SETTINGS)
    finally:
        torch.set_num_threads(threads)
    assert json.dumps(first, allow_nan=False) == json.dumps(again, allow_nan=False)
    other = evaluate(digits.held_out, digits.train, classifier, **{**SETTINGS, "seed": 1})
    assert [key for key in first if first[key] != other[key]] == [
        "fid_infinity",
        "fid_infinity_stderr",
        "kid",
        "kid_std",
    ]


@pytest.mark.parametrize(
    ("n", "change", "key"),
    [
        (199, {}, r"evaluate\.kid_subset_size \(200\)"),
        (5, {"kid_subset_size": 5, "splits": 2}, r"evaluate\.nearest_k \(5\)"),
        (9, {"kid_subset_size": 5}, r"evaluate\.splits \(10\)"),
        (50, {"kid_subset_size": 1}, r"evaluate\.kid_subset_size \(1\)"),
    ],
)
def test_too_few_images_name_the_key(digits, classifier, n, change, key):
    with pytest.raises(UserError, match=key):
        evaluate(digits.held_out[:n], digits.train, classifier, **{**SETTINGS, **change})


def test_the_fewest_images_that_do(digits, classifier):
    fewest = {**SETTINGS, "kid_subset_size": 6, "splits": 6}
    assert evaluate(digits.held_out[:6], digits.train, classifier, **fewest)["n"] == 6


def test_few_reference_images_name_the_key(digits, classifier):
    with pytest.raises(UserError, match=r"evaluate\.kid_subset_size \(200\).* 100 reference images"):
        evaluate(digits.held_out, digits.train[:100], classifier, **SETTINGS)


def test_evaluator_names_the_network_and_the_library(classifier):
    assert evaluator(classifier).startswith(classifier.name)
    assert "KID" in evaluator(classifier)
