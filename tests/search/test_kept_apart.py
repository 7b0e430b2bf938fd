"""What chooses is not what judges: the searches share neither seeds nor reference images with the report."""

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.cluster import connect
from pipeline.metrics import features, fid
from pipeline.ncsn.ladder import Ladder
from pipeline.params import Params, load
from pipeline.search import noise, sampler_trial
from pipeline.search.sampler_trial import SamplerSetup
from stages.tune_noise import _search
from tests.search.searched import KINDS, Mixture, Pixels

LADDER = Ladder(1.5, 0.02, 10)
IMAGES = np.random.default_rng(0).integers(0, 256, (20, 1, 2, 2), dtype=np.uint8)
MANIFEST = {"max_pairwise_distance": 1.5, "shape": [20, 1, 8, 8]}


@pytest.fixture
def shipped() -> Params:
    return load(Path(__file__).parents[2] / "params.yaml")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the moments that are asked for."""
    names: list[str] = []
    for place in (fid, sampler_trial):
        monkeypatch.setattr(place, "load_moments", lambda _, name: names.append(name))
    return names


def test_no_seed_of_a_search_is_one_of_the_reports(shipped: Params) -> None:
    report = {shipped.generate.seed + offset for _, _, offset in shipped.all_rows().values()}
    for search in (shipped.tune_noise, shipped.tune_sampler):
        assert not {search.seed + n for n in range(search.repeats + 1)} & report


def test_the_search_of_the_sampler_judges_by_images_of_its_own(
    tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampler_trial, "open_dataset", lambda _: SimpleNamespace(split=lambda _: IMAGES))
    monkeypatch.setattr(sampler_trial, "load_space", lambda _: Pixels())
    monkeypatch.setattr(sampler_trial, "load_network", lambda _: Mixture())
    SamplerSetup.read(tmp_path, "v", LADDER, budget=None, max_nfe=5, kinds=KINDS)
    assert asked == ["search"]


def test_the_search_of_the_noise_range_judges_by_the_same(
    shipped: Params, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "connect", lambda **_: contextlib.nullcontext(0))
    monkeypatch.setattr(features, "load_space", lambda _: Pixels())
    monkeypatch.setattr(noise, "tune", lambda setup, *_, **__: setup)
    data: Any = SimpleNamespace(split=lambda _: IMAGES, manifest=MANIFEST)
    assert _search(shipped, data).images is IMAGES  # type: ignore[attr-defined]
    assert asked == ["search"]
