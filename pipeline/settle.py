"""Settled settings: the noise range of each network and the sampler of each row, as given or as found.

A search writes what it found and knows nothing of networks and rows. Settling takes an entry of params.yaml
and the result that it names, and writes one file per network and one per row. Training and sampling read
these files, so that a changed entry repeats its own work and no search.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.files import read_yaml, write_yaml
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.ladder import Ladder
from pipeline.params.noise import Noise, SearchedNoise
from pipeline.params.sampler import Sampler, SearchedSampler
from pipeline.resolve import levels

BEST = "best.yaml"


def write_noise(folder: Path, noise: Mapping[str, Noise], manifest: Mapping[str, Any], search: Path) -> None:
    """Write NETWORK.yaml for each entry of `noise`: the range, and the kind or search that it comes from.

    Args:
        manifest: of the prepared data set.
        search: the folder of `tune_noise`.

    Raises:
        UserError: an entry is from a search that has no result.
    """
    for network, entry in noise.items():
        if isinstance(entry, SearchedNoise):
            plain = {**_found_noise(entry, _best(search, f"noise.{network}")), "from": entry.from_}
        else:
            plain = {**levels(entry, manifest).plain(), "kind": entry.kind}
        write_yaml(folder / f"{network}.yaml", plain)


def _found_noise(entry: SearchedNoise, best: Mapping[str, Any]) -> dict[str, Any]:
    """The levels found, or p_mean and p_std found for the range of the entry."""
    if not entry.has_range:
        return Ladder.read(best["tuned"]).plain()
    return Ladder.read(entry.kwargs()).plain() | {key: best["tuned"][key] for key in ("p_mean", "p_std")}


def write_samplers(
    folder: Path, samplers: Mapping[str, Sampler], rows: Mapping[str, str], noise: Path, search: Path
) -> None:
    """Write ROW.yaml for each row: its network, its sampler in numbers, and the searches that had a part.

    Args:
        rows: ROW: NETWORK.
        noise: the folder of `write_noise`.
        search: the folder of `tune_sampler`.

    Raises:
        UserError: an entry is from a search that has no result.
    """
    for row, network in rows.items():
        trained, entry = read_yaml(noise / f"{network}.yaml"), samplers[row]
        searches = [trained["from"]] if "from" in trained else []
        if isinstance(entry, SearchedSampler):
            searches.append(entry.from_)
            plain = _best(search, f"sampler.{row}")[entry.choose]["sampler"]
        else:
            plain = entry.on(Ladder.read(trained)).plain()
        write_yaml(folder / f"{row}.yaml", {"network": network, "searches": searches, "sampler": plain})


def read_settled(folder: Path) -> dict[str, Any]:
    """The settled files of a folder by network or row."""
    return {path.stem: dict(read_yaml(path)) for path in sorted(folder.glob("*.yaml"))}


def _best(search: Path, key: str) -> dict[str, Any]:
    path = search / BEST
    if not path.exists():
        raise UserError(
            f"{key} is from {search.name}, but {path} is missing: run `dvc repro {search.name}`, with "
            f"{search.name}.num_trials above 0."
        )
    return dict(read_yaml(path))
