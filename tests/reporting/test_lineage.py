"""Which stages and parameters a row follows from, and who speaks for it."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline import selected_checkpoint
from pipeline.files import read_yaml, sha256, write_yaml
from pipeline.git import Commit
from pipeline.reporting import lineage
from pipeline.reporting.lineage import Made, StageGraph

ROOT = Path(__file__).resolve().parents[2]
BOTH = ["prepare", "features", "settle_noise", "settle_sampler"]


@pytest.fixture
def plan(tmp_path: Path) -> StageGraph:
    """The shipped pipeline, in which `tuned` and `tuned_fewest` alone take what the searches find."""
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    shutil.copy(ROOT / "conf/digits.yaml", tmp_path / "params.yaml")
    return StageGraph(tmp_path)


def own(row: str, network: str) -> list[str]:
    return [f"train@{network}", f"generate@{row}", f"evaluate@{row}"]


def test_a_search_is_behind_the_row_that_takes_what_it_finds(plan: StageGraph) -> None:
    assert plan.chain("ncsn") == sorted([*BOTH, *own("ncsn", "ncsn")])
    searched = [*BOTH, "tune_noise", "tune_sampler", "train@ncsnv2"]  # whose FID `fewest_nfe` has to equal
    assert plan.chain("tuned") == sorted([*searched, *own("tuned", "tuned")])
    assert plan.chain("tuned_fewest") == sorted([*searched, *own("tuned_fewest", "tuned")])
    assert plan.chain(None) == ["features", "prepare"] and plan.chain("absent") == []


def test_each_search_counts_by_itself(plan: StageGraph) -> None:
    plan.params["sampler"]["tuned"] = plan.params["sampler"]["ncsnv2"]
    assert plan.chain("tuned") == sorted([*BOTH, "tune_noise", *own("tuned", "tuned")])
    plan.params["noise"]["tuned"] = plan.params["noise"]["ncsnv2"]
    assert plan.chain("tuned") == sorted([*BOTH, *own("tuned", "tuned")])
    plan.params["sampler"]["edm"] = {"from": "tune_sampler", "choose": "lowest_fid"}
    found = plan.chain("edm")
    assert {"tune_sampler", "train@tuned", "train@edm"} < set(found) and "tune_noise" not in found


def test_the_settled_entries_are_those_that_the_chain_reads(plan: StageGraph) -> None:
    assert plan.settled(plan.chain("ncsn")) == {"noise.ncsn", "sampler.ncsn"}
    searched = {"noise.tuned", "noise.ncsnv2", "sampler.tuned_fewest"}
    assert plan.settled(plan.chain("tuned_fewest")) == searched
    assert plan.settled(plan.chain(None)) == set()


def test_further_training_seeds_add_their_stages_and_no_parameters(tmp_path: Path, plan: StageGraph) -> None:
    alone, digest = plan.chain("tuned_fewest"), plan.digest("tuned_fewest")
    params = read_yaml(tmp_path / "params.yaml")
    params["extra_seeds"] = [1]
    params["extra_rows"] = {"tuned_fewest-1": {"row": "tuned_fewest", "network": "tuned-1"}}
    write_yaml(tmp_path / "params.yaml", params)
    plan = StageGraph(tmp_path)
    further = ["train_more@tuned-1", "generate_more@tuned_fewest-1", "evaluate_more@tuned_fewest-1"]
    assert plan.chain("tuned_fewest", ["tuned_fewest", "tuned_fewest-1"]) == sorted(alone + further)
    assert (plan.chain("tuned_fewest"), plan.digest("tuned_fewest")) == (alone, digest)


def test_a_row_s_parameters_are_its_own(plan: StageGraph) -> None:
    before = {row: plan.digest(row) for row in ("ncsn", "tuned", None)}

    def changed(section: str, key: str, value: object) -> set[str | None]:
        plan.params = read_yaml(ROOT / "conf/digits.yaml")
        plan.params[section][key] = value
        return {row for row, digest in before.items() if plan.digest(row) != digest}

    assert changed("data", "seed", 1) == changed("evaluate", "seed", 1) == {"ncsn", "tuned", None}
    assert changed("train", "seed", 1) == changed("generate", "seed", 1) == {"ncsn", "tuned"}
    assert changed("tune_noise", "seed", 1) == changed("tune_sampler", "seed", 1) == {"tuned"}
    assert changed("recipes", "ncsn", {}) == changed("noise", "ncsn", {}) == {"ncsn"}
    assert changed("sampler", "ncsn", {"kind": "heun"}) == {"ncsn"}, "no search starts from it"
    assert changed("noise", "ncsnv2", {}) == {"tuned"}, "whose sampler has to equal that of ncsnv2"
    assert changed("compute", "workers", 1) == changed("report", "grid", [1, 1]) == set()
    assert changed("sampler", "edm", {}) == changed("noise", "edm", {}) == changed("rows", "more", "edm") == set()


def made(stage: str, hardware: str = "a CPU") -> Made:
    return Made(stage, "1" * 32, "0" * 40, False, "python 3.11", hardware)


def test_the_report_speaks_only_where_the_evaluation_does_not() -> None:
    runs = (made("train"), made("evaluate"))
    assert lineage.witnessed(runs, Commit("f" * 40)) == runs
    *before, last = lineage.witnessed(runs[:1], Commit("f" * 40, dirty=True))
    assert before == [runs[0]] and (last.stage, last.run_id) == ("report", None)
    assert (last.commit, last.dirty) == ("f" * 40, True) and last.versions and last.hardware


def test_stages_that_ran_elsewhere_are_told_apart() -> None:
    assert lineage.agreed((made("train"), made("evaluate")), "hardware") == "a CPU"
    told = lineage.agreed((made("train", "a GPU"), made("evaluate")), "hardware")
    assert told == "train: a GPU; evaluate: a CPU"
    assert lineage.agreed((), "hardware") is None


@pytest.mark.parametrize("space", ["classifier", "inception"])
def test_the_evaluator_is_among_a_row_s_files_whichever_it_is(space: str, tmp_path: Path) -> None:
    path = tmp_path / f"artifacts/features/{space}.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    for kind in ("raw", None):
        assert [file.what for file in lineage.files(tmp_path / "artifacts", "tuned", kind)] == ["evaluator"]


def test_a_row_s_files_are_those_of_its_network(tmp_path: Path) -> None:
    artifacts = tmp_path / "artifacts"
    names = ("noise/tuned.yaml", "noise/fewest.yaml", "sampler/fewest.yaml", "models/tuned-1/ema.safetensors")
    for name in (
        *names,
        "models/tuned/ema.safetensors",
        "samples/fewest/raw.npy",
        "samples/fewest-1/raw.npy",
    ):
        (artifacts / name).parent.mkdir(parents=True, exist_ok=True)
        (artifacts / name).write_text(name)
    for row, network in {"fewest": "tuned", "fewest-1": "tuned-1"}.items():
        selected_checkpoint.write_selection(artifacts, row, artifacts / "models" / network, {})
    found = lineage.files(artifacts, "fewest", "raw", ["fewest", "fewest-1"])
    assert [file.path.removeprefix("artifacts/") for file in found] == [
        "noise/tuned.yaml",
        "sampler/fewest.yaml",
        *("selection/fewest.json", "models/tuned/ema.safetensors", "samples/fewest/raw.npy"),
        *("selection/fewest-1.json", "models/tuned-1/ema.safetensors", "samples/fewest-1/raw.npy"),
    ]


def test_the_runs_of_a_row_are_found_by_the_bytes_that_they_wrote(tmp_path: Path) -> None:
    for name in ("models/tuned/manifest.json", "samples/fewest/manifest.json"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(name)
    selected_checkpoint.write_selection(tmp_path, "fewest", tmp_path / "models/tuned/snapshots/step_00000002", {})
    asked: list[Mapping[str, str]] = []

    def find(tags: Mapping[str, str]) -> str:
        asked.append(tags)
        return tags["stage"]

    found = lineage.made(tmp_path, "fewest", "digits", find, lambda _: {})
    assert [(run.stage, run.network, run.run_id) for run in found] == [
        ("train", "tuned", "train"),
        ("generate", "fewest", "generate"),
    ]
    assert asked[0]["checkpoint.sha256"] == sha256(tmp_path / "models/tuned/manifest.json")
