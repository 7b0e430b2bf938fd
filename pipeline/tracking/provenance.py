"""Provenance of a run, as tags and parameters: git, DVC, preset, stage, network, row, versions, hardware."""

import contextlib
import getpass
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from numbers import Real
from pathlib import Path

from pipeline import dvcfile, environment
from pipeline.files import read_yaml, sha256
from pipeline.git import commit
from pipeline.ncsn.errors import UserError
from pipeline.redaction import HIDDEN, redact
from pipeline.tracking import process
from pipeline.tracking.record import Arguments, Heading, PipelineHeading

PARENT = "PIPELINE_PARENT_RUN"
"""Environment: the run id that stages take as their parent, in place of the one of their `dvc` process."""
ATTACH = "PIPELINE_RUN"
"""Environment, inside a job: the stage's run id, begun and ended by the process that submitted the job."""
EXPERIMENT = "DVC_EXP_NAME"
"""Environment, set by `dvc exp run` in a stage: the experiment's name, given or made up."""
NO_RESULT = ("compute", "tracking")
"""Sections of the parameters that change no result."""
OF_NETWORKS = ("train", "train_more")
"""The stages that run once a network; the others with a key run once a row."""
LONGEST = 500
"""Characters of a parameter's value; longer ones are cut."""


def root() -> Path:
    """The repository: the working folder, or the one around it where `dvc exp` runs in a copy."""
    here = Path.cwd()
    pieces = here.parts
    for i in range(len(pieces) - 2):
        if pieces[i : i + 3] == (".dvc", "tmp", "exps"):
            return Path(*pieces[:i])
    return here


def store_uri(root: Path) -> str:
    """The tracking store: MLFLOW_TRACKING_URI, or mlflow.db in the repository.

    MLflow makes the folder of a `sqlite:` address, and takes a quoted one literally; that of a driver it leaves.
    """
    path = str(root / "mlflow.db")
    quoted = path.replace("%", "%25").replace("?", "%3F")
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite{'' if quoted == path else '+pysqlite'}:///{quoted}"


def revealed(uri: str) -> str:
    """A store's address with what a record leaves out of it, which the environment alone has.

    Raises:
        UserError: MLFLOW_TRACKING_URI is not this store's.
    """
    own = os.environ.get("MLFLOW_TRACKING_URI", "")
    if HIDDEN not in uri:
        return uri
    if redact(own) != uri:
        raise UserError(f"the password of {uri} is not kept: set MLFLOW_TRACKING_URI to its whole address.")
    return own


def heading(
    root: Path,
    stage: str,
    key: str | None,
    params: Arguments,
    *,
    last: bool,
    shows: Iterable[Mapping[str, str]],
) -> Heading:
    """What only a stage's own process knows of its run; see `tracking.stage` for the arguments."""
    owner = process.pipeline_owner()
    read, found = sections(stage, key, params), tags(stage, key, params) | process.tags("stage")
    return Heading(
        uri=redact(store_uri(root)),
        root=str(root),
        experiment=params["tracking"]["experiment"],
        identity=_identity(stage, key, read, found),
        name=" ".join(filter(None, (stage, key))),
        params=read,
        tags=found,
        made_with=made_with(),
        owner=process.key(owner),
        alone=owner.pid == os.getpid(),
        last=last,
        shows=list(map(dict, shows)),
        parent=os.environ.get(PARENT),
        attach=os.environ.get(ATTACH),
        pipeline=PipelineHeading(
            named=EXPERIMENT in os.environ,
            title=os.environ.get(EXPERIMENT) or f"{params['preset']} {time.strftime('%Y-%m-%d %H:%M:%S')}",
            tags=common(params) | process.tags("pipeline", owner),
            params={name: value for name, value in params.items() if name not in NO_RESULT},
        ),
    )


def _identity(stage: str, key: str | None, read: dict[str, str], tags: dict[str, str]) -> str:
    inputs = {name: value for name, value in tags.items() if name.startswith("dvc.")}
    text = json.dumps([stage, key, read, inputs], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def sections(stage: str, key: str | None, params: Arguments) -> dict[str, str]:
    """What a stage reads of params.yaml, and what was settled for its row, as dotted keys and short values.

    No name of a network or row is in a key, so that MLflow shows those of two runs side by side.
    """
    entry = dvcfile.entry(Path.cwd(), stage, key)
    found = {name: dvcfile.value(params, name) for name in entry.params if not (key and name.startswith("recipes."))}
    values = flat(found | _settled(of_key(stage, key, params), entry.inputs(), params))
    return {name: str(value)[:LONGEST] for name, value in values}


def _settled(on: Mapping[str, str], inputs: Iterable[str], params: Arguments) -> Arguments:
    """The recipe and noise of a run's network and the sampler of its row, as far as they are settled."""
    if not on:
        return {}
    settled = {path.parent.name: path for path in map(Path, inputs) if path.parent.name in ("noise", "sampler")}
    row = _plain(settled.get("sampler"))
    network = row.get("network") or settled.get("noise", Path(on["network"])).stem
    noise = _plain(Path("artifacts/noise", f"{network}.yaml"))
    recipe = params.get("recipes", {}).get(network, {})
    return {"recipe": recipe, "noise": noise, "sampler": row.get("sampler", {})}


def _plain(path: Path | None) -> Arguments:
    """A settled file; empty where it cannot be read, which its stage will say."""
    with contextlib.suppress(OSError, UserError):
        found = read_yaml(path) if path else {}
        return dict(found) if isinstance(found, Mapping) else {}
    return {}


def tags(stage: str, key: str | None, params: Arguments) -> dict[str, str]:
    """What a stage's run is found by: commit, DVC's hash of each input, preset, stage, network and row."""
    inputs = dvcfile.entry(Path.cwd(), stage, key).inputs()
    hashes = dvcfile.hashes(Path.cwd(), inputs)
    return {
        **common(params),
        **made_with(),
        **{f"dvc.{path}": md5 for path, md5 in hashes.items()},
        "stage": stage,
        **of_key(stage, key, params),
        "mlflow.source.name": f"stages/{stage}.py",
    }


def of_key(stage: str, key: str | None, params: Arguments) -> dict[str, str]:
    """The tags of what a stage with a key works on: its network, or its row and the row's network."""
    if key is None:
        return {}
    if stage in OF_NETWORKS:
        return {"network": key}
    further = params.get("extra_rows", {}).get(key, {})
    return {"row": key, "network": further.get("network") or params.get("rows", {}).get(key, key)}


def common(params: Arguments) -> dict[str, str]:
    """The tags of every run of this working tree."""
    return {**git(), **_user(), "preset": params["preset"], "mlflow.source.type": "LOCAL"}


def made_with() -> dict[str, str]:
    """What this very process works on and with; a job's, where a job does the work."""
    return {"versions": environment.versions(), "hardware": environment.hardware()}


def _user() -> dict[str, str]:
    try:
        return {"mlflow.user": getpass.getuser()}
    except (KeyError, OSError):  # a container's user without a name
        return {}


def git() -> dict[str, str]:
    """The commit, and whether what decides a result differs from it; nothing outside a git checkout."""
    here = commit()
    if here.sha is None:
        return {}
    return {"mlflow.source.git.commit": here.sha, "git.dirty": str(here.dirty).lower()}


def flat(values: Mapping[str, object], above: str = "") -> Iterator[tuple[str, object]]:
    """The leaves of nested mappings with dotted keys."""
    for key, value in values.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            yield from flat(value, f"{name}.")
        else:
            yield name, value


def numbers(values: Mapping[str, object]) -> dict[str, float]:
    """The leaves of nested mappings that are numbers, with dotted keys."""
    return {k: float(v) for k, v in flat(values) if isinstance(v, Real) and not isinstance(v, bool)}


def manifest_of(checkpoint: Path) -> str:
    """A checkpoint by the SHA-256 of its manifest, which lists those of its files; "none" without one."""
    manifest = checkpoint / "manifest.json"
    return sha256(manifest) if manifest.exists() else "none"
