"""Presets: each is valid, says what the papers say, and one command leads there and back."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline import dvcfile
from pipeline.commands.preset import compose, known, lay, main
from pipeline.data import preparation
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.kinds import plain
from pipeline.params import Params, load, parse

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
NAMES = [
    "celeba",
    "cifar10",
    "digits",
    "digits_continuous",
    "digits_long",
    "digits_reduced",
    "digits_same_network",
    "fashion_mnist",
    "mnist",
]
PAPERS = ["mnist", "cifar10", "celeba"]


def text(name: str) -> str:
    return compose(CONF, name)


def raw(name: str) -> dict[str, Any]:
    return dict(YAML(typ="safe").load(text(name)))


def params(name: str) -> Params:
    return parse(raw(name), name)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "conf").mkdir()
    for name in NAMES:
        shutil.copy(CONF / f"{name}.yaml", tmp_path / "conf")
    shutil.copy(CONF / "digits.yaml", tmp_path / "params.yaml")
    return tmp_path


def test_the_presets_are_these() -> None:
    """But for those of a user, which git does not know."""
    done = subprocess.run(["git", "ls-files", "conf/*.yaml"], cwd=ROOT, capture_output=True, text=True)
    names = sorted(Path(line).stem for line in done.stdout.split() if Path(line).parent.name == "conf")
    assert (names or known(CONF)) == NAMES


def committed(name: str) -> bytes:
    """A file as git has it staged, so that a user's own edits are no failure; the file itself without git."""
    done = subprocess.run(["git", "show", f":{name}"], cwd=ROOT, capture_output=True)
    return (ROOT / name).read_bytes() if done.returncode else done.stdout


def test_the_committed_params_are_the_digits_preset() -> None:
    assert committed("params.yaml") == committed("conf/digits.yaml"), "cp params.yaml conf/digits.yaml, or back"


@pytest.mark.parametrize("name", NAMES)
def test_preset_is_valid_and_named(name: str) -> None:
    assert params(name).preset == name
    assert params(name).data.name in (name, "digits")


class ReachedError(Exception):
    """What the first stage would read its data by was called."""


@pytest.mark.parametrize("name", NAMES)
def test_all_stages_are_planned_and_the_first_one_comes_to_its_source(
    name: str, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main([name], repository)
    shutil.copy(ROOT / "dvc.yaml", repository)
    p, planned = params(name), dvcfile.entries(repository)
    assert planned["prepare"].outs == ("artifacts/data",)
    assert {f"train@{network}" for network in p.networks} | {f"evaluate@{row}" for row in p.rows} <= planned.keys()

    def locate(found: str, *_: object) -> None:
        raise ReachedError(found)

    monkeypatch.setattr(preparation, "locate", locate)
    with pytest.raises(ReachedError, match=p.data.name):
        preparation.prepare(repository / "data", **p.data.kwargs())


@pytest.mark.parametrize("name", NAMES)
def test_overlay_holds_only_what_differs(name: str) -> None:
    """Each key of an overlay is there for a reason: it changes something, or states what the paper states."""
    if name == "digits":
        return
    overlay, base = YAML(typ="safe").load(CONF / f"{name}.yaml"), raw("digits")
    assert set(overlay) <= set(base) - {"preset", "compute", "tracking"}
    assert all(overlay[section] != base[section] for section in overlay)


@pytest.mark.parametrize("name", PAPERS)
def test_ncsn_is_the_2019_papers(name: str) -> None:
    """1907.05600: L = 10 from 1 to 0.01; T = 100, eps = 2e-5; Adam 1e-3 (.9, .999), no moving average."""
    p = params(name)
    noise = {"kind": "geometric", "sigma_max": 1.0, "sigma_min": 0.01, "num_levels": 10}
    assert p.noise["ncsn"].kwargs() == noise
    assert plain(p.sampler["ncsn"]) == {"kind": "langevin", "step_size": 2e-5, "steps_per_level": 100}
    assert p.recipes["ncsn"].kwargs() == {
        "network": {"kind": "ncsn", "width": 64 if name == "mnist" else 128},
        "loss": {"kind": "levels"},
        "optimizer": {"kind": "adam", "lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8},
        "schedule": {"kind": "constant"},
        "ema": {"kind": "none"},
        "steps": None,
        "dequantise": True,
        "flip": name != "mnist",
    }


@pytest.mark.parametrize(("name", "reference"), [("mnist", "train"), ("cifar10", "train"), ("celeba", "held_out")])
def test_fid_is_against_the_papers_split(name: str, reference: str) -> None:
    """2006.09011: CelebA's test set, all of it for what no search chose; `train` elsewhere."""
    p = params(name)
    assert (p.evaluate.reference, p.data.num_held_out) == (reference, None)
    chosen = {row: bool(p.searches(row)) for row in p.rows}
    assert chosen == {"ncsn": False, "ncsnv2": False, "tuned": True, "tuned_fewest": True, "edm": False}


@pytest.mark.parametrize("name", PAPERS)
def test_ncsnv2_is_the_2020_papers(name: str) -> None:
    """2006.09011: Adam 1e-4 (.9, .999), moving average .999, no dequantisation."""
    for network in ("ncsnv2", "tuned"):
        assert params(name).recipes[network].kwargs() == {
            "network": {"kind": "ncsnv2", "width": 64 if name == "mnist" else 128},
            "loss": {"kind": "levels"},
            "optimizer": {"kind": "adam", "lr": 1e-4, "betas": [0.9, 0.999], "eps": 1e-8},
            "schedule": {"kind": "constant"},
            "ema": {"kind": "exponential", "rate": 0.999},
            "steps": None,
            "dequantise": False,
            "flip": name != "mnist",
        }


@pytest.mark.parametrize(
    ("name", "size", "sigma_max", "num_levels", "steps_per_level", "step_size", "steps", "samples"),
    [
        ("cifar10", 32, 50.0, 232, 5, 6.2e-6, 300_000, 50_000),
        ("celeba", 64, 90.0, 500, 5, 3.3e-6, 210_000, 10_000),
    ],
)
def test_ncsnv2_settings_are_the_published(
    name: str,
    size: int,
    sigma_max: float,
    num_levels: int,
    steps_per_level: int,
    step_size: float,
    steps: int,
    samples: int,
) -> None:
    """2006.09011, table of settings, and the number of samples behind its FIDs."""
    p = params(name)
    levels = {"sigma_max": sigma_max, "sigma_min": 0.01, "num_levels": num_levels}
    assert p.noise["ncsnv2"].kwargs() == {"kind": "geometric", **levels}
    assert p.tune_noise.starts["ncsnv2"].kwargs() == levels, "the search starts from it"
    sampler = {"kind": "langevin", "step_size": step_size, "steps_per_level": steps_per_level}
    assert plain(p.sampler["ncsnv2"]) == sampler
    assert p.tune_sampler.max_nfe[-1] == p.tune_noise.max_nfe == num_levels * steps_per_level + 1
    assert (p.data.image_size, p.train.steps, p.train.batch_size) == (size, steps, 128)
    assert p.generate.num_samples == samples


def test_mnist_trains_as_published() -> None:
    p = params("mnist")
    assert (p.train.steps, p.train.batch_size, p.train.checkpoint_every) == (200_000, 128, 5_000)
    assert p.noise["ncsnv2"].kwargs()["kind"] == "analytic", "NCSNv2 published none for MNIST"
    assert plain(p.sampler["ncsnv2"])["step_size"] == "analytic"


@pytest.mark.parametrize("name", [*PAPERS, "fashion_mnist"])
def test_the_published_split_is_used(name: str) -> None:
    assert params(name).data.num_held_out is None


@pytest.mark.parametrize("name", NAMES)
def test_the_baseline_is_the_row_ncsnv2(name: str) -> None:
    """Their names stand in a preset twice, so that neither search depends on the rows."""
    p = params(name)
    baseline = p.tune_sampler.baseline
    assert baseline.network == p.rows["ncsnv2"] == "ncsnv2"
    assert baseline.sampler == p.sampler["ncsnv2"]


@pytest.mark.parametrize("name", NAMES)
def test_the_search_starts_from_the_levels_of_ncsn(name: str) -> None:
    p = params(name)
    if name != "digits_continuous":
        assert p.tune_noise.starts["ncsn"].kwargs() | {"kind": "geometric"} == p.noise["ncsn"].kwargs()


def test_a_reduced_budget_is_called_so() -> None:
    assert "REDUCED BUDGET" in (CONF / "fashion_mnist.yaml").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_and_the_way_back(name: str, repository: Path) -> None:
    shipped = (repository / "params.yaml").read_bytes()
    assert main([name], repository) == 0
    assert (repository / "params.yaml").read_text() == text(name)
    assert main(["digits"], repository) == 0
    assert (repository / "params.yaml").read_bytes() == shipped


def test_comments_and_order_survive() -> None:
    """Apart from the values nothing moves: the same lines with the same comments in the same order. A feature
    space of another kind has keys of its own, and so have starting points."""

    def skeleton(content: str) -> list[str]:
        content = re.sub(r"\nfeatures:.*(\n  .*)*", "", content)
        content = re.sub(r"(\n  starts:.*)(\n    .*)*", r"\1", content)
        lines = content[content.index("preset:") :].splitlines()
        return [line.split(":")[0] + line[line.find(" #") :].lstrip() * (" #" in line) for line in lines]

    for name in NAMES:
        assert skeleton(text(name)) == skeleton(text("digits"))
        head = next(line for line in text(name).splitlines() if not line.startswith("#"))
        assert head == f"preset: {name}"
    assert "Table 1 of NCSNv2" in text("cifar10").split("preset:")[0]


def test_null_stays_written_out() -> None:
    assert "source: null" in text("cifar10") and "job_address: null" in text("cifar10")


def test_another_kind_or_search_replaces_the_whole_mapping() -> None:
    base = {
        "a": {"kind": "analytic", "overlap": 0.5},
        "b": {"kind": "fixed", "x": 1, "y": 2},
        "c": {"x": 1, "y": 2},
        "d": {"from": "search", "x": 1},
        "e": {"kind": "fixed", "x": 1},
        "rows": {"x": "x", "y": "y"},
    }
    overlay = {
        "a": {"kind": "fixed", "x": 3},
        "b": {"kind": "fixed", "y": 3},
        "c": {"y": 3},
        "d": {"kind": "fixed"},
        "e": {"from": "search"},
        "rows": {"y": "x"},
    }
    lay(overlay, base)  # type: ignore[arg-type]
    assert base == {
        "a": {"kind": "fixed", "x": 3},
        "b": {"kind": "fixed", "x": 1, "y": 3},
        "c": {"x": 1, "y": 3},
        "d": {"kind": "fixed"},
        "e": {"from": "search"},
        "rows": {"y": "x"},
    }


@pytest.mark.parametrize("name", ["digits", "digits_same_network"])
def test_further_seeds_give_each_row_another_one(name: str, repository: Path) -> None:
    assert main([name, "--extra-seeds", "1", "5"], repository) == 0
    written = load(repository / "params.yaml")
    assert written.extra_seeds == [1, 5] and len(written.extra_rows) == 10
    one = written.extra_rows["tuned_fewest-5"].kwargs()
    assert one == {"row": "tuned_fewest", "network": f"{written.rows['tuned_fewest']}-5"}
    without = written.kwargs() | {"extra_seeds": [], "extra_rows": {}}
    assert without == raw(name), "nothing else changed"
    assert main([name], repository) == 0
    assert (repository / "params.yaml").read_text() == text(name)


def test_a_further_seed_of_no_use_is_refused(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["digits", "--extra-seeds", "0"], repository) == 2
    assert "extra_seeds.0: " in capsys.readouterr().err


def test_unknown_preset_lists_the_known(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["imagenet"], repository) == 2
    assert f"'imagenet' is unknown; known: {', '.join(NAMES)}" in capsys.readouterr().err
    assert (repository / "params.yaml").read_bytes() == (CONF / "digits.yaml").read_bytes()


BROKEN = {
    "misspelt": ("train: {step: 3}\n", "train.step: unknown key"),
    "ladder upside down": ("noise:\n  ncsn: {sigma_max: 0.001}\n", "noise.ncsn: sigma_min"),
    "no YAML": ("train: {steps: 3\n", "not valid YAML"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_preset_is_not_written(case: str, repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, message = BROKEN[case]
    (repository / "conf/mine.yaml").write_text(content)
    assert main(["mine"], repository) == 2
    assert message in capsys.readouterr().err
    assert (repository / "params.yaml").read_bytes() == (CONF / "digits.yaml").read_bytes()
    with pytest.raises(UserError, match="mine"):
        compose(repository / "conf", "mine")


def test_edits_that_go_are_told(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = repository / "params.yaml"
    path.write_text(path.read_text().replace("image_size: 8", "image_size: 16"))
    assert main(["mnist"], repository) == 0
    assert "lost: data.image_size: 16\n" in capsys.readouterr().err
    assert main(["digits"], repository) == 0
    assert capsys.readouterr().err == ""


def test_a_broken_params_file_is_replaced(repository: Path) -> None:
    (repository / "params.yaml").write_text("a: [")
    assert main(["digits"], repository) == 0
    assert (repository / "params.yaml").read_bytes() == (CONF / "digits.yaml").read_bytes()


def test_seeds_are_added_to_params_as_they_are(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = repository / "params.yaml"
    path.write_text(path.read_text().replace("margin: 0.1 ", "margin: 0.2 "))
    before = load(path).kwargs()
    assert main(["--extra-seeds", "1", "2"], repository) == 0
    written = load(path)
    assert written.extra_seeds == [1, 2] and written.report.margin == 0.2
    assert main(["--extra-seeds"], repository) == 0
    assert load(path).kwargs() == before
    assert main(["--extra-seeds", "0"], repository) == 2
    assert load(path).kwargs() == before and "extra_seeds.0: " in capsys.readouterr().err
