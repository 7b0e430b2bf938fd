"""The self-test passes on what is right, and names what is not."""

import json

import numpy as np
import pytest

from pipeline.files import read_json
from pipeline.metrics import selftest as module
from pipeline.metrics.build import build
from pipeline.metrics.features.classifier import Classifier
from pipeline.metrics.selftest import Check, selftest
from pipeline.ncsn.errors import UserError


@pytest.fixture(scope="module")
def features(classifier, digits):
    return classifier.features(digits.train), classifier.features(digits.held_out)


def test_every_answer_is_the_known_one(features):
    found = selftest(*features)
    assert len(found) == 17 and len({check["name"] for check in found}) == 17
    assert all(check["passed"] for check in found)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    floor = next(check for check in found if check["name"] == "FID of held-out against train")
    assert floor["found"] == pytest.approx(floor["expected"], rel=1e-6) and floor["found"] > 0.1


FAULTS = {
    "a biased covariance": ("frechet_distance", lambda f: lambda a, b: f(a, b) * (1 - 1 / 200), "Gaussians"),
    "no mean in FID": (
        "frechet_distance",
        lambda f: lambda a, b: f(a - a.mean(axis=0), b - b.mean(axis=0)),
        "Gaussians of known moments is .*, not .*FID of held-out",
    ),
    "another kernel": (
        "kernel_distance",
        lambda f: lambda a, b, **k: tuple(1.01 * x for x in f(a, b, **k)),
        "KID of two point masses",
    ),
    "a biased KID": (
        "kernel_distance",
        lambda f: lambda a, b, **k: (f(a, b, **k)[0] + 0.5, f(a, b, **k)[1]),
        "halves of one Gaussian",
    ),
    "one neighbour less": (
        "prdc",
        lambda f: lambda a, b, nearest_k: f(a, b, nearest_k=nearest_k) | {"density": 0.8},
        "density of a set against itself is 0.8, not 1",
    ),
    "the mean of nothing": (
        "inception_score",
        lambda f: lambda p, splits: (float("nan"), 0.0),
        "none told apart is nan, not 1",
    ),
    "samples among their own neighbours": (
        "nearest",
        lambda f: lambda x, train, k: f(x, train[50:], k=k),
        "memorisation ratio of copies",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_named(name, features, monkeypatch):
    target, fault, message = FAULTS[name]
    monkeypatch.setattr(module, target, fault(getattr(module, target)))
    with pytest.raises(UserError, match=message):
        selftest(*features)


def test_nan_is_a_failure_and_json_knows_none():
    check = Check("x", 1.0, float("nan"), 10.0)
    assert not check.passed and check.plain()["found"] is None


def test_the_stage_keeps_the_answers_or_leaves_nothing(digits, tmp_path, monkeypatch):
    splits = ((digits.train, digits.train_labels), (digits.held_out, digits.held_out_labels))
    settings = Classifier(width=2, epochs=1, batch_size=64, lr=1e-2, seed=0, min_accuracy=0.0)
    build(tmp_path / "good", *splits, settings)
    assert all(check["passed"] for check in read_json(tmp_path / "good/selftest.json"))
    monkeypatch.setattr(module, "frechet_distance", lambda a, b: 0.0)
    with pytest.raises(UserError, match="fails its self-test"):
        build(tmp_path / "bad", *splits, settings)
    assert not (tmp_path / "bad").exists()


def test_the_second_way_to_fid_is_its_closed_form():
    x = np.random.default_rng(0).normal(size=(500, 3))
    assert module._textbook(2 * x + 1, x) == pytest.approx(
        np.square(x.mean(axis=0) + 1).sum() + np.trace(np.cov(x, rowvar=False)), rel=1e-9
    )
