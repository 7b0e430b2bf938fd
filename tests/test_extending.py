"""Extending: the examples of docs/extending.md, in a folder outside the package, make a row of the table."""

import csv
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from pipeline.commands.preset import compose
from pipeline.files import read_json, read_yaml
from pipeline.metrics.measures import measures
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.kinds import KINDS_ROOMS, find, kinds
from pipeline.ncsn.ladder import Ladder
from pipeline.ncsn.nfe import cost
from pipeline.params import Params, parse
from pipeline.search.sampler_space import Proposals
from pipeline.training.fit import fit
from stages import (
    evaluate,
    features,
    frontier,
    generate,
    prepare,
    report,
    settle_noise,
    settle_sampler,
    train,
)

ROOT = Path(__file__).parents[1]
KINDS = {
    "datasets": "stripes",
    "networks": "plain",
    "losses": "uniform",
    "optimizers": "sgd",
    "schedules": "linear",
    "averages": "mean",
    "samplers": "rk2",
    "measures": "brightness",
    "features": "pixels",
}
RECIPE = {
    "network": {"kind": "plain", "width": 8},
    "loss": {"kind": "uniform"},
    "optimizer": {"kind": "sgd", "lr": 0.001, "momentum": 0.9},
    "schedule": {"kind": "linear"},
    "ema": {"kind": "mean"},
    "steps": 12,
    "dequantise": False,
    "flip": False,
}
SAMPLER = {"kind": "rk2", "num_levels": 5, "alpha": 0.5}


def examples() -> dict[str, str]:
    """The files of docs/extending.md by their path below `extensions`."""
    text = (ROOT / "docs/extending.md").read_text()
    return dict(re.findall(r"^```python\n# extensions/(\S+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with the extensions on the path, which is left as it was."""
    for name, text in examples().items():
        path = tmp_path / "extensions" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    measures.cache_clear()
    yield tmp_path
    measures.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "extensions"]:
        del sys.modules[name]


def params(images: Path) -> Params:
    """The reduced preset with one network and one row, both `mine`."""
    raw: dict[str, Any] = YAML(typ="safe").load(compose(ROOT / "conf", "digits_reduced"))
    raw |= {"networks": ["mine"], "rows": {"mine": "mine"}, "features": {"kind": "pixels"}}
    raw["data"] |= {"name": "stripes", "source": str(images), "num_held_out": 60}
    raw["noise"] = {"mine": {"kind": "geometric", "sigma_max": 1.0, "sigma_min": 0.05, "num_levels": 6}}
    raw["recipes"] = {"mine": RECIPE}
    raw["sampler"] = {"mine": SAMPLER}
    raw["tune_noise"] |= {"network": "mine", "num_trials": 0, "starts": {}}
    raw["tune_sampler"] |= {"network": "mine", "num_trials": 0, "kinds": ["rk2", "langevin"]}
    raw["tune_sampler"]["baseline"]["network"] = raw["frontier"]["network"] = "mine"
    raw["frontier"] |= {"rk2": {"alpha": 0.5}, "nfe": [9], "num_samples": 20}
    raw["generate"] |= {"num_samples": 60, "sample_sets": 1, "shard_size": 30}
    raw["evaluate"] |= {"kid_subset_size": 20}
    raw["report"] |= {"grid": [2, 4]}
    raw["compute"] |= {"workers": 1, "use_gpu": False, "storage": "runs"}
    raw["tracking"] |= {"enabled": False}
    return parse(raw, "params.yaml")


def stripes(path: Path) -> Path:
    rng = np.random.default_rng(0)
    shades = rng.integers(0, 256, (300, 8, 1)).repeat(8, axis=2)
    np.save(path, np.clip(shades + rng.integers(-9, 9, (300, 8, 8)), 0, 255).astype(np.uint8))
    return path


def test_there_is_an_example_of_each_room() -> None:
    assert {name.split("/")[0] for name in examples()} == set(KINDS) == set(KINDS_ROOMS)
    assert all(f"{room}/{kind}.py" in examples() for room, kind in KINDS.items())
    assert all(len(text.splitlines()) <= 50 for text in examples().values())


def test_one_of_each_kind_runs_through_to_a_row(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On one process: Ray Train would only call the same loop."""
    found = params(stripes(folder / "images.npy"))
    monkeypatch.setattr(train, "fit", lambda task, images, run, **_: fit(task, images, run))
    monkeypatch.setattr(train, "published", lambda *_: None)
    prepare.main(found)
    features.main(found)
    settle_noise.main(found)
    train.main(found, "mine")
    settle_sampler.main(found)
    generate.main(found, "mine")
    evaluate.main(found, "mine")
    frontier.main(found)
    report.main(found)
    assert read_yaml(folder / "artifacts/sampler/mine.yaml")["sampler"]["alpha"] == 0.5
    assert read_json(folder / "artifacts/samples/mine/manifest.json")["nfe"]["denoised"] == 2 * 4 + 1
    assert read_json(folder / "artifacts/metrics/mine.json")["brightness_error"] >= 0
    with (folder / "artifacts/frontier/frontier.csv").open() as file:
        assert {"rk2", "heun"} <= {row["sampler"] for row in csv.DictReader(file)}
    table = (folder / "reports/table.md").read_text()
    assert "Brightness error" in table and "mine" in table


def test_a_sampler_of_ones_own_is_searched(folder: Path) -> None:
    """By its own bounds where params.yaml has none, and from its own starting point."""
    found = params(folder / "images.npy")
    proposals = Proposals(Ladder(1.0, 0.05, 6), 20, found.tune_sampler.kinds)
    assert [point["kind"] for point in proposals.points()] == ["langevin", "rk2"]
    space = proposals.space(found.tune_sampler.kwargs())
    assert (space["alpha"].lower, space["alpha"].upper) == (0.3, 1.0)  # type: ignore[union-attr]
    sampler = proposals.sampler(proposals.points()[1])
    assert sampler.kind == "rk2" and sampler.options == {"alpha": 0.5} and cost(sampler) <= 20


def test_a_mistake_in_ones_own_settings_has_its_key(folder: Path) -> None:
    cls = find("samplers", "rk2")
    assert "rk2" in kinds("samplers") and cls(num_levels=3, alpha=1.0).rho is None
    raw = dict(SAMPLER, alpha=2.0)
    with pytest.raises(UserError, match=r"sampler.mine.alpha: alpha is 2.0: it must be above 0"):
        found = YAML(typ="safe").load(compose(ROOT / "conf", "digits_reduced"))
        parse(found | {"sampler": {"mine": raw}}, "params.yaml")
