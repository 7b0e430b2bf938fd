"""The checkpoint of a training that a row's samples were drawn with: the last one, or a chosen snapshot."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.files import read_json, write_json
from pipeline.ncsn.errors import UserError


def choice(artifacts: Path, row: str) -> dict[str, Any]:
    """What `write_selection` left of ROW or ROW-SEED; empty where `generate` has not run.

    Raises:
        UserError: the file is not of that kind.
    """
    path = _path(artifacts, row)
    found = read_json(path) if path.exists() else {}
    if found and not str(found.get("network")).startswith("models/"):
        raise UserError(f"{path} names no network: delete it and run `dvc repro generate`.")
    return dict(found)


def network_folder(artifacts: Path, row: str, network: str = "") -> Path:
    """The folder of the checkpoint behind the samples.

    Args:
        row: ROW or ROW-SEED.
        network: whose last checkpoint it is where `generate` has not run; by default that of the row's name.
    """
    return artifacts / str(choice(artifacts, row).get("network", f"models/{network or row}"))


def network_of(artifacts: Path, row: str) -> str:
    """The name of the training behind the samples: NETWORK or NETWORK-SEED."""
    return network_folder(artifacts, row).relative_to(artifacts).parts[1]


def write_selection(artifacts: Path, row: str, folder: Path, about: Mapping[str, object]) -> None:
    """Write selection/ROW.json: the folder, relative to `artifacts`, and `about` the choice.

    An output of its own next to the samples: what follows from the network alone does not run again for
    other samples of it.
    """
    write_json(_path(artifacts, row), {"network": folder.relative_to(artifacts).as_posix()} | dict(about))


def _path(artifacts: Path, row: str) -> Path:
    return artifacts / "selection" / f"{row}.json"
