"""Bits/dim of a set of images: what goes into the ODE, and a network whose code length is known."""

import math

import numpy as np
import pytest
import torch

from pipeline.metrics import bits_per_dim as module
from pipeline.metrics.bits_per_dim import likelihood
from pipeline.ncsn.networks import make_network

SETTINGS = {"num_images": 100, "num_levels": 21, "seed": 0}


class Normal(torch.nn.Module):
    """The exact score of pixels N(1/2, std^2), each on its own."""

    def __init__(self, std=0.1, sigmas=(50.0, 1e-6)):
        super().__init__()
        self.std = std
        self.register_buffer("sigmas", torch.tensor(sigmas))

    def forward(self, x, sigma):
        return (0.5 - x) / (self.std**2 + sigma**2)


def images_of(std, n=400):
    rng = np.random.default_rng(0)
    x = np.floor(256 * (0.5 + std * rng.standard_normal((n, 1, 4, 4))))
    return x.clip(0, 255).astype(np.uint8)


def entropy(std):
    """Bits of a pixel of N(1/2, std^2 + (1/256)^2) in cells of 1/256, by the differential entropy."""
    return 0.5 * math.log2(2 * math.pi * math.e * (std**2 + 256**-2)) + 8


def test_images_of_the_models_own_law_cost_their_entropy():
    """It must be at least this, by Gibbs; dequantised in another number of levels it is not."""
    found = likelihood(Normal(), images_of(0.1), **SETTINGS | {"num_images": 400, "num_levels": 61})
    assert found["mean"] == pytest.approx(entropy(0.1), abs=4 * found["stderr"])
    assert found["stderr"] < 0.015
    assert (found["n"], found["nfe"]) == (400, 240)


def test_a_model_of_another_law_costs_more_by_the_divergence():
    found = likelihood(Normal(std=0.2), images_of(0.1), **SETTINGS | {"num_images": 400, "num_levels": 61})
    ratio = (0.1**2 + 256**-2 / 12) / (0.2**2 + 256**-2)
    divergence = 0.5 * (ratio - 1 - math.log(ratio)) / math.log(2)
    assert found["mean"] == pytest.approx(entropy(0.1) + divergence, abs=0.03)


def test_the_ladder_is_the_networks_and_ends_at_a_grey_level(monkeypatch):
    seen = []

    def spy(score, images, sigmas, rng):
        seen.append((len(images), float(sigmas[0]), float(sigmas[-1]), len(sigmas)))
        return torch.ones(len(images), dtype=torch.float64)

    monkeypatch.setattr(module, "bits_per_dim", spy)
    likelihood(Normal(sigmas=(9.0, 0.001)), images_of(0.1), **SETTINGS)
    likelihood(Normal(sigmas=(1.0, 0.02)), images_of(0.1), **SETTINGS)
    assert seen[0] == pytest.approx((64, 9, 1 / 256, 21)) and seen[1][0] == 36
    assert seen[2] == pytest.approx((64, 1, 0.02, 21))


def test_batches_change_nothing_and_the_seed_decides(monkeypatch):
    whole = likelihood(Normal(), images_of(0.1), **SETTINGS)
    monkeypatch.setattr(module, "_BATCH", 7)
    parts = likelihood(Normal(), images_of(0.1), **SETTINGS)
    assert parts["mean"] == pytest.approx(whole["mean"], rel=1e-6) and parts["nfe"] == whole["nfe"] == 80
    assert likelihood(Normal(), images_of(0.1), **SETTINGS | {"seed": 1})["mean"] != whole["mean"]


@pytest.mark.parametrize("kind", ["ncsnv2", "unet"])
def test_networks_with_a_score_at_any_sigma(kind, digits):
    options = {"channels": 1, "image_size": 8, "width": 16, "sigmas": [5.0, 1.0, 0.1]}
    network = make_network(kind, **options).eval().requires_grad_(False)
    found = likelihood(network, digits.held_out, num_images=4, num_levels=6, seed=0)
    assert math.isfinite(found["mean"]) and found["n"] == 4
    assert "17 of the 256, which 4.09 bits name" in found["how"]


def test_networks_without_one_are_not_measured_and_say_why(digits):
    network = make_network("ncsn", channels=1, image_size=8, width=8, sigmas=[1.0, 0.1])
    assert "conditional on its levels" in likelihood(network, digits.held_out, **SETTINGS)["not_measured"]
    bare = make_network("ncsnv2", channels=1, image_size=8, width=8)
    assert "no ladder" in likelihood(bare, digits.held_out, **SETTINGS)["not_measured"]


def test_one_image_has_no_spread():
    assert likelihood(Normal(), images_of(0.1, 1), **SETTINGS)["stderr"] is None


def test_bytes_are_spread_over_their_cells_and_no_further():
    """A point at 1/2 seen at sigma 1/256: byte 128 lies at u of its standard deviations, E u^2 = 1/3."""
    images = np.full((400, 1, 4, 4), 128, np.uint8)
    settings = SETTINGS | {"num_images": 400, "num_levels": 81}
    found = likelihood(Normal(std=1e-4, sigmas=(2.0, 1e-6)), images, **settings)
    expected = 0.5 * math.log2(2 * math.pi) + 1 / (6 * math.log(2))
    assert found["mean"] == pytest.approx(expected, abs=4 * found["stderr"]) and found["stderr"] < 0.005
