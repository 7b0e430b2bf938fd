"""The choice of a checkpoint: the known best is found, wherever it runs, killed or not; alone it is free."""

import ast
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.generate import generate, select_checkpoint
from pipeline.generate.select_checkpoint import SelectedCheckpoint, best_checkpoint, choose
from pipeline.metrics import features, fid
from pipeline.metrics.fid import distance, moments
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.ladder import Ladder
from pipeline.ncsn.sampler import Sampler
from pipeline.program import ROOT, files_of
from tests.generate.small import in_this_process

SHAPE = (1, 2, 2)
SAMPLER = Sampler.langevin(Ladder(1.0, 0.1, 8), step_size=2e-3, steps_per_level=10)
SETTINGS: dict[str, Any] = {
    "shape": SHAPE,
    "num_samples": 60,
    "shard_size": 20,
    "precision": "float32",
    "compile": False,
    "seed": 7,
    "workers": 1,
    "cpus_per_worker": 1,
    "use_gpu": False,
}
TRUE = 0.5


class Gaussian(nn.Module):
    """The exact score of N(mean, 1/100), so that how far `mean` is from `TRUE` is its fault."""

    def __init__(self, mean: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean))

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return (self.mean - x) / (0.01 + sigma.view(-1, 1, 1, 1) ** 2)


@dataclass(frozen=True)
class Pixels:
    """A feature space that needs no training."""

    name: str = "pixels"
    device: str = "cpu"

    def on(self, device: str) -> "Pixels":
        return self

    def features(self, images: np.ndarray) -> np.ndarray:
        return (images.reshape(len(images), -1) / 255).astype(np.float32)


class Place:
    """Networks of planted means, as folders of a training."""

    def __init__(self, root: Path) -> None:
        self.root, self.reference, self.storage = root, root / "reference", root / "runs"
        self.reference.mkdir()
        (self.reference / features.CONFIG).write_text("{}")

    def plant(self, *means: float) -> dict[int, Path]:
        folders = {100 * (place + 1): self.root / str(place) for place in range(len(means))}
        for folder, mean in zip(folders.values(), means, strict=True):
            folder.mkdir(exist_ok=True)
            for name in ("ema.safetensors", "manifest.json"):
                (folder / name).write_text(str(mean))
        return folders

    def choose(self, folders: dict[int, Path], **changes: Any) -> SelectedCheckpoint:
        settings = {**SETTINGS, "storage": self.storage, **changes}
        return choose(folders, SAMPLER, reference=self.reference, **settings)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    rng = np.random.default_rng(0)
    train = np.clip(255 * rng.normal(TRUE, 0.1, (4000, *SHAPE)) + 0.5, 0, 255).astype(np.uint8)
    monkeypatch.setattr(features, "load_space", lambda _: Pixels())
    monkeypatch.setattr(fid, "load_moments", lambda *_: moments(Pixels().features(train)))
    monkeypatch.setattr(
        select_checkpoint,
        "load_network",
        lambda folder: Gaussian(float((folder / "ema.safetensors").read_text())),
    )
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return Place(tmp_path)


@pytest.mark.parametrize("right", range(4))
def test_the_planted_best_is_found_wherever_it_stands(right: int, place: Place) -> None:
    means = [0.18, 0.36, 0.66, 0.84]
    means[right] = TRUE
    folders = place.plant(*means)
    choice = place.choose(folders)
    assert choice.folder == folders[100 * (right + 1)] and choice.about["step"] == 100 * (right + 1)
    known = [abs(mean - TRUE) for mean in means]
    fids = [min(point["raw"], point["denoised"]) for point in choice.about["points"]]
    assert np.array_equal(np.argsort(known, kind="stable"), np.argsort(fids, kind="stable"))
    assert choice.about["kind"] == "denoised", "what is left of the noise is a fault too"
    assert {key: choice.about[key] for key in ("num_samples", "seed", "evaluator")} == {
        "num_samples": 60, "seed": 7, "evaluator": "pixels",
    }  # fmt: skip


def test_the_fid_is_that_of_the_network_s_own_samples(place: Place) -> None:
    (point, _) = place.choose(place.plant(0.4, 0.3)).about["points"]
    known = ("shape", "num_samples", "shard_size", "precision", "compile", "seed")
    made = generate.generate(Gaussian(0.4), SAMPLER, **{key: SETTINGS[key] for key in known})
    target = fid.load_moments(place.reference, "train")
    for kind in ("raw", "denoised"):
        assert point[kind] == distance(moments(Pixels().features(getattr(made, kind))), target)


def test_of_equals_the_later_one_is_taken_and_the_lower_of_its_two_decides() -> None:
    equal = {"raw": 2.0, "denoised": 1.0}
    assert best_checkpoint({100: equal, 200: equal, 300: {"raw": 1.5, "denoised": 1.5}}) == (200, "denoised")
    assert best_checkpoint({100: {"raw": 0.5, "denoised": 9.0}, 200: equal, 300: None}) == (100, "raw")
    with pytest.raises(UserError, match="diverges for every network"):
        best_checkpoint({100: None})


def test_a_network_whose_samples_diverge_is_passed_over(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    choice = place.choose(place.plant(0.3, float("inf"), 0.2))
    assert choice.about["step"] == 100 and str(place.root / "1") in caplog.text
    assert choice.about["points"][1] == {"step": 200, "raw": None, "denoised": None}
    choice.discard()
    assert not list(place.storage.glob("s*-*")), "neither FIDs nor the shards of who diverged"
    with pytest.raises(UserError, match="diverges for every network"):
        place.choose(place.plant(float("inf"), float("nan")))


class Killed(BaseException):
    """What no handler of errors expects."""


def test_a_killed_choice_goes_on_where_it_was(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = place.plant(0.3, 0.4, TRUE, 0.6)
    expected, shards = place.choose(folders, storage=place.root / "other"), 3 * len(folders)
    drawn, real = [0], generate.draw

    def draw(*arguments: Any, **named: Any) -> Any:
        drawn[0] += 1
        if drawn[0] in cuts:
            raise Killed
        return real(*arguments, **named)

    monkeypatch.setattr(generate, "draw", draw)
    for cuts in ({2}, {4}, {8, 12}, set(range(2, 100, 2))):
        drawn[0] = 0
        for _ in range(20):
            with contextlib.suppress(Killed):
                choice = place.choose(folders)
                break
        assert choice.about == expected.about
        wasted = len([cut for cut in cuts if cut <= drawn[0]])
        assert drawn[0] == shards + wasted, "no shard that was done is drawn again"
        assert list(place.storage.iterdir()) == [choice.measured], "samples are deleted, FIDs are not"
        choice.discard()
        assert not list(place.storage.iterdir())


def test_only_what_verifies_is_gone_on_with_and_nothing_of_other_settings(place: Place) -> None:
    folders = place.plant(0.3, 0.4)
    first = place.choose(folders)
    assert first.measured is not None
    mark = first.measured / "step_00000100/fid.json"
    mark.write_text(mark.read_text().replace("raw", "RAW"))
    with pytest.raises(UserError, match="is the chooser of the selection in"):
        place.choose(folders)
    assert first.lock is not None
    first.lock.close()
    assert place.choose(folders).about == first.about
    others = [place.choose(folders, seed=8), place.choose(folders, num_samples=40)]
    (place.reference / features.CONFIG).write_text("{ }")
    others.append(place.choose(folders))
    others.append(place.choose(place.plant(0.3, 0.45)))
    assert len({first.measured, *(choice.measured for choice in others)}) == 5


def test_of_one_network_nothing_is_read_and_nothing_left(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    choice = choose({8: absent}, SAMPLER, reference=absent, storage=absent, **SETTINGS)
    assert choice == SelectedCheckpoint(absent) and list(choice.curve()) == [] and not choice.about
    choice.discard()
    assert not list(tmp_path.iterdir())


def loaded_at_once(path: Path) -> set[Path]:
    """The project's files that a file imports outside of its functions."""
    found = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom)]
    return {file for node in found for name in node.names for file in files_of(f"{node.module}.{name.name}")}


def test_the_stage_loads_no_evaluator_where_nothing_is_chosen() -> None:
    seen = {ROOT / "stages/generate.py"}
    while more := {file for path in seen for file in loaded_at_once(path)} - seen:
        seen |= more
    generate = ROOT / "pipeline/generate"
    assert generate / "select_checkpoint.py" in seen and generate / "score.py" not in seen
    loaded = {path for path in seen if path.is_relative_to(ROOT / "pipeline/metrics")}
    assert {path.name for path in loaded} <= {"__init__.py"}, "params name the kinds of feature spaces"


@pytest.mark.usefixtures("local_ray")
def test_over_ray_the_choice_is_the_same_in_every_bit(place: Place) -> None:
    folders = place.plant(0.3, 0.4, TRUE, 0.6, 0.7)
    with in_this_process():
        here = place.choose(folders)
    here.discard()
    there = place.choose(folders)
    assert there == here and there.folder == folders[300]
