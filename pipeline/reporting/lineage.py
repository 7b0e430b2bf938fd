"""Provenance of a row: the stages, parameters, files and runs that its numbers follow from.

The commit is in no file that a stage writes: two commits with equal results would leave different bytes, and
DVC would run again all that follows. A stage's run in MLflow has the commit, and is found by the hash of the
bytes that the stage wrote. Where no run was recorded, the report's own process is named instead.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from pipeline import dvcfile, environment
from pipeline.files import read_yaml, sha256
from pipeline.git import Commit
from pipeline.ncsn.kinds import kinds
from pipeline.selected_checkpoint import network_folder, network_of

REPORT = "report"
SHARED = {
    "noise levels": "noise/{network}.yaml",
    "sampler": "sampler/{row}.yaml",
    "evaluator": "features/{space}.safetensors",
}
OWN = {
    "choice": "selection/{name}.json",
    "checkpoint": "{model}/ema.safetensors",
    "samples": "samples/{name}/{kind}.npy",
    "evaluation": "evaluation/{name}.json",
}
"""What a row needs in addition to data and parameters, below artifacts/: once, and of each `name` behind it
(ROW or ROW-SEED), whose `model` is the folder that its samples were drawn with."""
RESULTS = {
    "train": ("checkpoint.sha256", "models/{name}/manifest.json"),
    "generate": ("samples.sha256", "samples/{name}/manifest.json"),
    "evaluate": ("metrics.sha256", "evaluation/{name}.json"),
}
"""The stages that make a row: the tag of their run, and the file whose SHA-256 it holds."""
SETTLED = {"settle_noise": "noise", "settle_sampler": "sampler"}
"""The stages that write a file for each entry of a section: a row follows from its own entry's alone."""


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
    """The stage's instance: NETWORK or NETWORK-SEED of `train`, else ROW or ROW-SEED; None of the report."""


class Origin(TypedDict):
    """Origin of a row: the fields of `rows.Row` that say what made its numbers."""

    commit: str | None
    dirty: bool
    data_sha256: str
    params_sha256: str | None
    run_id: str | None
    files: tuple[File, ...]
    made: tuple[Made, ...]


Parameters = Mapping[str, Any]
"""The content of params.yaml."""
Find = Callable[[Mapping[str, str]], str | None]
TagsOf = Callable[[str], Mapping[str, str]]


def made(artifacts: Path, row: str, preset: str, find: Find, tags_of: TagsOf) -> tuple[Made, ...]:
    """The runs that wrote the checkpoint, samples and numbers of ROW or ROW-SEED, as `artifacts` has them."""
    found = []
    for stage, (tag, pattern) in RESULTS.items():
        name = network_of(artifacts, row) if stage == "train" else row
        path = artifacts / pattern.format(name=name)
        if not path.exists():
            continue
        run_id = find({"stage": stage, key_tag(stage): name, "preset": preset, tag: sha256(path)})
        if run_id:
            found.append(_made(stage, name, run_id, tags_of(run_id)))
    return tuple(found)


def key_tag(stage: str) -> str:
    """The tag of a run that names what its stage works on."""
    return "network" if stage == "train" else "row"


def _made(stage: str, name: str, run_id: str, tags: Mapping[str, str]) -> Made:
    sha, dirty = tags.get("mlflow.source.git.commit"), tags.get("git.dirty") == "true"
    return Made(stage, run_id, sha, dirty, tags.get("versions"), tags.get("hardware"), name)


def witnessed(runs: tuple[Made, ...], here: Commit) -> tuple[Made, ...]:
    """Runs of a row, followed by the report's own process where the evaluation has no run."""
    if runs and runs[-1].stage == "evaluate":
        return runs
    own = Made(REPORT, None, here.sha, here.dirty, environment.versions(), environment.hardware())
    return (*runs, own)


def agreed(runs: tuple[Made, ...], name: str) -> str | None:
    """Value of a field that all runs share, else one per stage by name; None where unknown."""
    values: dict[tuple[str, str | None], None] = {(run.stage, getattr(run, name)): None for run in runs}
    if len({value for _, value in values}) == 1:
        return next(value for _, value in values)
    return "; ".join(f"{stage}: {value or 'unknown'}" for stage, value in values) or None


def files(artifacts: Path, row: str, kind: str | None, names: Sequence[str] = ()) -> tuple[File, ...]:
    """The files of a row that are there; of the floor's, whose `kind` is None, those no sampler made.

    Args:
        names: ROW and ROW-SEED of each training behind the row; none: ROW alone.
    """
    shared, own = (SHARED, OWN) if kind else ({"evaluator": SHARED["evaluator"]}, {"evaluation": OWN["evaluation"]})
    network = network_of(artifacts, row)
    given = [{"row": row, "network": network, "space": space} for space in kinds("features")]
    named = list(dict.fromkeys((w, text.format(**one)) for w, text in shared.items() for one in given))
    for name in names or (row,):
        model = network_folder(artifacts, name).relative_to(artifacts)
        named += [(what, text.format(name=name, kind=kind, model=model)) for what, text in own.items()]
    places = [(what, artifacts / name) for what, name in named]
    return tuple(
        File(what, path.relative_to(artifacts.parent).as_posix(), sha256(path))
        for what, path in places
        if path.exists()
    )


class StageGraph:
    """Graph of the pipeline's stages, from the dvc.yaml and params.yaml next to `artifacts`."""

    def __init__(self, root: Path) -> None:
        """
        Raises:
            UserError: params.yaml is no YAML, or lacks a key that a placeholder of dvc.yaml names.
        """
        self.params: Parameters = read_yaml(root / "params.yaml")
        self.entries = dvcfile.entries(root)

    @classmethod
    def read(cls, root: Path) -> "StageGraph | None":
        """The graph of a folder; None where it has no dvc.yaml."""
        return cls(root) if (root / "dvc.yaml").exists() and (root / "params.yaml").exists() else None

    def chain(self, row: str | None, names: Sequence[str] = ()) -> list[str]:
        """The stages that a row's numbers follow from, in dvc.lock's names, sorted; the floor's for None.

        With `names`, ROW-SEED of further training seeds, those of their numbers too. A search is among them
        only where the row, or its network, uses its result.
        """
        todo = {f"evaluate@{row}"} if row else {"prepare", "features"}
        todo |= {f"evaluate_more@{name}" for name in names if name != row}
        return sorted(self.behind(todo))

    def behind(self, stages: Iterable[str]) -> set[str]:
        """These stages and those that their outputs follow from, in dvc.lock's names."""
        todo, seen = set(stages), set[str]()
        while todo := (todo & self.entries.keys()) - seen:
            seen |= todo
            open_stages = todo - SETTLED.keys()  # of a settled entry `_makers` names the search
            inputs = {dep for stage in open_stages for dep in self.entries[stage].inputs()}
            todo = {maker for dep in inputs for maker in self._makers(dep)}
        return seen

    def _makers(self, dep: str) -> Iterator[str]:
        """Stages whose outputs are, contain or lie in an input; of a settled entry also its search."""
        for name, entry in self.entries.items():
            if any(f"{a}/".startswith(f"{b}/") for out in entry.outs for a, b in ((dep, out), (out, dep))):
                yield name
                section = self.params.get(SETTLED[name], {}) if name in SETTLED else {}
                if search := section.get(Path(dep).stem, {}).get("from"):
                    yield search

    def settled(self, chain: Sequence[str]) -> set[str]:
        """The dotted keys of the entries, such as noise.ncsn, whose files the stages of a chain read."""
        deps = {Path(dep) for stage in chain if stage not in SETTLED for dep in self.entries[stage].inputs()}
        sections = [dep for dep in deps if dep.parent.name in SETTLED.values() and dep.suffix == ".yaml"]
        return {f"{dep.parent.name}.{dep.stem}" for dep in sections}

    def parameters(self, row: str | None) -> dict[str, object]:
        """The values of params.yaml that a row's numbers depend on, by dotted key."""
        chain = self.chain(row)
        read = {key for stage in chain if stage not in SETTLED for key in self.entries[stage].params}
        keys = read | self.settled(chain) | {"evaluate"}
        return {key: dvcfile.value(self.params, key) for key in sorted(keys) if self._has(key)}

    def _has(self, key: str) -> bool:
        try:
            dvcfile.value(self.params, key)
        except (KeyError, TypeError):
            return False
        return True

    def digest(self, row: str | None) -> str:
        """SHA-256 of `parameters` as JSON with sorted keys: comments and layout of the file do not count."""
        text = json.dumps(self.parameters(row), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Lineage:
    """Lineage of the rows of a table."""

    artifacts: Path
    data_sha256: str
    here: Commit
    """The report's own checkout."""
    runs: Mapping[str, tuple[Made, ...]]
    """By ROW or ROW-SEED, see `made`."""
    plan: StageGraph | None

    def of(self, row: str, kind: str | None, names: Sequence[str] = ()) -> Origin:
        """Origin of a row, or where `kind` is None of the floor in that row's evaluation.

        The first training's runs come last: the row's commit and run are its evaluation's.
        """
        known = [run for name in reversed(names or (row,)) for run in self.runs.get(name, ())]
        runs = witnessed(tuple(run for run in known if kind or run.stage == "evaluate"), self.here)
        return {
            "commit": runs[-1].commit,
            "dirty": any(run.dirty for run in runs),
            "data_sha256": self.data_sha256,
            "params_sha256": self.plan.digest(row if kind else None) if self.plan else None,
            "run_id": runs[-1].run_id,
            "files": files(self.artifacts, row, kind, names),
            "made": runs,
        }
