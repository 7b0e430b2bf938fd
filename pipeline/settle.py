"""Settled settings: the noise range of each network and the sampler of each row, as given or as found.

A search writes what it found and knows nothing of networks and rows. Settling takes an entry of params.yaml
and the result that it names, and writes one file per network and one per row. Training and sampling read
these files, so that a changed entry repeats its own work and no search.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.files import read_yaml, write_yaml
from pipeline.ncsn import noise as theory
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.ladder import Ladder
from pipeline.ncsn.sampler import Sampler as OnLadder
from pipeline.ncsn.sampler import SamplerSettings
from pipeline.params.noise import AnalyticNoise, Noise, NoiseLevels, SearchedNoise
from pipeline.params.sampler import Sampler, SearchedSampler
from pipeline.params.search import Analytic

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
            name = next(iter(_equals(search) if entry.tie == "start" else ()), "tuned")
            plain = {**_found_noise(entry, _line(search, name, f"noise.{network}")), "from": entry.from_}
        else:
            plain = {**levels(entry, manifest).plain(), "kind": entry.kind}
        write_yaml(folder / f"{network}.yaml", plain)


def _equals(search: Path) -> Sequence[str]:
    """The starting points that the found noise does not beat, the best first; none where nothing was found."""
    path = search / BEST
    return list(read_yaml(path)["verdict"].get("no_better_than", ())) if path.exists() else ()


def _found_noise(entry: SearchedNoise, tuned: Mapping[str, float]) -> dict[str, float]:
    """The levels found, or p_mean and p_std found for the range of the entry."""
    if not entry.has_range:
        return Ladder.read(tuned).plain()
    return Ladder.read(entry.kwargs()).plain() | {key: tuned[key] for key in ("p_mean", "p_std")}


def levels(settings: NoiseLevels | AnalyticNoise | Analytic, manifest: Mapping[str, Any]) -> Ladder:
    """The noise levels of an entry of `noise`, as given or analytic.

    Analytic levels are those of NCSNv2 (arXiv 2006.09011). By technique 1, sigma_max is the largest distance
    of two training images. By technique 2, there are as many levels as let neighbours overlap by `overlap`.

    Args:
        manifest: of the prepared data set.

    Raises:
        UserError: a single training image, or an overlap that no number of levels has.
    """
    if isinstance(settings, NoiseLevels):
        return Ladder(settings.sigma_max, settings.sigma_min, settings.num_levels)
    sigma_max, dim = manifest["max_pairwise_distance"], math.prod(manifest["shape"][1:])
    if sigma_max is None:
        raise UserError("there is a single training image, and analytic noise needs the distance of two: give noise.")
    count = theory.num_levels(sigma_max, settings.sigma_min, dim, settings.overlap)
    return Ladder(sigma_max, settings.sigma_min, count)


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
            plain = _line(search, entry.choose, f"sampler.{row}")["sampler"]
        else:
            plain = _on(entry, Ladder.read(trained), f"sampler.{row}").plain()
        write_yaml(folder / f"{row}.yaml", {"network": network, "searches": searches, "sampler": plain})


def _on(entry: SamplerSettings, trained: Ladder, key: str) -> OnLadder:
    try:
        return entry.on(trained)
    except UserError as error:
        raise UserError(f"{key}: {error}") from error


def read_settled(folder: Path) -> dict[str, object]:
    """The settled files of a folder by network or row."""
    return {path.stem: read_yaml(path) for path in sorted(folder.glob("*.yaml"))}


def _line(search: Path, name: str, key: str) -> Mapping[str, Any]:
    """The line of a search's best.yaml, see `pipeline.search.comparison.SearchLine`; `key` takes it."""
    path = search / BEST
    if not path.exists():
        raise UserError(
            f"{key} is from {search.name}, but {path} is missing: run `dvc repro {search.name}`, with "
            f"{search.name}.num_trials above 0."
        )
    line: Mapping[str, Any] = read_yaml(path)[name]
    return line
