"""What a row's numbers follow from, as hashes, and the runs that made them.

The commit is not among the files of a stage: two commits that give equal bytes would then give unequal ones,
and DVC would run again all that follows. A stage's run in MLflow carries it, found by the hash of the very
bytes that the stage wrote. Where no run was recorded the report's own process answers, and is named so.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import dvcfile, environment
from pipeline.files import read_yaml, sha256
from pipeline.git import Commit
from pipeline.selected_checkpoint import network_folder

REPORT = "report"
SPACES = ("classifier", "inception", "dinov2")
"""What `reference.kind` may be: the evaluator's file is named by it."""
SHARED = {
    "noise levels": "noise/{variant}.yaml",
    "sampler": "sampler/{variant}.yaml",
    "evaluator": "reference/{space}.safetensors",
}
OWN = {
    "choice": "selection/{network}.json",
    "checkpoint": "{model}/ema.safetensors",
    "samples": "samples/{network}/{kind}.npy",
    "evaluation": "evaluation/{network}.json",
}
"""What a row needs beside data and parameters, below artifacts/: of the variant, and of each network, whose
`model` is the folder that its samples were drawn with."""
RESULTS = {
    "train": ("checkpoint.sha256", "models/{network}/manifest.json"),
    "generate": ("samples.sha256", "samples/{network}/manifest.json"),
    "evaluate": ("metrics.sha256", "evaluation/{network}.json"),
}
"""The stages that make a row: the tag of their run, and the file whose SHA-256 it holds."""
SEARCHES = {"tune_noise": "noise", "tune_sampler": "sampler"}
"""The searches, and the section of which some rules take what they find."""
SEARCHED = ("tuned", "tuned_continuous", "fewest", "knee")
"""These rules."""


@dataclass(frozen=True)
class File:
    """A file that a row's numbers follow from."""

    what: str
    path: str
    """From the repository's root."""
    sha256: str


@dataclass(frozen=True)
class Made:
    """A stage's run that had a part in a row; or the report's, where no other is known."""

    stage: str
    run_id: str | None
    """MLflow's; None where tracking was off."""
    commit: str | None
    dirty: bool
    versions: str | None
    hardware: str | None
    """Of the process that led the work: Ray's workers elsewhere may have other."""
    network: str | None = None
    """VARIANT, or VARIANT-SEED of a further training seed; None for the report."""


Find = Callable[[Mapping[str, str]], str | None]
TagsOf = Callable[[str], Mapping[str, str]]


def made(artifacts: Path, network: str, preset: str, find: Find, tags_of: TagsOf) -> tuple[Made, ...]:
    """The runs that wrote a network's checkpoint, samples and numbers that stand in `artifacts`."""
    found = []
    for stage, (tag, pattern) in RESULTS.items():
        path = artifacts / pattern.format(network=network)
        if not path.exists():
            continue
        run_id = find({"stage": stage, key_tag(stage): network, "preset": preset, tag: sha256(path)})
        if run_id:
            found.append(_made(stage, network, run_id, tags_of(run_id)))
    return tuple(found)


def key_tag(stage: str) -> str:
    """The tag of a run that names what its stage works on."""
    return "network" if stage == "train" else "row"


def _made(stage: str, network: str, run_id: str, tags: Mapping[str, str]) -> Made:
    sha, dirty = tags.get("mlflow.source.git.commit"), tags.get("git.dirty") == "true"
    return Made(stage, run_id, sha, dirty, tags.get("versions"), tags.get("hardware"), network)


def witnessed(runs: tuple[Made, ...], here: Commit) -> tuple[Made, ...]:
    """The runs of a row, and the report's own process behind them where the evaluation has no run."""
    if runs and runs[-1].stage == "evaluate":
        return runs
    own = Made(REPORT, None, here.sha, here.dirty, environment.versions(), environment.hardware())
    return (*runs, own)


def agreed(runs: tuple[Made, ...], name: str) -> str | None:
    """A field that all runs share, or else each one's behind the name of its stage; None where unknown."""
    values: dict[tuple[str, str | None], None] = {(run.stage, getattr(run, name)): None for run in runs}
    if len({value for _, value in values}) == 1:
        return next(value for _, value in values)
    return "; ".join(f"{stage}: {value or 'unknown'}" for stage, value in values) or None


def files(artifacts: Path, variant: str, kind: str | None, networks: Sequence[str] = ()) -> tuple[File, ...]:
    """The files of a row that are there; of the floor's, whose `kind` is None, those no sampler made.

    Args:
        networks: those behind the row, the variant's first training first; none: that one alone.
    """
    shared, own = (SHARED, OWN) if kind else (_only(SHARED, "evaluator"), _only(OWN, "evaluation"))
    folders = {network: network_folder(artifacts, network) for network in networks or (variant,)}
    models = {network: folder.relative_to(artifacts) for network, folder in folders.items()}
    given = [{"variant": variant, "space": space} for space in SPACES]
    named = list(dict.fromkeys((w, text.format(**one)) for w, text in shared.items() for one in given))
    named += [
        (what, text.format(network=network, kind=kind, model=model))
        for network, model in models.items()
        for what, text in own.items()
    ]
    places = [(what, artifacts / name) for what, name in named]
    return tuple(
        File(what, path.relative_to(artifacts.parent).as_posix(), sha256(path))
        for what, path in places
        if path.exists()
    )


def _only(patterns: Mapping[str, str], what: str) -> dict[str, str]:
    return {what: patterns[what]}


class Plan:
    """dvc.yaml and params.yaml beside `artifacts`, read once."""

    def __init__(self, root: Path) -> None:
        """
        Raises:
            UserError: params.yaml is no YAML, or lacks a key that a placeholder of dvc.yaml names.
        """
        self.params: dict[str, Any] = read_yaml(root / "params.yaml")
        self.entries = dvcfile.entries(root)

    @classmethod
    def read(cls, root: Path) -> "Plan | None":
        """The plan of a folder, None where it has no dvc.yaml."""
        return cls(root) if (root / "dvc.yaml").exists() and (root / "params.yaml").exists() else None

    def chain(self, variant: str | None, networks: Sequence[str] = ()) -> list[str]:
        """The stages a variant's numbers follow from, in dvc.lock's names, sorted; the floor's for None.

        With `networks`, VARIANT-SEED of further training seeds, those of their numbers too.

        A search stands among them only where the variant takes what it finds: another's stages change
        nothing but settled files, which a row names by their hashes.
        """
        todo = {f"evaluate@{variant}"} if variant else {"prepare", "reference"}
        todo |= {f"evaluate_more@{network}" for network in networks if network != variant}
        seen: set[str] = set()
        while todo := (todo & self.entries.keys()) - seen:
            seen |= todo
            todo = {maker for stage in todo for maker in self._makers(stage, variant)}
        return sorted(seen)

    def _makers(self, stage: str, variant: str | None) -> Iterator[str]:
        """The stages whose outputs are, hold, or lie in what a stage reads."""
        for name, entry in self.entries.items():
            pairs = [(dep, out) for dep in self.entries[stage].inputs() for out in entry.outs]
            related = any(f"{a}/".startswith(f"{b}/") for pair in pairs for a, b in (pair, pair[::-1]))
            if related and (name not in SEARCHES or self._tuned(SEARCHES[name], variant)):
                yield name

    def _tuned(self, rules: str, variant: str | None) -> bool:
        return bool(self.params[rules].get(variant, {}).get("rule") in SEARCHED)

    def parameters(self, variant: str | None) -> dict[str, Any]:
        """The values of params.yaml that a variant's numbers depend on, by dotted key."""
        keys = {key for stage in self.chain(variant) for key in self.entries[stage].params} | {"evaluate"}
        keys |= {f"{rules}.{variant}" for rules in SEARCHES.values() if variant}
        return {key: dvcfile.value(self.params, key) for key in sorted(keys) if self._has(key)}

    def _has(self, key: str) -> bool:
        try:
            dvcfile.value(self.params, key)
        except (KeyError, TypeError):
            return False
        return True

    def digest(self, variant: str | None) -> str:
        """SHA-256 of `parameters` as JSON with sorted keys: comments and layout of the file do not count."""
        text = json.dumps(self.parameters(variant), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Lineage:
    """Where the rows of a table come from."""

    artifacts: Path
    data_sha256: str
    here: Commit
    """The report's own checkout."""
    runs: Mapping[str, tuple[Made, ...]]
    """network -> `made`."""
    plan: Plan | None

    def of(self, variant: str, kind: str | None, networks: Sequence[str] = ()) -> dict[str, Any]:
        """Those fields of a row; of the floor's, read from a variant's evaluation, where `kind` is None.

        The first network's runs come last: the row's commit and run are its evaluation's.
        """
        known = [run for network in reversed(networks or (variant,)) for run in self.runs.get(network, ())]
        runs = witnessed(tuple(run for run in known if kind or run.stage == "evaluate"), self.here)
        return {
            "commit": runs[-1].commit,
            "dirty": any(run.dirty for run in runs),
            "data_sha256": self.data_sha256,
            "params_sha256": self.plan.digest(variant if kind else None) if self.plan else None,
            "run_id": runs[-1].run_id,
            "files": files(self.artifacts, variant, kind, networks),
            "made": runs,
        }


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row's JSON with `files` and `made` as objects again."""
    found = {"files": tuple(File(**f) for f in row.get("files", ()))}
    return {**row, **found, "made": tuple(Made(**m) for m in row.get("made", ()))}
