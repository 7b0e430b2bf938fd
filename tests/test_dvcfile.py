"""dvc.yaml as this project reads it is dvc.yaml as DVC reads it."""

import shutil
from pathlib import Path

import pytest

from pipeline import dvcfile
from pipeline.ncsn.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


def test_every_stage_is_what_dvc_says_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc.repo import Repo

    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    _ask_for_more_seeds(tmp_path / "params.yaml", [1, 12])
    monkeypatch.chdir(tmp_path)
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        for stage in repo.index.stages:
            name, _, variant = stage.addressing.partition("@")
            ours = dvcfile.entry(tmp_path, name, variant or None)
            params = {p for dep in stage.deps if hasattr(dep, "params") for p in dep.params}
            assert set(ours.deps) == {dep.def_path for dep in stage.deps if not hasattr(dep, "params")}
            assert set(ours.outs) == {out.def_path for out in stage.outs}
            assert set(ours.params) == params
            assert ours == dvcfile.entry(tmp_path, name.removesuffix("_more"), variant or None), "a job's"
            assert ours.code() + ours.inputs() and set(ours.code()).isdisjoint(ours.inputs())


def _ask_for_more_seeds(params: Path, seeds: list[int]) -> None:
    text = params.read_text()
    assert text.count("more_seeds: []") == 1
    params.write_text(text.replace("more_seeds: []", f"more_seeds: {seeds}"))


def test_hashes_come_from_the_tracked_folder_that_holds_a_path(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_text(
        "stages: {a: {outs: [{path: artifacts/noise, md5: 1.dir}, {path: artifacts/x.json, md5: '2'}]}}\n"
    )
    paths = ["artifacts/noise/ncsn.yaml", "artifacts/x.json", "artifacts/unknown", "artifacts/noise"]
    assert dvcfile.hashes(tmp_path, paths) == {paths[0]: "1.dir", paths[1]: "2", paths[3]: "1.dir"}
    assert dvcfile.hashes(tmp_path / "none", paths) == {}


def test_unknown_names_are_told(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text("stages:\n  train:\n    cmd: x\n    deps: ['${data.nmae}']\n")
    (tmp_path / "params.yaml").write_text("data: {name: digits}\n")
    with pytest.raises(UserError, match=r"data\.nmae"):
        dvcfile.entry(tmp_path, "train")
    with pytest.raises(UserError, match=r"'trian' is not in .*it has train"):
        dvcfile.entry(tmp_path, "trian")
