"""Which stages and parameters a row follows from, and who speaks for it."""

import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.git import Commit
from pipeline.reporting import lineage
from pipeline.reporting.lineage import Made, Plan

ROOT = Path(__file__).resolve().parents[2]
OWN = ("train@{}", "generate@{}", "evaluate@{}")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """The shipped pipeline, in which `tuned` alone takes what the searches find."""
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    shutil.copy(ROOT / "conf/digits.yaml", tmp_path / "params.yaml")
    return Plan(tmp_path)


def test_a_search_is_behind_the_variant_that_takes_what_it_finds(plan: Plan) -> None:
    assert plan.chain("ncsn") == sorted(["prepare", "reference", *(name.format("ncsn") for name in OWN)])
    searched = ["prepare", "reference", "tune_noise", "tune_sampler", *(name.format("tuned") for name in OWN)]
    assert plan.chain("tuned") == sorted([*searched, "train@ncsnv2"]), "whose FID `fewest` has to equal"
    fewest = [name.format("tuned_fewest") for name in OWN]
    assert {"tune_sampler", "train@tuned", *fewest} < set(plan.chain("tuned_fewest"))
    assert plan.chain(None) == ["prepare", "reference"] and plan.chain("absent") == []


def test_further_training_seeds_add_their_stages_and_no_parameters(tmp_path: Path, plan: Plan) -> None:
    alone, digest = plan.chain("ncsn"), plan.digest("ncsn")
    text = (tmp_path / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("more_seeds: []", "more_seeds: [1, 2]"))
    plan = Plan(tmp_path)
    further = [f"{stage}_more@ncsn-1" for stage in ("train", "generate", "evaluate")]
    assert plan.chain("ncsn", ["ncsn", "ncsn-1"]) == sorted(alone + further)
    assert (plan.chain("ncsn"), plan.digest("ncsn")) == (alone, digest)


def test_a_row_s_parameters_are_its_own(plan: Plan) -> None:
    before = {variant: plan.digest(variant) for variant in ("ncsn", "tuned", None)}

    def changed(section: str, key: str, value: object) -> set[str | None]:
        plan.params = YAML(typ="safe").load(ROOT / "conf/digits.yaml")
        plan.params[section][key] = value
        return {variant for variant, digest in before.items() if plan.digest(variant) != digest}

    assert changed("data", "seed", 1) == changed("evaluate", "seed", 1) == {"ncsn", "tuned", None}
    assert changed("train", "seed", 1) == changed("generate", "seed", 1) == {"ncsn", "tuned"}
    assert changed("tune_noise", "seed", 1) == changed("tune_sampler", "seed", 1) == {"tuned"}
    assert changed("recipes", "ncsn", {}) == {"ncsn"}
    assert changed("sampler", "ncsn", {"rule": "fixed"}) == {"ncsn", "tuned"}, "a search starts from it"
    assert changed("compute", "workers", 1) == changed("report", "grid", [1, 1]) == set()


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
    path = tmp_path / f"artifacts/reference/{space}.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    for kind in ("raw", None):
        assert [file.what for file in lineage.files(tmp_path / "artifacts", "tuned", kind)] == ["evaluator"]
