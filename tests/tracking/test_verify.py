"""Every ingredient of a row, changed by as little as a byte, is caught by `pipeline.verify`.

The table is that of a small pipeline run by its own stages, committed to git and to DVC, tracked in MLflow.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from pipeline.files import read_yaml, write_yaml
from pipeline.verify import __main__ as verify
from stages import report, train

from .test_no_result import V, fit_here, small, work

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("pipeline", "stages", "extensions", "params.yaml", "dvc.yaml", ".dvcignore", ".gitignore")
GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
TABLE = Path("reports/table.json")
EVALUATION = Path(f"artifacts/evaluation/{V}.json")


def call(root: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, schema: Path) -> Path:
    """A repository after `dvc repro report` with two training seeds."""
    root = tmp_path_factory.mktemp("whole")
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, root / name)
    shutil.copy(schema, root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(train, "fit", fit_here)
        for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
            patch.delenv(name, raising=False)
        params = small(root, enabled=True, extra_seeds=(1,))
        for command in (("init", "-q"), ("add", "."), ("commit", "-qm", "x")):
            call(root, *GIT, *command)
        work(params)
    call(root, sys.executable, "-m", "pipeline.program")
    call(root, "dvc", "init", "-q")
    call(root, "dvc", "commit", "-q", "-f", "--with-deps", "report")
    return root


@dataclass
class Place:
    """A copy of that repository, to be changed; the working folder of the test."""

    path: Path
    told: Callable[[], str]

    def verify(self, *options: str) -> tuple[int, str]:
        """Exit code and output."""
        code = verify.main(list(options))
        return code, self.told()

    def rows(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change every row of the table."""
        table = json.loads(TABLE.read_text())
        for row in table["rows"]:
            change(row)
        TABLE.write_text(json.dumps(table))

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.path}/mlflow.db")

    def run_id(self) -> str:
        return str(json.loads(TABLE.read_text())["rows"][0]["run_id"])


@pytest.fixture
def place(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Place:
    path = tmp_path / "copy"
    shutil.copytree(whole, path, ignore=shutil.ignore_patterns("mlartifacts"))
    monkeypatch.chdir(path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def told() -> str:
        captured = capsys.readouterr()
        return captured.out + captured.err

    return Place(path, told)


def test_an_untouched_table_stands(place: Place) -> None:
    code, told = place.verify()
    assert (code, told) == (
        0,
        f"{V}, without denoising: verified\n{V}, with denoising: verified\nheld-out data (the floor): verified\n"
        "3 of 3 rows verified\n",
    )


def flip(path: Path) -> None:
    """Change the last byte of a file by one bit."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


FILES = {
    "artifacts/data/images.npy": "the table's data_sha256",
    "artifacts/data/labels.npy": "artifacts/data",
    f"artifacts/noise/{V}.yaml": "noise levels",
    f"artifacts/models/{V}/ema.safetensors": "checkpoint",
    f"artifacts/models/{V}/optimizer.safetensors": f"artifacts/models/{V}",
    f"artifacts/sampler/{V}.yaml": "sampler",
    f"artifacts/samples/{V}/raw.npy": "samples",
    f"artifacts/selection/{V}.json": "choice",
    f"artifacts/models/{V}-1/ema.safetensors": "checkpoint",
    f"artifacts/models/{V}-1/optimizer.safetensors": f"artifacts/models/{V}-1",
    "artifacts/features/classifier.safetensors": "evaluator",
    str(EVALUATION): "evaluation",
    "artifacts/frontier/frontier.csv": "artifacts/frontier",
    "artifacts/toy/numbers.json": "artifacts/toy",
    "artifacts/metrics/toy.json": "artifacts/metrics/toy.json",
    "reports/index.html": "reports",
}


@pytest.mark.parametrize("path", FILES)
def test_a_byte_of_a_file_is_caught(path: str, place: Place) -> None:
    if path.endswith((".yaml", ".json")):
        Path(path).write_bytes(Path(path).read_bytes() + b"\n")  # still what it was to who reads it
    else:
        flip(Path(path))
    code, told = place.verify("--no-runs")
    assert code == 1 and "differs" in told
    assert any(line.startswith(f"    {FILES[path]}") for line in told.splitlines()), told


@pytest.mark.parametrize("path", ["pipeline/metrics/fid.py", "pipeline/ncsn/networks/ncsnv2.py", "stages/generate.py"])
def test_a_changed_constant_is_caught_by_its_module(path: str, place: Place) -> None:
    with Path(path).open("a") as file:
        file.write("\nOTHER = 1\n")
    code, told = place.verify("--no-runs")
    assert code == 1 and f"{V}, without denoising: differs\n    {path}: expected" in told
    call(place.path, sys.executable, "-m", "pipeline.program")
    assert place.verify("--no-runs") == (code, told), "the program that was run is in DVC's cache"


@pytest.mark.parametrize("path", ["pipeline/metrics/fid.py", "stages/generate.py", "pipeline/params/schema.py"])
def test_a_docstring_a_comment_and_what_is_not_reached_are_no_change(path: str, place: Place) -> None:
    replace(Path(path), '"""', '"""Edited. ')
    replace(Path("pipeline/commands/show.py"), "\n\n\n", "\n\n\nOTHER = 1\n\n\n")
    with Path(path).open("a") as file:
        file.write("# a comment\n")
    assert place.verify("--no-runs")[0] == 0


@pytest.mark.parametrize("path", ["pipeline/metrics/fid.py"])
def test_sources_that_cannot_be_read_are_told(path: str, place: Place) -> None:
    Path(path).write_text("def f(:\n")
    code, told = place.verify("--no-runs")
    assert code == 1 and f"artifacts/program/evaluate/{V}: expected" in told


def test_a_parameter_is_caught_by_name_and_a_comment_is_none(place: Place) -> None:
    replace(Path("params.yaml"), "preset: digits", "# a comment\npreset: digits")
    assert place.verify()[0] == 0
    replace(Path("params.yaml"), "steps: 6}", "steps: 7}")
    code, told = place.verify("--no-runs")
    assert code == 1 and "params.yaml train.steps: expected 6, found 7" in told
    assert told.count("the table's params_sha256") == 2, "two rows; the floor was not trained"
    assert "the floor): verified" in told


def test_parameters_of_other_rows_are_not_the_row_s(place: Place) -> None:
    params = read_yaml(Path("params.yaml"))
    params["recipes"]["ncsn"]["optimizer"]["lr"] = 0.009
    params["noise"]["ncsn"]["num_levels"], params["sampler"]["edm"] = 9, {"kind": "euler", "num_levels": 3}
    write_yaml(Path("params.yaml"), params)
    code, told = place.verify()
    assert code == 1 and "3 of 3 rows verified" in told, told
    assert "the report outside its table: differs\n    pipeline/ncsn/samplers/euler.py" in told, "it shows all rows"


MEASURES = ("fid", "kid", "inception_score", "recall")
NUMBERS = ("n", "nfe", "seconds_per_1000")
TEXTS = ("evaluator", "reference_set", "command", "data_sha256", "params_sha256")


@pytest.mark.parametrize("field", [*MEASURES, *NUMBERS, *TEXTS])
def test_a_cell_of_the_table_is_caught(field: str, place: Place) -> None:
    table = json.loads(TABLE.read_text())
    row = table["rows"][0]
    if field in MEASURES:
        row["measures"][field]["value"] *= 1 + 1e-15
    else:
        row[field] = row[field] + 1 if field in NUMBERS else row[field][:-1] + "x"
    TABLE.write_text(json.dumps(table))
    code, told = place.verify("--no-runs")
    assert code == 1 and f"{V}, without denoising: differs\n    the table's {field}: expected" in told
    assert f"{V}, with denoising: verified" in told


def test_a_number_of_the_evaluation_file_is_caught_twice(place: Place) -> None:
    fid = json.loads(EVALUATION.read_text())["raw"]["fid"]
    replace(EVALUATION, str(fid), str(fid + 1))
    code, told = place.verify("--no-runs")
    written = json.loads(TABLE.read_text())["rows"][0]["measures"]["fid"]["value"]
    found = re.search(rf"the table's fid: expected ([\d.]+), found {written}", told)
    assert code == 1 and found and float(found[1]) == pytest.approx(written + 0.5), told
    assert f"evaluation {EVALUATION}: expected" in told


def digit(text: str) -> str:
    """The same with another first digit."""
    return ("0" if text[0] != "0" else "1") + text[1:]


def test_every_hash_that_a_row_names_is_compared(place: Place) -> None:
    names = [file["what"] for file in json.loads(TABLE.read_text())["rows"][0]["files"]]
    of_a_network = ["choice", "checkpoint", "samples", "evaluation"]
    assert names == ["noise levels", "sampler", "evaluator", *of_a_network, *of_a_network]

    def change(row: dict[str, Any]) -> None:
        for file in row["files"]:
            file["sha256"] = digit(file["sha256"])

    place.rows(change)
    _, told = place.verify("--no-runs")
    assert all(f"    {name} artifacts/" in told for name in names)


def set_commit(commit: Callable[[str], str]) -> Callable[[dict[str, Any]], None]:
    def change(row: dict[str, Any]) -> None:
        for made in (row, *row["made"]):
            made["commit"] = commit(made["commit"])

    return change


def test_a_commit_that_is_not_there_is_caught(place: Place) -> None:
    place.rows(set_commit(digit))
    code, told = place.verify("--no-runs")
    assert code == 1 and "cannot be checked" in told and "git fetch --unshallow" in told


def test_a_commit_with_other_code_or_parameters_is_caught(place: Place) -> None:
    first = call(place.path, "git", "rev-parse", "HEAD")
    replace(Path("params.yaml"), "steps: 6}", "steps: 5}")
    with Path("pipeline/ncsn/noise.py").open("a") as file:
        file.write("\nOTHER = 1\n")
    call(place.path, *GIT, "commit", "-qam", "other")
    other = call(place.path, "git", "rev-parse", "HEAD")
    call(place.path, *GIT, "checkout", "-q", first, ".")
    assert place.verify()[0] == 0, "what is checked out since does not matter"
    place.rows(set_commit(lambda _: other))
    code, told = place.verify("--no-runs")
    assert code == 1
    assert f"commit {other[:10]} of train: pipeline/ncsn/noise.py: expected" in told
    assert f"commit {other[:10]} of train: params.yaml train.steps: expected 6, found 5" in told
    assert "tag mlflow.source.git.commit" in place.verify()[1]


def test_the_runs_are_held_against_mlflow(place: Place) -> None:
    def dirty(row: dict[str, Any]) -> None:
        row["dirty"] = row["made"][-1]["dirty"] = True
        row["made"][-1]["versions"] += "1"

    place.rows(dirty)
    code, told = place.verify()
    assert code == 1 and "tag git.dirty: expected true, found false" in told and "tag versions" in told


def test_a_run_id_by_a_digit_is_caught(place: Place) -> None:
    def change(row: dict[str, Any]) -> None:
        row["run_id"] = digit(row["run_id"])
        row["made"][-1]["run_id"] = row["run_id"]

    place.rows(change)
    code, told = place.verify()
    assert code == 1 and "of evaluate: expected FINISHED, found no such run" in told
    place.rows(lambda row: row.update(run_id="x"))
    assert "the table's run_id: expected" in place.verify("--no-runs")[1]


@pytest.mark.parametrize("tag", ["metrics.sha256", "data.sha256", "stage", "hardware"])
def test_a_tag_of_a_run_is_caught(tag: str, place: Place) -> None:
    place.client.set_tag(place.run_id(), tag, "else")
    code, told = place.verify()
    assert code == 1 and f"of evaluate, tag {tag}: expected" in told and "found else" in told


def test_a_run_that_failed_or_is_deleted_is_caught(place: Place) -> None:
    place.client.set_terminated(place.run_id(), "FAILED")
    assert "of evaluate: expected FINISHED, found FAILED" in place.verify()[1]
    place.client.delete_run(place.run_id())
    assert "of evaluate: expected FINISHED, found no such run" in place.verify()[1]


def test_the_lock_is_held_against_the_files(place: Place) -> None:
    lock = Path("dvc.lock").read_text()
    made = lock.index(f"path: artifacts/models/{V}\n", lock.index(f"train@{V}:"))
    at = lock.index("md5: ", made) + len("md5: ")
    Path("dvc.lock").write_text(lock[:at] + digit(lock[at:]))
    code, told = place.verify("--no-runs")
    assert code == 1 and f"    artifacts/models/{V}: expected" in told
    Path("dvc.lock").unlink()
    assert "stage prepare of dvc.lock: expected an entry, found none" in place.verify("--no-runs")[1]


def test_the_verdict_must_follow_from_the_rows(place: Place) -> None:
    table = json.loads(TABLE.read_text())
    table["verdict"]["sentences"][0] += "!"
    TABLE.write_text(json.dumps(table))
    code, told = place.verify("--no-runs")
    assert code == 1 and "the table outside its rows: differs\n    verdict: expected" in told
    assert "3 of 3 rows verified" in told


def test_without_its_files_a_row_cannot_be_checked_and_is_mended_by_a_checkout(place: Place) -> None:
    shutil.rmtree("artifacts")
    code, told = place.verify()
    assert code == 1 and told.count("cannot be checked") == 4 and "differs" not in told
    assert told.count("run `dvc pull`, or `dvc repro`") == 4 and "0 of 3 rows verified" in told
    call(place.path, "dvc", "checkout", "-q", "--with-deps", "report")
    assert place.verify()[0] == 0


def test_without_the_store_runs_cannot_be_checked(place: Place) -> None:
    Path("mlflow.db").unlink()
    code, told = place.verify()
    assert code == 1 and told.count("cannot be checked") == 3 and "MLFLOW_TRACKING_URI" in told
    assert not Path("mlflow.db").exists(), "nothing is made by looking"
    assert place.verify("--no-runs")[0] == 0


def test_a_table_of_an_untracked_run_has_the_report_s_commit_and_stands(place: Place) -> None:
    report.main(small(place.path, enabled=False, extra_seeds=(1,)))
    row = json.loads(TABLE.read_text())["rows"][0]
    assert [made["stage"] for made in row["made"]] == ["report"] and row["run_id"] is None
    call(place.path, *GIT, "commit", "-qam", "tracking switched off")
    report.main(small(place.path, enabled=False, extra_seeds=(1,)))
    row = json.loads(TABLE.read_text())["rows"][0]
    assert row["commit"] == call(place.path, "git", "rev-parse", "HEAD") and not row["dirty"]
    call(place.path, "dvc", "commit", "-q", "-f", "report")
    Path("mlflow.db").unlink()
    assert place.verify()[0] == 0


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"data": "x", "published": [], "rows": [{"a": 1}]}'])
def test_bad_input_is_told_in_a_line(text: str | None, place: Place) -> None:
    TABLE.unlink() if text is None else TABLE.write_text(text)
    code, told = place.verify()
    assert code == 2 and told.startswith("error: ") and str(TABLE) in told and told.count("\n") == 1
