"""An archive that breaks a cap is refused before its members are read."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.data import archives
from pipeline.data.archives import tar_archive, zip_archive
from pipeline.ncsn.errors import UserError
from tests.data.formats import tarred, zipped

Opened = Callable[[Path], contextlib.AbstractContextManager[object]]
NOISE = {str(n): np.random.default_rng(n).bytes(1000) for n in range(5)}
KINDS = [(zip_archive, zipped(NOISE)), (tar_archive, tarred(dict(NOISE)))]
IDS = ["zip", "tar"]


@pytest.mark.parametrize(("opened", "content"), KINDS, ids=IDS)
@pytest.mark.parametrize(
    ("cap", "value", "message"),
    [
        ("MAX_MEMBERS", 4, "it has more than 4 members"),
        ("MAX_BYTES", 4999, "it has more than 4999 bytes"),
        ("MAX_RATIO", 0.5, "it has more than 0.5 times its own size"),
    ],
)
def test_caps(
    opened: Opened,
    content: bytes,
    cap: str,
    value: float,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "archive").write_bytes(content)
    with opened(tmp_path / "archive"):
        pass
    monkeypatch.setattr(archives, cap, value)
    with pytest.raises(UserError, match=rf"archive is refused: .*{message}"), opened(tmp_path / "archive"):
        pass


def test_a_cap_is_just_not_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 5)
    monkeypatch.setattr(archives, "MAX_BYTES", 5000)
    for opened, content in KINDS:
        (tmp_path / "archive").write_bytes(content)
        with opened(tmp_path / "archive"):
            pass
