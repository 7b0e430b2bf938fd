"""`make ui` shows the store that runs go to, and leads to the pages worth opening."""

import json
import os
import shutil
import socket
import subprocess
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from pipeline import tracking
from pipeline.commands import ui
from pipeline.ncsn.errors import UserError
from pipeline.tracking.mlflow_store import Experiment
from pipeline.tracking.provenance import store_uri

from .conftest import Place

ROOT = Path(__file__).resolve().parents[2]


def make_ui(folder: Path, uri: str | None) -> list[str]:
    """What `make ui` prints, with a program in MLflow's place that prints its arguments."""
    mlflow = folder / ".venv/bin/mlflow"
    mlflow.parent.mkdir(parents=True)
    mlflow.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    mlflow.chmod(0o755)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder)
    environment = {k: v for k, v in os.environ.items() if k not in ("MLFLOW_TRACKING_URI", "MAKEFLAGS")}
    environment |= {"PYTHONPATH": str(ROOT)} | ({} if uri is None else {"MLFLOW_TRACKING_URI": uri})
    command = ["make", "--no-print-directory", "-f", str(ROOT / "Makefile"), "-o", ".venv/installed", "ui"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", ["plain", "a%20b", "a?b", "o'b", "a $(b) `c`"])
def test_it_serves_the_store_of_a_folder_of_any_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    printed = make_ui(tmp_path / name, None)
    port = printed[printed.index("--port") + 1]
    assert f"open http://127.0.0.1:{port}" in printed
    assert printed[printed.index("--backend-store-uri") + 1] == store_uri(tmp_path / name)
    assert not (tmp_path / name / "mlflow.db").exists(), "a look makes no store"


def test_it_serves_the_database_in_use(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/runs.db"
    printed = make_ui(tmp_path, uri)
    assert printed[printed.index("--backend-store-uri") + 1] == uri


def test_it_names_the_server_in_use_without_its_password(tmp_path: Path) -> None:
    with socket.socket() as taken:  # nobody answers there
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        printed = make_ui(tmp_path, f"http://me:opensesame@127.0.0.1:{port}/")
    assert printed[0] == "MLFLOW_TRACKING_URI is set, and runs go there:"
    assert printed[-1] == f"open http://127.0.0.1:{port}"
    assert "opensesame" not in "\n".join(printed)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://me:opensesame@host:5000/", "http://host:5000"),
        ("https://token@host/mlflow", "https://host/mlflow"),
        ("https://host/mlflow?a=1&token=opensesame", "https://host/mlflow?a=1&token=***"),
    ],
)
def test_an_address_is_shown_without_secrets(address: str, shown: str) -> None:
    assert ui.shown(address) == shown


def test_the_links_open_the_runs_of_trainings_and_the_rows_side_by_side() -> None:
    runs, rows, models, compared = (line.split(": ", 1)[1] for line in ui.links("http://h:1", "7", ["a", "b"]))
    assert runs == "http://h:1/#/experiments/7/runs?workflowType=machine_learning"
    assert models == "http://h:1/#/experiments/7/models?workflowType=machine_learning"
    assert rows == f"{runs}&viewStateShareKey=rows"
    asked = parse_qs(urlsplit(urlsplit(compared).fragment).query)
    assert {name: json.loads(value) for name, (value,) in asked.items()} == {"runs": ["a", "b"], "experiments": ["7"]}


def test_a_single_row_is_compared_with_nothing() -> None:
    assert not any("compare" in line for line in ui.links("http://h:1", "7", ["a"]))


def test_a_taken_port_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert port < ui.free_port(port) < port + ui.PORTS
        monkeypatch.setattr(ui, "PORTS", 1)
        with pytest.raises(UserError, match=rf"ports {port} to {port} of 127\.0\.0\.1 are taken"):
            ui.free_port(port)


def test_the_pages_are_those_of_the_newest_finished_evaluation_of_each_row(place: Place) -> None:
    names = place.params.tracking.experiment, place.params.preset
    assert tracking.pages(*names, ["ncsn", "edm"]) == ("", [])
    ids = {}
    for row in ("edm", "ncsn", "ncsn"):
        with tracking.stage("evaluate", row, place.params) as run:
            ids[row] = run.id
    with pytest.raises(KeyError), tracking.stage("evaluate", "ncsn", place.params):
        raise KeyError("failed")
    tracking.shipping.ship(place.path)
    experiment = place.client.get_experiment_by_name(names[0])
    found = tracking.pages(*names, ["ncsn", "ncsnv2", "edm"])
    assert found == (experiment.experiment_id, [ids["ncsn"], ids["edm"]])
    assert tracking.pages(names[0], "another", ["ncsn"]) == (experiment.experiment_id, [])


def test_the_experiment_has_a_description_and_a_view_of_the_rows_which_users_may_edit(place: Place) -> None:
    def tags() -> dict[str, str]:
        return dict(place.client.get_experiment(store.id).tags)

    name = place.params.tracking.experiment
    store = Experiment(store_uri(place.path), place.path, name)
    assert f"(#/experiments/{store.id}/runs?workflowType=machine_learning&view" in tags()["mlflow.note.content"]
    view = json.loads(tags()["mlflow.sharedViewState.rows"])
    assert view["searchFilter"] == "tags.stage = 'evaluate'" and view["orderByKey"] in view["selectedColumns"]
    place.client.set_experiment_tag(store.id, "mlflow.note.content", "mine")
    Experiment(store_uri(place.path), place.path, name)
    assert tags()["mlflow.note.content"] == "mine"
