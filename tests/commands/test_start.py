"""A preset for own images: it is valid, says why, keeps its bounds, and bad input gets one clear error."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline import dvcfile
from pipeline.commands import preset, start
from pipeline.commands.preset import laid
from pipeline.ncsn import noise
from pipeline.ncsn.kinds import kind_of
from pipeline.params import Params, load
from pipeline.proposal import choose, cost
from pipeline.proposal.look import look
from pipeline.proposal.text import plain_yaml

ROOT = Path(__file__).parents[2]
COUNT = 240
FAST = cost.Speed(*(dict.fromkeys(("ncsn", "ncsnv2", "tuned", "edm"), 1e-05) for _ in range(2)), 1e-5)
SLOW = cost.Speed(*(dict.fromkeys(("ncsn", "ncsnv2", "tuned", "edm"), 1.0) for _ in range(2)), 1.0)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "conf", tmp_path / "conf", ignore=lambda _, names: [n for n in names if n == "mine.yaml"])
    shutil.copy(ROOT / "conf/digits.yaml", tmp_path / "params.yaml")
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    monkeypatch.setattr(cost, "measure", lambda *_: FAST)
    return tmp_path


def folder(root: Path, *shape: int, classes: int = 1, mode: str | None = None, deep: bool = False) -> Path:
    """`COUNT` images of random pixels: in a folder for each class, or in one."""
    draw = np.random.default_rng(0)
    for number in range(COUNT):
        pixels = draw.integers(0, 4000, shape, np.uint16) if deep else draw.integers(0, 256, shape, np.uint8)
        place = root / f"class{number % classes}" if classes > 1 else root
        place.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(pixels)
        (image.convert(mode) if mode else image).save(place / f"{number}.png")
    return root


def icons(root: Path) -> Path:
    """Colour with an alpha channel, of two classes, among them a palette and a grey."""
    folder(root, 16, 16, 4, classes=2)
    for name, mode in (("p", "P"), ("l", "L")):
        Image.fromarray(np.full((16, 16, 3), 9, np.uint8)).convert(mode).save(root / f"class0/{name}.png")
    return root


def array(root: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 12, 12, 3), np.uint8)
    root.mkdir()
    np.savez(root / "in.npz", images=pixels, labels=np.arange(COUNT) % 3)
    return root / "in.npz"


def deep(root: Path) -> Path:
    return folder(root, 8, 8, classes=3, deep=True)


def without_classes(root: Path) -> Path:
    return folder(root, 20, 16)


KINDS = {
    "icons": (
        icons,
        {"name": "folder", "image_size": 16, "num_held_out": 48, "background": [255, 255, 255], "to_rgb": True},
        "classifier",
    ),
    "16 bits": (deep, {"name": "folder", "image_size": 8, "white": 4095, "to_rgb": False}, "classifier"),
    "no classes": (without_classes, {"name": "folder", "image_size": 16, "background": None}, "rotations"),
    "array": (array, {"name": "npz", "image_size": 12, "white": None}, "classifier"),
}


@pytest.mark.parametrize("case", KINDS)
def test_the_preset_of_each_kind_is_valid_and_plans(
    case: str, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, data, features = KINDS[case]
    source = make(repository / "in")
    assert start.main([str(source), "--name", "mine"], repository) == 0
    said = capsys.readouterr().out
    assert preset.main(["mine"], repository) == 0
    params = load(repository / "params.yaml")
    assert {key: getattr(params.data, key) for key in data} == data
    assert params.data.source == str(source) and params.preset == "mine"
    assert kind_of(params.features) == features
    text = (repository / "conf/mine.yaml").read_text()
    for line in ("data.image_size: ", "python -m pipeline.commands.preset mine", "dvc repro", "minutes in all"):
        assert line in said
    assert text.count("   # ") == said.count("\n    ")
    planned = dvcfile.entries(repository).keys()
    assert {f"train@{network}" for network in params.networks} | {f"evaluate@{row}" for row in params.rows} <= planned


def test_bounds_hold_what_the_rows_and_starts_spend(repository: Path) -> None:
    """Of the analytic ladder, by its formulas: the levels fit tune_noise, the baseline fits tune_sampler."""
    facts = look(icons(repository / "in"), None, None, "cpu")
    params = _params(facts, repository, 1.0)
    levels = noise.num_levels(facts.sigma_max, 0.01, 3 * 16 * 16, 0.5)
    assert params.tune_noise.max_nfe == levels + 1
    sampler: Any = params.tune_sampler.baseline.sampler
    assert params.tune_sampler.max_nfe[-1] == sampler.steps_per_level * levels + 1
    assert params.sampler["ncsnv2"] == sampler
    assert params.evaluate.kid_subset_size * 2 <= params.generate.num_samples == facts.held_out == 48
    assert params.train.batch_size <= len(facts.images)
    many = replace(facts, held_out=500)
    assert [choose.num_samples(many, effort) for effort in (1 / 64, 0.25, 1)] == [100, 250, 500]


def _params(facts: Any, repository: Path, effort: float, name: str = "mine") -> Params:
    return laid(repository / "conf", name, start.preset_text(name, choose.choices_for(facts, effort)))[1]


@pytest.mark.parametrize("effort", [start.EFFORTS[0], start.EFFORTS[-1]])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_dearest_and_the_cheapest_preset_are_valid(effort: float, device: str, repository: Path) -> None:
    facts = look(array(repository / "in"), None, None, device)
    params = _params(facts, repository, effort)
    assert params.train.steps == max(40, round(2000 * effort))
    assert params.train.batch_size == (128 if device == "cuda" else 32)


def test_the_accuracy_asked_for_is_above_that_of_naming_the_largest_class(repository: Path) -> None:
    root = folder(repository / "in", 8, 8, classes=2)
    for path in list((root / "class1").iterdir())[:60]:
        path.rename(root / "class0" / path.name)
    params = _params(look(root, None, None, "cpu"), repository, 1.0)
    assert params.features.min_accuracy == 0.81, "3 of 4 images are of one class"  # type: ignore[attr-defined]


def test_more_minutes_buy_more_steps_and_the_estimate_keeps_to_them(repository: Path) -> None:
    facts = look(folder(repository / "in", 8, 8), None, None, "cpu")
    spent = [sum(start.propose(facts, repository / "conf", "mine", minutes)[2].values()) for minutes in (5, 20)]
    assert spent[0] <= 300 < spent[1] <= 1200


def test_the_estimate_is_the_sum_of_what_is_planned(repository: Path) -> None:
    params = load(repository / "params.yaml")
    facts = look(folder(repository / "in", 8, 8), None, None, "cuda")
    per_step = cost.Speed({"ncsn": 1.0, "ncsnv2": 0.0, "tuned": 0.0, "edm": 0.0}, dict.fromkeys(FAST.step, 0.0), 0.0)
    assert cost.estimate(params, facts, start._ladder(facts), per_step)["train"] == 600 * 128
    per_call = cost.Speed(dict.fromkeys(FAST.step, 0.0), {"ncsn": 1.0, "ncsnv2": 0.0, "tuned": 0.0, "edm": 0.0}, 0.0)
    assert cost.estimate(params, facts, start._ladder(facts), per_call)["generate"] == 360 * 201


def test_networks_are_timed(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    facts = look(folder(repository / "in", 8, 8), None, None, "cpu")
    speed = cost.measure(_params(facts, repository, 0.1), facts, start._ladder(facts))
    assert speed.step.keys() == speed.evaluation.keys() == {"ncsn", "ncsnv2", "tuned", "edm"}
    assert all(0 < speed.evaluation[name] < speed.step[name] < 1 for name in speed.step) and 0 < speed.features < 1


def mixed(root: Path) -> Path:
    folder(root, 16, 16)
    Image.fromarray(np.zeros((9, 12), np.uint8)).save(root / "small.png")
    return root


def equal(root: Path) -> Path:
    root.mkdir()
    np.save(root / "in.npy", np.zeros((COUNT, 8, 8), np.uint8))
    return root / "in.npy"


def few(root: Path) -> Path:
    root.mkdir()
    np.save(root / "in.npy", np.zeros((9, 8, 8), np.uint8))
    return root / "in.npy"


def empty(root: Path) -> Path:
    root.mkdir()
    return root


def broken(root: Path) -> Path:
    folder(root, 8, 8)
    (root / "bad.png").write_bytes(b"no image")
    return root


def text_file(root: Path) -> Path:
    root.write_text("no images")
    return root


MISTAKES = {
    "nothing there": (lambda root: root, [], "in does not exist: give a folder"),
    "no images": (empty, [], "in holds no images"),
    "no array": (text_file, [], r"in is no \.npy or \.npz file"),
    "too few": (few, [], r"in\.npy holds 9 images: at least 200 are needed"),
    "all equal": (equal, [], "largest distance of two images is 0: they are all equal"),
    "two sizes": (mixed, [], r"2 sizes, such as 16x16 \(240\), 12x9 \(1\): add `--image-size N`, at most 9"),
    "too small": (lambda root: folder(root, 6, 9), [], "images of 6 pixels a side: the networks need at least 8"),
    "a broken image": (broken, [], r"1 of 241 images .*\n  bad\.png is not an image"),
    "an array is not resized": (few, ["--image-size", "4"], "8 pixels a side, which are not resized: omit"),
    "an impossible size": (without_classes, ["--image-size", "10"], r"image_size \(10\) does not suit"),
    "a shipped preset": (without_classes, ["--name", "digits", "--force"], r"digits\.yaml is a preset that this comm"),
    "no name": (without_classes, ["--name", "a b"], "preset 'a b': rename it"),
    "a name that is a path": (without_classes, ["--name", "../mine"], r"preset '\.\./mine': rename it"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_bad_input_gets_one_error_and_writes_nothing(
    case: str, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, more, message = MISTAKES[case]
    source = make(repository / "in")
    before = {path: path.read_bytes() for path in repository.rglob("*.yaml")}
    assert start.main([str(source), *(more if "--name" in more else ["--name", "mine", *more])], repository) == 2
    found = capsys.readouterr()
    assert re.search(message, found.err) and found.err.startswith("error: ") and not found.out
    assert {path: path.read_bytes() for path in repository.rglob("*.yaml")} == before


def test_mixed_sizes_are_cut_where_that_is_asked(repository: Path) -> None:
    facts = look(mixed(repository / "in"), 8, None, "cpu")
    assert facts.data["name"] == "folder_any_size" and facts.images.shape == (193, 1, 8, 8)


def test_a_budget_that_is_too_small_names_the_least(
    repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "measure", lambda *_: SLOW)
    assert start.main([str(folder(repository / "in", 8, 8)), "--name", "mine"], repository) == 2
    assert re.search(
        r"--minutes 60 is too short: the least that is planned takes about \d+ minutes", capsys.readouterr().err
    )
    assert not (repository / "conf/mine.yaml").exists()


def test_its_own_preset_is_overwritten_by_force_alone(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [str(folder(repository / "in", 8, 8)), "--name", "mine"]
    assert start.main(given, repository) == 0
    assert start.main(given, repository) == 2 and "add `--force`" in capsys.readouterr().err
    assert start.main([*given, "--force", "--minutes", "10"], repository) == 0


@pytest.mark.parametrize("option", [["--background", "1,2"], ["--background", "1,2,256"], ["--minutes", "0"]])
def test_a_wrong_option_is_refused(option: list[str], repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        start.main(["in", *option], repository)
    assert left.value.code == 2 and option[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "text"),
    [("null", '"null"'), ("a: b", '"a: b"'), (None, "null"), (True, "true"), ([1, {"a": 2e-5}], "[1, {a: 2e-05}]")],
)
def test_values_are_yaml(value: Any, text: str) -> None:
    assert plain_yaml(value) == text
