"""Import of released weights: the outputs are the original's, by a path of their own; mistakes are named."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from torch import Tensor

from pipeline.commands import import_checkpoint
from pipeline.files import read_json, sha256, write_yaml
from pipeline.ncsn.images import to_uint8
from pipeline.ncsn.ladder import Ladder
from pipeline.ncsn.sampler import Sampler
from pipeline.params import parse
from pipeline.training.checkpoints import load_network
from stages import generate
from tests.ncsn import released

ROOT = Path(__file__).resolve().parents[2]
LADDER = np.exp(np.linspace(np.log(9.0), np.log(0.02), 6))
SIGMAS = torch.tensor(LADDER).float()
SIZES = ["--sigma-max", "9", "--sigma-min", "0.02", "--num-levels", "6", "--image-size", "32"]
Main = Callable[..., int]


def states(kind: str, *, cascades: int = 4, ema: bool = False) -> list[Any]:
    """A checkpoint as the authors' code saves it: of 2019 in two parts, of 2020 in four or five."""
    made = [
        released.state(channels=3, ngf=4, levels=6 if kind == "ncsn" else None, cascades=cascades, seed=seed)
        for seed in (0, 1)
    ]
    buffers = {} if kind == "ncsn" else {"sigmas": SIGMAS}
    network = {f"module.{name}": value for name, value in {**made[0], **buffers}.items()}
    adam = {
        "state": {0: {"step": 300, "exp_avg": torch.zeros(2)}},
        "param_groups": [{"lr": 1e-4, "params": [0]}],
    }
    return [network, adam] if kind == "ncsn" else [network, adam, 7, 500, *([made[1]] if ema else [])]


@pytest.fixture
def main(tmp_path: Path) -> Main:
    """The door, run in a checkout of its own on a file that holds what it is given."""
    shutil.copy(ROOT / "conf/digits.yaml", tmp_path / "params.yaml")

    def run(content: object, *arguments: str) -> int:
        torch.save(content, tmp_path / "checkpoint.pth")
        return import_checkpoint.main([str(tmp_path / "checkpoint.pth"), *arguments], tmp_path)

    return run


def agree(folder: Path, weights: released.State, *, size: int = 32, cascades: int = 4) -> None:
    """The network in a folder gives the scores of the released weights, at every level."""
    x = torch.rand(6, 3, size, size, generator=torch.Generator().manual_seed(2))
    expected = released.score(weights, x, torch.arange(6), SIGMAS, cascades)
    found: Tensor = load_network(folder)(x, SIGMAS)
    scale = expected.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=1e-5)


def weights_of(part: dict[str, Tensor]) -> released.State:
    return {name.removeprefix("module."): value for name, value in part.items()}


@pytest.mark.parametrize("size", [28, 32])
@pytest.mark.parametrize("kind", ["ncsn", "ncsnv2"])
def test_the_imported_network_is_the_released_one(kind: str, size: int, main: Main, tmp_path: Path) -> None:
    content = states(kind)
    assert main(content, "--kind", kind, *SIZES[:-1], str(size)) == 0
    agree(tmp_path / "artifacts/models" / kind, weights_of(content[0]), size=size)


@pytest.mark.parametrize(("cascades", "size"), [(5, 96), (6, 256)])
def test_so_are_the_deeper_ones(cascades: int, size: int, main: Main, tmp_path: Path) -> None:
    content = states("ncsnv2", cascades=cascades)
    assert main(content, "--kind", "ncsnv2", *SIZES[:-1], str(size)) == 0
    folder = tmp_path / "artifacts/models/ncsnv2"
    x, level = torch.rand(1, 3, size, size), torch.tensor([3])
    torch.testing.assert_close(
        load_network(folder)(x, SIGMAS[3]),
        released.score(weights_of(content[0]), x, level, SIGMAS, cascades),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("kind", ["ncsn", "ncsnv2"])
def test_generate_runs_on_it_without_training(
    kind: str, main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps too small to move: the denoised samples are the start, denoised by the released network."""
    raw = YAML(typ="safe").load(tmp_path / "params.yaml")
    raw["tracking"]["enabled"] = False
    raw["generate"] |= {"num_samples": 3, "shard_size": 3}
    raw["evaluate"] |= {"kid_subset_size": 2, "nearest_k": 1, "splits": 1}
    content = states(kind)
    assert main(content, "--kind", kind, *SIZES) == 0
    sampler = Sampler.langevin(Ladder(9.0, 0.02, 6), step_size=1e-12, steps_per_level=1)
    settled = {"network": kind, "searches": [], "sampler": sampler.plain()}
    write_yaml(tmp_path / f"artifacts/sampler/{kind}.yaml", settled)
    monkeypatch.chdir(tmp_path)
    held_out = np.zeros((1, 3, 32, 32), np.uint8)
    monkeypatch.setattr(generate, "open_dataset", lambda _: SimpleNamespace(split=lambda _: held_out))
    generate.main(parse(raw, "params.yaml"), kind)
    raw_samples, denoised = (np.load(f"artifacts/samples/{kind}/{name}.npy") for name in ("raw", "denoised"))
    x, last = torch.from_numpy(raw_samples) / 255, torch.full((3,), 5)
    expected = x + SIGMAS[-1] ** 2 * released.score(weights_of(content[0]), x, last, SIGMAS)
    difference = torch.from_numpy(denoised).int() - to_uint8(expected).int()
    assert raw_samples.std() > 50 and difference.abs().float().mean() < 2


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_moving_average_is_taken_where_there_is_one(prefix: str, main: Main, tmp_path: Path) -> None:
    content = states("ncsnv2", ema=True)
    average, plain = content[4], weights_of(content[0])
    content[4] = {prefix + name: value for name, value in average.items()}
    for flag, expected in (("--ema", average), ("--no-ema", plain), (None, average)):
        assert main(content, "--kind", "ncsnv2", *SIZES, *([flag] if flag else [])) == 0
        agree(tmp_path / "artifacts/models/ncsnv2", expected)


def test_the_checkpoint_says_what_it_is(main: Main, tmp_path: Path) -> None:
    """The variant's recipe stands in it, but for what the file decides; its `code` is the file's hash."""
    assert main(states("ncsnv2"), "--kind", "ncsnv2", "--network", "tuned", *SIZES) == 0
    state = read_json(tmp_path / "artifacts/models/tuned/state.json")
    task = state["task"]
    assert (state["step"], task["flip"]) == (500, False)
    assert {key: task["network"][key] for key in ("kind", "width", "channels", "image_size")} == {
        "kind": "ncsnv2",
        "width": 4,
        "channels": 3,
        "image_size": 32,
    }
    assert task["network"]["sigmas"] == pytest.approx(LADDER.tolist(), rel=1e-6)
    assert task["code"].endswith(sha256(tmp_path / "checkpoint.pth"))
    assert (tmp_path / "artifacts/curves/tuned.csv").read_text() == "step,images,loss\n"
    assert read_json(tmp_path / "artifacts/metrics/train_tuned.json")["steps"] == 500


def test_the_release_of_2019_counts_its_steps_in_adam(main: Main, tmp_path: Path) -> None:
    assert main(states("ncsn"), "--kind", "ncsn", *SIZES) == 0
    assert read_json(tmp_path / "artifacts/models/ncsn/state.json")["step"] == 300


def test_a_file_with_its_ladder_needs_no_other(main: Main, tmp_path: Path) -> None:
    """In params.yaml `noise.ncsnv2` is a rule, and no ladder to compare with."""
    assert main(states("ncsnv2"), "--kind", "ncsnv2", "--image-size", "32") == 0
    torch.testing.assert_close(load_network(tmp_path / "artifacts/models/ncsnv2").sigmas, SIGMAS)


def test_the_right_sha256_is_accepted(main: Main, tmp_path: Path) -> None:
    content = states("ncsnv2")
    torch.save(content, tmp_path / "checkpoint.pth")
    digest = sha256(tmp_path / "checkpoint.pth").upper()
    assert main(content, "--kind", "ncsnv2", "--sha256", digest, *SIZES) == 0


def without(name: str) -> list[Any]:
    content = states("ncsnv2", ema=True)
    for part in (content[0], content[4]):
        part.pop(name, None)
    return content


def reshaped(name: str) -> list[Any]:
    content = states("ncsnv2")
    content[0][name] = torch.zeros(5)
    return content


def not_finite(part: int) -> list[Any]:
    content = states("ncsnv2", ema=True)
    name = next(name for name in content[part] if name.endswith("end_conv.bias"))
    content[part][name] = torch.tensor([0.0, torch.nan, 0.0])
    return content


@pytest.mark.parametrize(
    ("content", "arguments", "named"),
    [
        (not_finite(4), SIZES, "moving average holds a NaN or an infinity in end_conv.bias: .* by --no-ema"),
        (not_finite(0), SIZES, "network holds a NaN or an infinity in end_conv.bias: fetch it again"),
        ({"a": torch.ones(1)}, [], "is not a list that begins with a network's state"),
        ([], [], "is not a list that begins"),
        ([[torch.ones(1)]], [], "is not a list that begins"),
        ([{"module.a": torch.ones(1)}], SIZES, "no `begin_conv.weight`"),
        ([{"a": torch.ones(1)}, {}, 1, 2, "average"], SIZES, "no moving average in its fifth place"),
        ([released.state], [], "cannot be read as weights"),
        (without("module.res3.0.conv1.bias"), SIZES, r"1 missing \(res3.0.conv1.bias\)"),
        (without("normalizer.alpha"), SIZES, r"1 missing \(normalizer.alpha\)"),
        (reshaped("module.extra"), SIZES, r"1 unknown \(extra\)"),
        (reshaped("module.end_conv.bias"), SIZES, r"1 of another shape \(end_conv.bias\)"),
        (states("ncsnv2"), [*SIZES[:-1], "96"], r"missing \(.*, \.\.\.\); .* of another shape"),
        (states("ncsnv2"), ["--sigma-max", "8", *SIZES[2:]], "6 levels from 9 to 0.02, but 6 levels from 8"),
        (states("ncsnv2"), [*SIZES[:5], "7", *SIZES[6:]], "but 7 levels from 9"),
        (states("ncsnv2"), [*SIZES, "--sha256", "0" * 64], "has the sha256"),
        (states("ncsnv2"), [*SIZES, "--ema"], "has no moving average"),
        (states("ncsnv2"), [*SIZES, "--network", "other"], "'other' is not in `recipes`"),
        (states("ncsnv2"), [*SIZES, "--kind", "ncsn"], "embed.weight"),
        (
            states("ncsn"),
            [*SIZES, "--kind", "ncsn", "--network", "tuned", "--num-levels", "9"],
            "another shape",
        ),
        (states("ncsn"), ["--kind", "ncsn", "--network", "tuned"], "the file holds no ladder"),
    ],
)
def test_a_mistake_is_named(
    content: object, arguments: list[str], named: str, main: Main, tmp_path: Path, capsys: Any
) -> None:
    assert main(content, "--kind", "ncsnv2", *arguments) == 2
    assert re.search(named, capsys.readouterr().err)
    assert not (tmp_path / "artifacts").exists()


def test_a_moving_average_with_a_nan_is_left_out_as_the_message_says(main: Main, tmp_path: Path) -> None:
    assert main(not_finite(4), "--kind", "ncsnv2", "--no-ema", *SIZES) == 0
    agree(tmp_path / "artifacts/models/ncsnv2", weights_of(states("ncsnv2")[0]))


def test_what_is_no_file_is_named(tmp_path: Path, capsys: Any) -> None:
    shutil.copy(ROOT / "conf/digits.yaml", tmp_path / "params.yaml")
    assert import_checkpoint.main([str(tmp_path), "--kind", "ncsn"], tmp_path) == 2
    assert "is not a file" in capsys.readouterr().err
