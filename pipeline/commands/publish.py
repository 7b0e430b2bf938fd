"""Make a folder of a trained network that can be uploaded: `python -m pipeline.commands.publish ROW FOLDER`.

    model.safetensors   the averaged weights, the very bytes that the samples were drawn with
    config.json         the network's settings, the sampler's, and the hash of the task that trained it
    README.md           the model card, of this network alone
    start.safetensors   the data's first two moments, where the sampler begins there
    SHA256SUMS          of all of them: `sha256sum -c SHA256SUMS`

`load_published` reads such a folder back. The stage's own folder, artifacts/models/ROW, is not what is uploaded: it
holds the optimiser's state too, three times the bytes, to go on training.
"""

import argparse
import dataclasses
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from pipeline import files
from pipeline.data.dataset import Manifest, open_dataset
from pipeline.metrics.drawn import Drawn
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.networks import make_network
from pipeline.ncsn.prior import Law
from pipeline.ncsn.sampler import Sampler
from pipeline.reporting import cards
from pipeline.reporting.rows import Table
from pipeline.selected_checkpoint import network_folder
from pipeline.training import checksums

WEIGHTS, CONFIG, CARD, SUMS = "model.safetensors", "config.json", "README.md", "SHA256SUMS"
START = "start.safetensors"
ALWAYS = {WEIGHTS, CONFIG, CARD}


def publish(row: str, folder: Path, *, artifacts: Path, reports: Path) -> Path:
    """Write a row's network to `folder`; returns it.

    Raises:
        UserError: `folder` holds what no publication wrote, something is where it is made, the row is unknown or
            has no network, or the row describes another checkpoint.
    """
    _free(folder)
    _free_beside(folder)
    model, samples = network_folder(artifacts, row), artifacts / "samples" / row
    if not model.is_dir():
        raise UserError(f"{model} is missing: name a row of the table, or run `dvc repro generate@{row}`.")
    checksums.verify(model)
    table = _table(row, reports / "table.json", files.sha256(model / "ema.safetensors"))
    manifest: Manifest = files.read_json(artifacts / "data/manifest.json")
    sampler = Drawn.read(samples).sampler
    with files.whole_folder(folder) as part:
        shutil.copyfile(model / "ema.safetensors", part / WEIGHTS)
        files.write_json(part / CONFIG, _config(files.read_json(model / "state.json"), sampler))
        files.write_text(part / CARD, cards.model_card(table, manifest, {row: sampler}, published=True))
        if sampler.start == "data":
            law = Law.of(open_dataset(artifacts / "data").split("train"))
            (part / START).write_bytes(save({"mean": law.mean, "root": law.root}))
        files.write_text(part / SUMS, _sums(part))
    return folder


def _config(state: Mapping[str, Any], sampler: Sampler) -> dict[str, object]:
    task = state["task"]
    return {
        "network": task["network"],
        "sampler": sampler.plain(),
        "range": "pixels in [0, 1]; sigmas are in that unit",
        "steps": state["step"],
        "task_sha256": state["fingerprint"],
        "data_sha256": task["data_sha256"],
    }


def _table(row: str, path: Path, checkpoint: str) -> Table:
    """The row with and without denoising, and the floor, which must tell of the checkpoint with this SHA-256."""
    table = Table.from_json(files.read_json(path))
    own = [one for one in table.rows if one.system == row and one.measured]
    fix = f"run `dvc repro`, then `python -m pipeline.verify {path}`"
    if not own:
        raise UserError(f"{path} has no measured row of {row!r}: {fix}.")
    if any(one.sha256("checkpoint") != checkpoint for one in own):
        raise UserError(f"{path} describes another checkpoint of {row!r} than is there: {fix}.")
    return dataclasses.replace(table, rows=(*own, *table.floors()))


def load_published(folder: Path, device: torch.device | str = "cpu") -> nn.Module:
    """The network of a published folder, as `training.state.load_network` gives that of a checkpoint.

    Raises:
        UserError: a file is missing, or is not what SHA256SUMS says.
    """
    _check(folder)
    network = make_network(**files.read_json(folder / CONFIG)["network"])
    try:
        network.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(f"{folder / WEIGHTS} does not hold the network of {CONFIG}.") from error
    return network.to(device).eval().requires_grad_(False)


def load_start(folder: Path) -> Law:
    """The law that the sampler begins at; raises UserError as `load_published` does, and where there is none."""
    _check(folder)
    if not (folder / START).exists():
        raise UserError(f"{folder} has no {START}: its sampler begins at noise, and needs no law.")
    return Law(**load_file(folder / START))


def _check(folder: Path) -> None:
    if differing := _differing(folder):
        raise UserError(f"{folder} is damaged ({', '.join(differing)}): fetch or publish it again.")


def _sums(folder: Path) -> str:
    return "".join(f"{files.sha256(path)}  {path.name}\n" for path in sorted(folder.iterdir()))


def _differing(folder: Path) -> list[str]:
    """The files that are missing or not as SHA256SUMS has them; it itself where it is missing or foreign."""
    path = folder / SUMS
    lines = path.read_text().splitlines() if path.is_file() else []
    claimed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    if claimed.keys() - {START} != ALWAYS:
        return [SUMS]
    own = {name: (folder / name).is_file() and files.sha256(folder / name) for name in claimed}
    return [name for name, digest in claimed.items() if own[name] != digest]


def _free(folder: Path) -> None:
    """Refuse a folder with anything in it but an earlier publication, unaltered."""
    if not folder.exists():
        return
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name}
    if found and (found - {START} != {*ALWAYS, SUMS} or _differing(folder)):
        raise UserError(f"{folder} holds other files than a publication's own: name a new folder.")


def _free_beside(folder: Path) -> None:
    """Refuse what is where the folder is made, before it takes its place."""
    part = folder.with_name(f".{folder.name}.part")
    if part.exists() or part.is_symlink():
        raise UserError(
            f"{part} is in the way: a publication that was killed left it, or it is yours. Look, and delete "
            "or rename it; or name a new folder."
        )


def main(arguments: list[str] | None = None, root: Path = Path()) -> int:
    """Publish what the command line names; returns the exit code, 2 for a mistake of the user's."""
    about = str(__doc__).partition(": ")[0]
    parser = argparse.ArgumentParser("python -m pipeline.commands.publish", description=about)
    parser.add_argument("row", metavar="ROW", help="a row of the table")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="new, or an earlier publication")
    given = parser.parse_args(arguments)
    try:
        made = publish(given.row, given.folder, artifacts=root / "artifacts", reports=root / "reports")
    except (UserError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(f"{made} is ready for upload; its README.md is the model card\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
