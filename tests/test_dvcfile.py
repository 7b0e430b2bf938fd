"""dvc.yaml as this project reads it is dvc.yaml as DVC reads it."""

import shutil
from pathlib import Path

import pytest

from pipeline import dvcfile
from pipeline.files import write_yaml
from pipeline.ncsn.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


def test_every_stage_is_what_dvc_says_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc.repo import Repo

    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    _ask_for_extra_seeds(tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        for stage in repo.index.stages:
            name, _, key = stage.addressing.partition("@")
            ours = dvcfile.entry(tmp_path, name, key or None)
            params = {p for dep in stage.deps if hasattr(dep, "params") for p in dep.params}
            assert set(ours.deps) == {dep.def_path for dep in stage.deps if not hasattr(dep, "params")}
            assert set(ours.outs) == {out.def_path for out in stage.outs}
            assert set(ours.params) == params
            assert ours == dvcfile.entry(tmp_path, name.removesuffix("_more"), key or None), "a job's"
            assert ours.code() + ours.inputs() and set(ours.code()).isdisjoint(ours.inputs())
        addresses = {stage.addressing for stage in repo.index.stages}
    assert addresses == dvcfile.entries(tmp_path).keys()
    assert {"train_more@edm-12", "generate_more@tuned_fewest-1"} < addresses


def _ask_for_extra_seeds(path: Path) -> None:
    params = dvcfile.params(path.parent)
    params["extra_seeds"] = [1, 12]
    for row, network in params["rows"].items():
        for seed in params["extra_seeds"]:
            params["extra_rows"][f"{row}-{seed}"] = {"row": row, "network": f"{network}-{seed}"}
    write_yaml(path, params)


def test_hashes_come_from_the_tracked_folder_that_holds_a_path(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_text(
        "stages: {a: {outs: [{path: artifacts/noise, md5: 1.dir}, {path: artifacts/x.json, md5: '2'}]}}\n"
    )
    paths = ["artifacts/noise/ncsn.yaml", "artifacts/x.json", "artifacts/unknown", "artifacts/noise"]
    assert dvcfile.hashes(tmp_path, paths) == {paths[0]: "1.dir", paths[1]: "2", paths[3]: "1.dir"}
    assert dvcfile.hashes(tmp_path / "none", paths) == {}


TEMPLATE = """
stages:
  listed: {foreach: "${networks}", do: {cmd: x, outs: ["a/${item}"]}}
  mapped: {foreach: "${rows}", do: {deps: ["b/${item.network}"], outs: [{"a/${key}": {cache: false}}]}}
  crossed: {matrix: {network: "${networks}", seed: [1, 2]}, params: ["n.${item.network}"], outs: ["c/${key}"]}
  none: {foreach: "${empty}", do: {cmd: x}}
"""


def test_templates_are_filled_in_as_dvc_does(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text(TEMPLATE)
    (tmp_path / "params.yaml").write_text("{networks: [m, n], rows: {r: {network: m}}, empty: {}}\n")
    found = dvcfile.entries(tmp_path)
    assert list(found) == [
        *("listed@m", "listed@n", "mapped@r", "crossed@m-1", "crossed@m-2", "crossed@n-1", "crossed@n-2")
    ]
    assert found["listed@n"].outs == ("a/n",)
    assert found["mapped@r"] == dvcfile.Entry(("b/m",), ("a/r",), ())
    assert found["crossed@n-2"] == dvcfile.Entry((), ("c/n-2",), ("n.n",))
    with pytest.raises(UserError, match=r"'listed@x' is not in .*it has listed@m, listed@n"):
        dvcfile.entry(tmp_path, "listed", "x")


def test_code_is_apart_from_data(tmp_path: Path) -> None:
    deps = ("pipeline/page.html.j2", "artifacts/program/train/ncsn", "artifacts/programs", "artifacts/data")
    entry = dvcfile.Entry(deps, (), ())
    assert (entry.code(), entry.inputs()) == (deps[:2], deps[2:])


def test_unknown_names_are_told(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text("stages:\n  train:\n    cmd: x\n    deps: ['${data.nmae}']\n")
    (tmp_path / "params.yaml").write_text("data: {name: digits}\n")
    with pytest.raises(UserError, match=r"data\.nmae"):
        dvcfile.entry(tmp_path, "train")
    (tmp_path / "params.yaml").write_text("data: {nmae: digits}\n")
    with pytest.raises(UserError, match=r"'trian' is not in .*it has train"):
        dvcfile.entry(tmp_path, "trian")
