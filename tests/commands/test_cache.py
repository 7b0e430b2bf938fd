"""A damaged file in DVC's cache: DVC hands it on, the pipeline refuses it, and the mend mends it."""

import hashlib
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer

from pipeline.commands import cache
from pipeline.data.dataset import open_dataset
from pipeline.ncsn.errors import UserError

ROOT = Path(__file__).parents[2]
S3 = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
PREPARE = (
    "from pathlib import Path; from pipeline.data.preparation import prepare; "
    "prepare(Path('data'), name='npz', source='in.npy', image_size=8, num_held_out=2, seed=0)"
)


def run(folder: Path, *command: str, code: int = 0) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1", **S3}
    done = subprocess.run([sys.executable, "-m", *command], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the shipped configuration of DVC and one stage, already run."""
    folder = tmp_path_factory.mktemp("made")
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config").write_bytes((ROOT / ".dvc/config").read_bytes())
    np.save(folder / "in.npy", np.random.default_rng(0).integers(0, 256, (9, 8, 8), np.uint8))
    (folder / "dvc.yaml").write_text(
        f'stages:\n  prepare:\n    cmd: {sys.executable} -c "{PREPARE}"\n    outs: [data]\n'
    )
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    run(folder, "dvc", "repro", "--quiet")
    return folder


@pytest.fixture
def repository(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "repository")


def flip(stored: Path, original: Path) -> Path:
    """Flip a bit in the middle of the stored copy of a file; returns that copy."""
    content = original.read_bytes()
    (path,) = [p for p in (stored / "files/md5").glob("??/*") if p.read_bytes() == content]
    path.chmod(0o644)
    changed = bytearray(content)
    changed[len(content) // 2] ^= 1
    path.write_bytes(bytes(changed))
    path.chmod(0o444)
    return path


def test_a_flipped_bit_in_the_cache_is_caught_and_mended(repository: Path) -> None:
    """The whole way: DVC checks it out, a stage refuses it with the mend, and the mend is right."""
    data = repository / "data"
    good = (data / "images.npy").read_bytes()
    bad = flip(repository / ".dvc/cache", data / "images.npy")
    (data / "images.npy").unlink()
    run(repository, "dvc", "checkout", "--quiet")  # it says nothing
    assert (data / "images.npy").read_bytes() != good
    with pytest.raises(UserError, match=r"images\.npy is corrupt .*`python -m pipeline\.commands\.cache`.*-f prepare`"):
        open_dataset(data)
    assert f"removed {bad}" in run(repository, "pipeline.commands.cache")
    run(repository, "dvc", "repro", "--quiet", "-f", "prepare")
    assert (data / "images.npy").read_bytes() == bad.read_bytes() == good
    assert len(open_dataset(data).images) == 9


def test_a_damaged_remote_is_not_pulled_from(repository: Path) -> None:
    """The shipped configuration verifies; the remote is mended by taking the file out and pushing again."""
    storage, data = repository.parent / "ncsn-storage", repository / "data"
    run(repository, "dvc", "push", "--quiet")
    bad = flip(storage, data / "images.npy")
    aside = data.rename(repository / "aside")
    (repository / ".dvc/cache").rename(repository / ".dvc/aside")
    assert "failed to pull" in run(repository, "dvc", "pull", code=1)
    assert not (data / "images.npy").exists()
    assert cache.main([str(storage)]) == 0 and not bad.exists()
    aside.rename(data)
    run(repository, "dvc", "commit", "--quiet", "--force")
    run(repository, "dvc", "push", "--quiet")
    assert bad.read_bytes() == (data / "images.npy").read_bytes()


@pytest.fixture
def bucket() -> Iterator[Any]:
    """An S3 server on this machine with the bucket `bucket`: (its address, a client)."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=address, **keys)
    client.create_bucket(Bucket="bucket")
    yield address, client
    server.stop()


def test_an_s3_remote_as_documented(repository: Path, bucket: Any) -> None:
    """Pushed and pulled again bit for bit; not pulled from once a bit is flipped there."""
    address, client = bucket
    modify = ("dvc", "remote", "modify", "--local", "storage")
    run(repository, *modify, "url", "s3://bucket/ncsn")
    run(repository, *modify, "endpointurl", address)
    run(repository, "dvc", "push", "--quiet")
    good = (repository / "data/images.npy").read_bytes()

    def pull(code: int) -> str:
        for name in (".dvc/cache", "data"):
            shutil.rmtree(repository / name)
        return run(repository, "dvc", "pull", code=code)

    pull(0)
    assert (repository / "data/images.npy").read_bytes() == good
    digest = hashlib.md5(good).hexdigest()
    key = {"Bucket": "bucket", "Key": f"ncsn/files/md5/{digest[:2]}/{digest[2:]}"}
    client.put_object(**key, Body=good[:-1] + bytes([good[-1] ^ 1]))
    assert "failed to pull" in pull(1)


def test_only_what_is_damaged_is_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names are MD5 sums: of `hello`, of a folder's list, of something else, and none at all."""
    folder = tmp_path / "files/md5"
    for name in ("5d/41402abc4b2a76b9719d911017c592", "5d/41402abc4b2a76b9719d911017c592.dir"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"hello")
    (folder / "aa").mkdir()
    (folder / "aa/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbb").write_bytes(b"hello")
    (folder / "aa/cccccccccccccccccccccccccccccc.dir").write_bytes(b"hello")
    (folder / "aa/being-written.tmp").write_bytes(b"hel")
    assert cache.main([str(tmp_path)]) == 0
    assert sorted(p.name for p in folder.glob("??/*")) == [
        "41402abc4b2a76b9719d911017c592",
        "41402abc4b2a76b9719d911017c592.dir",
        "being-written.tmp",
    ]
    assert "2 damaged files" in capsys.readouterr().out
    assert cache.main([str(tmp_path)]) == 0
    assert "0 damaged files" in capsys.readouterr().out


def test_a_folder_that_is_no_cache_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cache.main([str(tmp_path)]) == 2
    assert f"{tmp_path} holds no files of DVC" in capsys.readouterr().err
