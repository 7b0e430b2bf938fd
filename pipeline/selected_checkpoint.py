"""Which network of a training its samples were drawn with: the last one, or the snapshot that was chosen."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.files import read_json, write_json
from pipeline.ncsn.errors import UserError


def choice(artifacts: Path, network: str) -> dict[str, Any]:
    """What `write` left of VARIANT or VARIANT-SEED; empty where `generate` has not run.

    Raises:
        UserError: the file is not of that kind.
    """
    path = _path(artifacts, network)
    found = read_json(path) if path.exists() else {}
    if found and not str(found.get("network")).startswith("models/"):
        raise UserError(f"{path} names no network: delete it and run `dvc repro generate`.")
    return dict(found)


def network_folder(artifacts: Path, network: str) -> Path:
    """The folder of the checkpoint behind the samples; the training's last one where none was chosen."""
    return artifacts / str(choice(artifacts, network).get("network", f"models/{network}"))


def write(artifacts: Path, network: str, folder: Path, about: Mapping[str, Any]) -> None:
    """Write selection/NETWORK.json: the folder, relative to `artifacts`, and `about` the choice.

    An output of its own beside the samples, so that what follows from the network alone does not run again
    for other samples of it.
    """
    write_json(_path(artifacts, network), {"network": folder.relative_to(artifacts).as_posix()} | dict(about))


def _path(artifacts: Path, network: str) -> Path:
    return artifacts / "selection" / f"{network}.json"
