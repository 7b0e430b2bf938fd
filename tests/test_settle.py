"""Settling: what params.yaml gives, what theory computes and what a search found, in one file each."""

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from pipeline import settle
from pipeline.data.preparation import prepare
from pipeline.files import read_yaml, write_yaml
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.sampler import Ladder, Sampler
from pipeline.params import Params, parse
from pipeline.params.noise import AnalyticNoise
from pipeline.search.comparison import Verdict
from pipeline.settle import levels

ROOT = Path(__file__).parents[1]
SHIPPED = YAML(typ="safe").load(ROOT / "conf/digits.yaml")
MANIFEST = {"max_pairwise_distance": 8.0, "shape": [3, 1, 8, 8]}
LEVELS = {"sigma_max": 2.5, "sigma_min": 0.02, "num_levels": 12}
ANALYTIC = {"sigma_max": 8.0, "sigma_min": 0.01, "num_levels": 20, "fid": 3.1}
BETTER = {"tuned_against_analytic": "better", "no_better_than": []}
START = {"sigma_max": 1.0, "sigma_min": 0.01, "num_levels": 10, "fid": 3.05}
FOUND = Sampler.langevin(Ladder(1.5, 0.1, 4), step_size=1e-3, steps_per_level=2)
CHEAP = Sampler("heun", Ladder(1.5, 0.1, 3, 7.0), {}, start="data")


def params(**sections: Any) -> Params:
    raw = copy.deepcopy(SHIPPED)
    for name, entries in sections.items():
        raw[name] |= entries
    return parse(raw, "params.yaml")


@pytest.fixture
def searches(tmp_path: Path) -> Path:
    """The results of both searches."""
    found = {**LEVELS, "fid": 3.0, "trial": 4}
    write_yaml(tmp_path / "tune_noise/best.yaml", {"tuned": found, "analytic": ANALYTIC, "verdict": BETTER})
    choices = {"lowest_fid": FOUND, "fewest_nfe": CHEAP, "knee": CHEAP}
    best = {name: {"fid": 3.0, "sampler": sampler.plain()} for name, sampler in choices.items()}
    write_yaml(tmp_path / "tune_sampler/best.yaml", best)
    return tmp_path


def settled(found: Params, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The noise range of each network and the sampler of each row."""
    settle.write_noise(folder / "noise", found.noise, MANIFEST, folder / "tune_noise")
    settle.write_samplers(folder / "sampler", found.sampler, found.rows, folder / "noise", folder / "tune_sampler")
    return settle.read_settled(folder / "noise"), settle.read_settled(folder / "sampler")


def test_every_network_has_its_range_and_says_where_from(searches: Path) -> None:
    noise, _ = settled(params(), searches)
    assert noise["ncsn"] == SHIPPED["noise"]["ncsn"] and noise["edm"] == SHIPPED["noise"]["edm"]
    assert noise["tuned"] == {**LEVELS, "from": "tune_noise"}
    assert noise["ncsnv2"]["sigma_max"] == 8.0 and noise["ncsnv2"]["kind"] == "analytic"


@pytest.mark.parametrize(
    ("equals", "tie", "taken"),
    [
        (("analytic",), "start", ANALYTIC),
        (("ncsn", "analytic"), "start", START),
        (("analytic",), "found", LEVELS),
        ((), "start", LEVELS),
    ],
)
def test_a_found_range_that_is_no_better_gives_way_to_a_starting_point(
    searches: Path, equals: tuple[str, ...], tie: str, taken: dict[str, float]
) -> None:
    best = {"tuned": LEVELS, "analytic": ANALYTIC, "ncsn": START, "verdict": Verdict(no_better_than=equals).plain()}
    write_yaml(searches / "tune_noise/best.yaml", best)
    noise, _ = settled(params(noise={"tuned": {"from": "tune_noise", "tie": tie}}), searches)
    assert noise["tuned"] == {**{key: taken[key] for key in LEVELS}, "from": "tune_noise"}


def test_a_law_that_was_found_is_settled_on_the_range_that_is_given(searches: Path) -> None:
    write_yaml(
        searches / "tune_noise/best.yaml", {"tuned": {"p_mean": -1.5, "p_std": 1.1, "fid": 2.0}, "verdict": BETTER}
    )
    law = params(
        noise={"tuned": SHIPPED["noise"]["ncsnv2"], "edm": {"from": "tune_noise", **LEVELS}},
        tune_noise={"network": "edm", "starts": {}},
        sampler={"edm": {"kind": "heun", "num_levels": 18, "rho": 7.0}},
    )
    noise, _ = settled(law, searches)
    assert noise["edm"] == {**LEVELS, "p_mean": -1.5, "p_std": 1.1, "from": "tune_noise"}


def test_every_row_has_a_sampler_on_the_range_of_its_network(searches: Path) -> None:
    noise, samplers = settled(params(rows={"ncsn_paper": "ncsn"}), searches)
    made = {row: Sampler.read(one["sampler"]) for row, one in samplers.items()}
    assert {row: one["network"] for row, one in samplers.items()} == SHIPPED["rows"] | {"ncsn_paper": "ncsn"}
    assert made["ncsn"] == Sampler.langevin(Ladder.read(noise["ncsn"]), step_size=7.2e-4, steps_per_level=20)
    assert made["ncsn_paper"].options == made["ncsn"].options | {"convention": "paper"}
    assert made["ncsnv2"] == Sampler.analytic(Ladder.read(noise["ncsnv2"]), 10)
    assert made["edm"] == Sampler("dpm_solver", Ladder(1.6, 0.0014, 4, 4.3), {}, "data")
    assert (made["tuned"], made["tuned_fewest"]) == (FOUND, CHEAP)


def test_a_row_has_ends_and_a_start_of_its_own(searches: Path) -> None:
    own = {"kind": "dpm_solver", "num_levels": 6, "rho": 7.0, "sigma_max": 3.0, "sigma_min": 0.07, "start": "data"}
    _, samplers = settled(params(sampler={"edm": own, "ncsnv2": own}), searches)
    assert samplers["edm"]["sampler"] == own == samplers["ncsnv2"]["sampler"]
    with pytest.raises(UserError, match=r"^sampler\.ncsnv2: the sampler's levels from sigma 9\.0 to 0\.07 leave"):
        settled(params(sampler={"ncsnv2": {**own, "sigma_max": 9.0}}), searches)


def test_a_row_says_which_searches_had_a_part(searches: Path) -> None:
    """They judge by half of the held-out images, which `evaluate` then leaves out."""
    found = params(rows={"plain": "tuned"}, sampler={"plain": SHIPPED["sampler"]["ncsnv2"]})
    _, samplers = settled(found, searches)
    wanted = {row: found.searches(row) for row in found.rows}
    assert {row: one["searches"] for row, one in samplers.items()} == wanted
    assert wanted["plain"] == ["tune_noise"] and wanted["tuned"] == ["tune_noise", "tune_sampler"]


def test_a_changed_entry_changes_its_own_file_alone(searches: Path) -> None:
    before = settled(params(), searches)
    changed = params(sampler={"edm": {"kind": "heun", "num_levels": 20, "rho": 7.0}}, rows={"ncsn_paper": "ncsn"})
    noise, samplers = settled(changed, searches)
    assert noise == before[0]
    assert {row for row in samplers if samplers[row] != before[1].get(row)} == {"edm", "ncsn_paper"}


def test_settling_needs_no_search_that_nobody_names(tmp_path: Path) -> None:
    plain = SHIPPED["sampler"]["ncsnv2"]
    without = params(
        noise={"tuned": SHIPPED["noise"]["ncsnv2"]},
        sampler={"tuned": plain, "tuned_fewest": plain},
        tune_noise={"num_trials": 0},
        tune_sampler={"num_trials": 0},
    )
    settled(without, tmp_path)
    with pytest.raises(UserError, match=r"noise\.tuned is from tune_noise, but .*best\.yaml is missing: run"):
        settled(params(), tmp_path)


def test_analytic_levels_are_the_largest_distance_and_levels_that_overlap() -> None:
    some = levels(AnalyticNoise(kind="analytic", sigma_min=0.01, overlap=0.5), MANIFEST)
    denser = levels(AnalyticNoise(kind="analytic", sigma_min=0.01, overlap=0.7), MANIFEST)
    assert some.sigma_max == denser.sigma_max == 8.0 and denser.num_levels > some.num_levels
    with pytest.raises(UserError, match="a single training image"):
        levels(
            AnalyticNoise(kind="analytic", sigma_min=0.01, overlap=0.5),
            {**MANIFEST, "max_pairwise_distance": None},
        )


def test_the_stages_settle_from_files_alone(searches: Path) -> None:
    """In a folder without models or images, by the manifest of the data set."""
    images = np.zeros((3, 8, 8), np.uint8)
    images[1] = 255
    np.save(searches / "in.npy", images)
    artifacts = searches / "artifacts"
    prepare(artifacts / "data", name="npz", source=str(searches / "in.npy"), image_size=8, num_held_out=1, seed=0)
    for name in ("tune_noise", "tune_sampler"):
        (searches / name).rename(artifacts / name)
    (artifacts / "data/images.npy").unlink()
    text = (ROOT / "conf/digits.yaml").read_text().replace("enabled: true", "enabled: false")
    (searches / "params.yaml").write_text(text)
    for stage in ("settle_noise", "settle_sampler"):
        command = [sys.executable, "-m", f"stages.{stage}"]
        environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
        done = subprocess.run(command, cwd=searches, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
    assert set(settle.read_settled(artifacts / "noise")) == set(SHIPPED["noise"])
    assert set(settle.read_settled(artifacts / "sampler")) == set(SHIPPED["rows"])
    assert read_yaml(artifacts / "sampler/tuned.yaml")["sampler"] == FOUND.plain()
