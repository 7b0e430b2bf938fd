"""A published folder holds the bits that were sampled from, and refuses what it cannot answer for."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from numpy.random import default_rng

from pipeline.commands import publish
from pipeline.data.dataset import open_dataset
from pipeline.data.preparation import prepare
from pipeline.files import read_json, write_json
from pipeline.git import Commit
from pipeline.metrics.measures import measures
from pipeline.ncsn.averages.exponential import Exponential
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.ladder import Ladder
from pipeline.ncsn.losses.levels import Levels
from pipeline.ncsn.networks import make_network
from pipeline.ncsn.prior import Law
from pipeline.ncsn.rng import SampleNoise
from pipeline.ncsn.sampler import Sampler
from pipeline.reporting import tables
from pipeline.reporting.read_table import read_table
from pipeline.training import checkpoints
from pipeline.training.optimizers.adam import Adam
from pipeline.training.schedules.constant import Constant
from pipeline.training.state import fresh
from pipeline.training.task import Task
from tests.reporting.conftest import manifest

NETWORK = {"kind": "ncsnv2", "channels": 1, "image_size": 8, "width": 8, "sigmas": (1.0, 0.1, 0.01)}
TASK = Task(
    network=NETWORK, optimizer=Adam(1e-3, (0.9, 0.999), 1e-8), schedule=Constant(), ema=Exponential(0.9),
    dequantise=False, flip=False,
    steps=1, batch_size=4, micro_batches=4, checkpoint_every=1, log_every=1,
    loss=Levels(), seed=0, data_sha256="0" * 64,
)  # fmt: skip
FILES = {"README.md", "SHA256SUMS", "config.json", "model.safetensors"}
MANIFEST = manifest() | {"licence": "MIT"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A run of one variant, whose averaged weights are not the network's."""
    made = fresh(TASK)
    made.network(torch.rand(4, 1, 8, 8), torch.full((4,), 0.1)).square().sum().backward()
    made.advance(1.0)
    artifacts = tmp_path / "artifacts"
    checkpoints.save(artifacts / "models/tuned", made)
    measured = dict.fromkeys([key for one in measures() for key in one.needed()], 0.5) | {
        "n": 50,
        "n_reference": 60,
        "evaluator": "CNN; ours",
        "reference": "train",
    }
    write_json(artifacts / "evaluation/tuned.json", dict.fromkeys(("raw", "denoised", "floor"), measured))
    sampler = Sampler.langevin(Ladder(1.0, 0.01, 3), step_size=1e-5, steps_per_level=2).plain()
    samples = {"nfe": {"raw": 6, "denoised": 7}, "num_samples": 50, "sampler": sampler, "sha256": {}}
    write_json(artifacts / "samples/tuned/manifest.json", samples)
    write_json(artifacts / "metrics/generate_tuned.json", {"seconds": 1.0})
    write_json(artifacts / "data/manifest.json", MANIFEST)
    table = read_table(artifacts, {"tuned": "tuned"}, MANIFEST, Commit(None))
    write_json(tmp_path / "reports/table.json", tables.to_json(table))
    return tmp_path


@pytest.fixture
def published(root: Path) -> Path:
    return make(root, root / "out")


def make(root: Path, folder: Path, variant: str = "tuned") -> Path:
    return publish.publish(variant, folder, artifacts=root / "artifacts", reports=root / "reports")


def test_the_network_comes_back_bit_for_bit(root: Path, published: Path) -> None:
    own = checkpoints.load_network(root / "artifacts/models/tuned")
    back = publish.load_published(published)
    assert not back.training and not any(p.requires_grad for p in back.parameters())
    held, read = own.state_dict(), back.state_dict()
    assert held.keys() == read.keys() and all(torch.equal(held[name], read[name]) for name in held)
    last = make_network(**NETWORK).state_dict()
    assert not all(torch.equal(last[name], read[name]) for name in read), "weights, not a fresh network's"
    ema = root / "artifacts/models/tuned/ema.safetensors"
    assert (published / "model.safetensors").read_bytes() == ema.read_bytes()


def test_the_folder_is_whole_and_its_sums_are_sha256sum_s(published: Path) -> None:
    assert {path.name for path in published.iterdir()} == FILES
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=published, check=True)


def test_the_card_is_the_hub_s_and_holds_the_results(published: Path) -> None:
    text = (published / "README.md").read_text()
    data = ModelCard(text).data  # raises where the block of results is not the Hub's
    assert data.license == "apache-2.0" and data.model_name == "tuned"
    assert {result.metric_type for result in data.eval_results} >= {"fid", "kid", "inception_score"}
    names = [str(result.metric_name) for result in data.eval_results if result.metric_type == "fid"]
    assert len(names) == 2 and all("N=50" in name and "digits" in name and "CNN" in name for name in names)
    assert "Memorisation" in text and "60 images" in text


def test_the_program_on_the_card_draws_samples(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (published / "README.md").read_text(), re.S)
    monkeypatch.chdir(published)
    values: dict[str, object] = {}
    exec(program, values)
    assert values["images"].shape == (16, 1, 8, 8)  # type: ignore[attr-defined]


def test_a_sampler_that_begins_at_the_data_is_published_with_where_it_begins(
    root: Path, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"has no start\.safetensors"):
        publish.load_start(published)
    prepare(root / "artifacts/data", name="digits", source=None, image_size=8, num_held_out=360, seed=0)
    path = root / "artifacts/samples/tuned/manifest.json"
    sampler = Sampler("dpm_solver", Ladder(1.0, 0.01, 3), {}, "data")
    write_json(path, read_json(path) | {"sampler": sampler.plain()})
    make(root, published)
    assert {path.name for path in published.iterdir()} == {*FILES, "start.safetensors"}
    (program,) = re.findall(r"```python\n(.*?)```", (published / "README.md").read_text(), re.S)
    monkeypatch.chdir(published)
    values: dict[str, object] = {}
    exec(program, values)
    noise = SampleNoise(seed=0, indices=range(16), shape=(1, 8, 8))
    law = Law.of(open_dataset(root / "artifacts/data").split("train"))
    own = sampler.sample(publish.load_published(published), noise, denoise="denoise=True" in program, law=law)
    assert torch.equal(values["x"], own)  # type: ignore[arg-type]
    make(root, published)
    (published / "start.safetensors").write_bytes(b"another's")
    with pytest.raises(UserError, match=r"damaged \(start\.safetensors\)"):
        publish.load_start(published)


def test_it_is_written_again_over_itself_alone(root: Path, published: Path) -> None:
    before = {path.name: path.read_bytes() for path in published.iterdir()}
    make(root, published)
    assert {path.name: path.read_bytes() for path in published.iterdir()} == before
    (published / "README.md").write_text("mine")
    with pytest.raises(UserError, match="name a new folder"):
        make(root, published)
    assert (published / "README.md").read_text() == "mine"


@pytest.mark.parametrize("name", ["notes.txt", ".git", "README.md"])
def test_what_is_not_its_own_is_left_alone(name: str, root: Path) -> None:
    (root / "out").mkdir()
    (root / "out" / name).write_text("mine")
    with pytest.raises(UserError, match="name a new folder"):
        make(root, root / "out")
    assert (root / "out" / name).read_text() == "mine"


def test_what_is_beside_it_is_left_alone(root: Path) -> None:
    beside = root / ".out.part"
    beside.mkdir()
    (beside / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"\.out\.part is in the way.*delete or rename it; or name a new folder"):
        make(root, root / "out")
    assert (beside / "notes.txt").read_text() == "mine" and not (root / "out").exists()
    beside.rename(root / "kept")
    make(root, root / "out")
    assert not beside.exists()


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_changed_byte_is_not_loaded(name: str, published: Path) -> None:
    content = bytearray((published / name).read_bytes())
    content[default_rng(0).integers(len(content))] ^= 1
    (published / name).write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        publish.load_published(published)


def _other_checkpoint(root: Path) -> None:
    table = json.loads((root / "reports/table.json").read_text())
    for row in table["rows"]:
        for file in row["files"]:
            file["sha256"] = "0" * 64
    (root / "reports/table.json").write_text(json.dumps(table))


def _damaged(root: Path) -> None:
    with (root / "artifacts/models/tuned/ema.safetensors").open("ab") as file:
        file.write(b"x")


@pytest.mark.parametrize(
    ("change", "variant", "told"),
    [
        (_other_checkpoint, "tuned", "another checkpoint"),
        (_damaged, "tuned", "damaged"),
        (lambda root: None, "edm", "is missing: name a row of the table"),
        (lambda root: (root / "reports/table.json").unlink(), "tuned", "table.json is missing"),
    ],
)
def test_what_the_table_does_not_answer_for_is_refused(
    change: Callable[[Path], None], variant: str, told: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(root)
    assert publish.main([variant, str(root / "out")], root) == 2
    assert told in capsys.readouterr().err and not (root / "out").exists()
