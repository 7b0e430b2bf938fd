"""The entry of a stage: one clear message and exit code 2 for the user's mistakes, a traceback for ours."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.commands.preset import main

ROOT = Path(__file__).resolve().parents[1]

STAGE = """
import errno, time
from pathlib import Path
from pipeline import entry
from pipeline.ncsn.errors import UserError

def main(params, row):
    {body}

if __name__ == "__main__":
    entry.run(main)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "conf/digits.yaml", tmp_path / "params.yaml")
    return tmp_path


NETWORKS = STAGE.replace("main(params, row)", "main(params, network)")


def run(place: Path, body: str, *arguments: str, stage: str = STAGE) -> subprocess.CompletedProcess[str]:
    (place / "stage.py").write_text(stage.format(body=body))
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "stage.py", *arguments]
    return subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, timeout=60)


def test_a_good_stage_gets_its_row(place: Path) -> None:
    done = run(place, "Path('out').write_text(row)", "ncsn")
    assert (done.returncode, (place / "out").read_text()) == (0, "ncsn"), done.stderr


def test_a_network_and_a_row_are_named_with_a_further_seed_too(place: Path) -> None:
    shutil.copytree(ROOT / "conf", place / "conf")
    assert main(["digits", "--extra-seeds", "7"], place) == 0
    names = {"network": ("tuned", "tuned-7"), "row": ("tuned_fewest", "tuned_fewest-7")}
    for what, stage in (("network", NETWORKS), ("row", STAGE)):
        for name, code in [(name, 0) for name in names[what]] + [("ncsn-8", 2), ("ncsm-7", 2)]:
            done = run(place, f"Path('out').write_text({what})", name, stage=stage)
            assert done.returncode == code, done.stderr
            assert ((place / "out").read_text() == name) == (code == 0)
        assert f"`{what}s` nor one of these with a seed of `extra_seeds` [7]: it has ncsn, " in done.stderr
    done = run(place, "pass", "tuned_fewest", stage=NETWORKS)
    assert done.returncode == 2, "a row that is no network is not trained"


@pytest.mark.parametrize(
    ("body", "arguments", "message"),
    [
        ("raise UserError('data.name is wrong')", ["ncsn"], "error: data.name is wrong\n"),
        ("pass", [], "usage: stage.py ROW"),
        ("pass", ["ncsm"], "'ncsm' is neither in params.yaml's `rows`"),
        (
            "raise OSError(errno.ENOSPC, 'No space left on device', 'big.npy')",
            ["ncsn"],
            "cannot read or write big.npy: No space",
        ),
        (
            "raise PermissionError(errno.EACCES, 'Permission denied', 'in.npy')",
            ["ncsn"],
            "cannot read or write in.npy: Permission",
        ),
    ],
)
def test_a_mistake_is_one_message(place: Path, body: str, arguments: list[str], message: str) -> None:
    done = run(place, body, *arguments)
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr


DVC = """
stages:
  prepare: {cmd: none}
  train: {matrix: {network: "${networks}"}, cmd: none}
  stage: {foreach: "${rows}", do: {cmd: none}}
"""


def test_a_stage_says_what_it_will_do_and_where_in_the_pipeline_it_is(place: Path) -> None:
    (place / "dvc.yaml").write_text(DVC)
    told = '"""Stage `stage ROW`: the numbers of\na row."""\n' + STAGE
    done = run(place, "pass", "ncsnv2", stage=told)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("stage 7 of 10, stage@ncsnv2: the numbers of a row.\n")
    (place / "dvc.yaml").write_text(DVC.replace("  stage: {foreach", "  stage_more: {foreach"))
    assert run(place, "pass", "ncsn", stage=told).stderr.startswith("stage 6 of 10, stage_more@ncsn: the")


def test_a_stage_that_no_pipeline_has_says_nothing(place: Path) -> None:
    assert run(place, "pass", "ncsn").stderr == ""
    (place / "dvc.yaml").write_text(DVC.replace("  stage:", "  other:"))
    assert run(place, "pass", "ncsn").stderr == ""


def test_all_mistakes_in_params_are_told_at_once(place: Path) -> None:
    text = (place / "params.yaml").read_text().replace("batch_size: 128", "batch_size: 129", 1)
    (place / "params.yaml").write_text(text.replace("image_size: 8", "image_sise: 8"))
    done = run(place, "pass", "ncsn")
    assert done.returncode == 2
    for piece in (
        "data.image_sise",
        "data.image_size",
        "batch_size (129) must be divisible by micro_batches (2)",
    ):
        assert piece in done.stderr


def test_our_own_fault_keeps_its_traceback(place: Path) -> None:
    done = run(place, "raise KeyError('bug')", "ncsn")
    assert done.returncode == 1 and "Traceback" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_stage_ends_with_the_process_that_started_it(place: Path) -> None:
    (place / "stage.py").write_text(STAGE.format(body="Path('up').touch(); time.sleep(60)"))
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import subprocess; subprocess.run([{sys.executable!r}, 'stage.py', 'ncsn'])",
        ],
        cwd=place,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    while not (place / "up").exists():
        time.sleep(0.05)
    (child,) = psutil.Process(parent.pid).children()
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    for _ in range(100):
        if not child.is_running():
            return
        time.sleep(0.05)
    raise AssertionError(f"stage {child.pid} outlived its parent")


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_stage_whose_parent_was_gone_before_it_looked_does_nothing(place: Path) -> None:
    late = "import time; time.sleep(1)\n" + STAGE.format(body="Path('up').touch()")
    (place / "stage.py").write_text(late + "    Path('over').touch()\n")
    alone = f"import subprocess; print(subprocess.Popen([{sys.executable!r}, 'stage.py', 'ncsn']).pid)"
    told = subprocess.run(
        [sys.executable, "-c", alone],
        cwd=place,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(told.stdout)).wait(60)
    assert not (place / "up").exists() and not (place / "over").exists()
