"""`make ui` shows the store that runs go to."""

import os
import subprocess
from pathlib import Path

import pytest

from pipeline.tracking.provenance import store_uri

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("uri", "store"),
    [
        (None, "sqlite:///{here}/mlflow.db"),
        ("", "sqlite:///{here}/mlflow.db"),
        ("sqlite:////data/runs.db", "sqlite:////data/runs.db"),
        ("http://tracking.lab:5000", None),
        ("https://tracking.lab/mlflow?a=1&b=2", None),
    ],
)
def test_it_serves_the_store_in_use_or_says_where_it_is(tmp_path: Path, uri: str | None, store: str | None) -> None:
    mlflow = tmp_path / ".venv/bin/mlflow"
    mlflow.parent.mkdir(parents=True)
    mlflow.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    mlflow.chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if k not in ("MLFLOW_TRACKING_URI", "MAKEFLAGS")}
    environment |= {} if uri is None else {"MLFLOW_TRACKING_URI": uri}
    command = ["make", "--no-print-directory", "-f", str(ROOT / "Makefile"), "-o", ".venv/installed", "ui"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    if store is None:
        (line,) = done.stdout.splitlines()
        assert line.endswith(f"open {uri}")
    else:
        served = done.stdout.splitlines()
        assert served[0] == "ui"
        assert served[served.index("--backend-store-uri") + 1] == store.format(here=tmp_path)


@pytest.mark.parametrize("name", ["a%20b", "a?b", "o'b", "a $(b) `c`"])
def test_it_serves_the_store_of_a_folder_of_any_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    test_it_serves_the_store_in_use_or_says_where_it_is(tmp_path / name, None, store_uri(tmp_path / name))
