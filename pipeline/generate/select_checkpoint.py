"""Selection of a checkpoint: of all networks that a training kept, the one with the best samples.

As in Y. Song, S. Ermon, arXiv 1907.05600: the lowest FID on 1,000 samples, against the training
images. The samples are not those of the report, since the lowest of many FIDs is too low.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from pipeline import program
from pipeline.cluster import connect
from pipeline.cluster.connect import UseGpu
from pipeline.files import read_json, sha256, write_json
from pipeline.generate.generate import Samples, generate
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.prior import Law
from pipeline.ncsn.sampler import Sampler
from pipeline.training import checksums
from pipeline.training.checkpoints import load_network
from pipeline.training.lock import Lock, held

if TYPE_CHECKING:
    from pipeline.metrics.features import FeatureSpace

logger = logging.getLogger(__name__)

KINDS = ("raw", "denoised")
AT_ONCE = 4
"""Networks sampled side by side on a cluster: a thousand samples are few shards."""


class _Sizes(TypedDict):
    workers: int
    cpus_per_worker: int
    use_gpu: UseGpu


FIDs = dict[str, float] | None
"""`raw` and `denoised`; None where the dynamics diverged."""


@dataclass(frozen=True)
class SelectedCheckpoint:
    """Chosen checkpoint, with how it was chosen."""

    folder: Path
    """Of the chosen network."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """How it was chosen, as JSON has it; empty where there was one network alone."""
    measured: Path | None = None
    """Where the FIDs lie until the stage's output is in place."""
    lock: Lock | None = field(default=None, compare=False)
    """Of that folder."""

    def curve(self) -> Iterator[tuple[int, dict[str, object]]]:
        """The FIDs of each step, under a name that holds the number of samples."""
        for point in self.about.get("points", ()):
            yield point["step"], {f"selection_fid_n{self.about['num_samples']}": {k: point[k] for k in KINDS}}

    def discard(self) -> None:
        """Delete what a killed choice would continue from."""
        if self.measured:
            shutil.rmtree(self.measured, ignore_errors=True)
        if self.lock:
            self.lock.close()


def choose(
    folders: Mapping[int, Path],
    sampler: Sampler,
    *,
    reference: Path,
    storage: Path,
    num_samples: int,
    seed: int,
    workers: int,
    cpus_per_worker: int,
    use_gpu: UseGpu,
    law: Law | None = None,
    **settings: Any,
) -> SelectedCheckpoint:
    """The network with the lowest FID, with or without the last denoising step; of equals the later one.

    One whose dynamics diverge is passed over. A choice that was killed resumes with the FIDs it had, and with
    the shards of the network it was at. Of one network alone nothing is read.

    Args:
        folders: of the networks, by their steps, ascending; see `training.snapshots.candidates`.
        reference: the stage's output: the feature space, and the training images' moments in it.
        storage: where working folders lie.
        num_samples, seed, law, settings: of `generate`.
        workers, cpus_per_worker, use_gpu: see `connect.place`.

    Raises:
        UserError: a network or the reference is damaged, another process makes the same choice, or the
            dynamics diverge for all networks.
    """
    if len(folders) == 1:
        return SelectedCheckpoint(next(iter(folders.values())))
    from pipeline.generate.score import Scorer  # what most runs have no use for
    from pipeline.metrics import features, fid
    from pipeline.metrics.fid import distance

    space, target = features.load_space(reference), fid.load_moments(reference, "train")
    sizes = _Sizes(workers=workers, cpus_per_worker=cpus_per_worker, use_gpu=use_gpu)
    with connect.place(**sizes) as device:
        scorer = Scorer(space.on(device), storage)

        def measure(samples: Samples) -> dict[str, float]:
            return {kind: distance(scorer.moments(getattr(samples, kind)), target) for kind in KINDS}

        drawn = {"num_samples": num_samples, "seed": seed, **settings}
        rest: dict[str, object] = {
            "sampler": sampler.plain(),
            "law": law.digest() if law else None,
            "gpu": device == "cuda",
        }
        rest["code"] = _code(folders, sampler, space)
        measured = storage / f"selection-{_fingerprint(folders, reference / features.CONFIG, drawn | rest)}"
        measured.mkdir(parents=True, exist_ok=True)
        lock = held("chooser", "the selection", measured)
        draw = partial(_drawn, sampler=sampler, storage=measured / "samples", law=law, **drawn, **sizes)
        with lock.unless_failed():
            found = _all(folders, draw, measure, measured, AT_ONCE if connect.is_connected() else 1)
            step, kind = best_checkpoint(found)
    about = {
        "sha256": sha256(folders[step] / "ema.safetensors"),
        **{"step": step, "kind": kind, "num_samples": num_samples, "seed": seed, "evaluator": scorer.name},
        "points": [{"step": step, **(fids or dict.fromkeys(KINDS))} for step, fids in found.items()],
    }
    return SelectedCheckpoint(folders[step], about, measured, lock)


def best_checkpoint(found: Mapping[int, FIDs]) -> tuple[int, str]:
    """Step and kind of the lowest FID, of equals the latest; raises UserError where there is none."""
    known = [(fid, -step, kind) for step, fids in found.items() for kind, fid in (fids or {}).items()]
    if not known:
        raise UserError("the sampler diverges for every network of the training: lower its step size.")
    _, step, kind = min(known)
    return -step, kind


def _all(
    folders: Mapping[int, Path],
    draw: Callable[[Path], Samples | None],
    measure: Callable[[Samples], dict[str, float]],
    measured: Path,
    at_once: int,
) -> dict[int, FIDs]:
    """The FIDs of every network; those that `measured` has are not measured again."""
    places = {step: measured / f"step_{step:08d}" for step in folders}
    found = {step: _read(place) for step, place in places.items() if _verifies(place)}
    missing = [step for step in folders if step not in found]
    made = _drawn_all([folders[step] for step in missing], draw, at_once)
    for step, samples in zip(missing, made, strict=True):
        found[step] = measure(samples) if samples else None
        if samples:
            samples.discard()  # first: nobody would look for them behind the FID
        with checksums.writing(places[step]) as part:
            write_json(part / "fid.json", found[step])
        logger.info("%d of %d networks, step %d: FID %s", len(found), len(folders), step, found[step])
    return {step: found[step] for step in folders}


def _drawn_all(folders: list[Path], draw: Callable[[Path], Samples | None], at_once: int) -> Iterator[Samples | None]:
    """In order; several at once are drawn by others, so that threads do here."""
    if at_once == 1:
        yield from map(draw, folders)
        return
    with ThreadPoolExecutor(at_once) as pool:
        try:
            yield from pool.map(draw, folders)
        finally:
            pool.shutdown(cancel_futures=True)


def _drawn(folder: Path, *, sampler: Sampler, **settings: Any) -> Samples | None:
    network = load_network(folder)
    try:
        return generate(network, sampler, progress=lambda *_: None, **settings)
    except UserError as error:
        logger.warning("the network %s is not chosen: %s", folder, error)
        return None


def _read(place: Path) -> FIDs:
    fids: FIDs = read_json(place / "fid.json")
    return fids


def _verifies(place: Path) -> bool:
    try:
        checksums.verify(place)
    except UserError:
        return False
    return True


def _code(folders: Mapping[int, Path], sampler: Sampler, space: "FeatureSpace") -> str:
    """Version of the code that an FID comes from."""
    network = load_network(next(iter(folders.values())))
    kinds = program.modules({"network": network, "sampler": sampler.plain(), "features": space})
    return program.version("pipeline.generate.select_checkpoint", *kinds)


def _fingerprint(folders: Mapping[int, Path], reference: Path, follows: Mapping[str, object]) -> str:
    """32 hexadecimal digits of all that the FIDs follow from; `reference` names the hashes of its files."""
    names = [*(folder / checksums.MANIFEST for folder in folders.values()), reference]
    plain = {"files": [sha256(name) for name in names], **follows}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:32]
