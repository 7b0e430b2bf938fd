"""Stage as a Ray job on a cluster that shares no file system with this machine.

`submit` sends code and inputs through a `Box`, waits, and brings the outputs back to where DVC expects them;
`python -m pipeline.cluster.job` is what runs on the cluster. Ray and pyarrow are imported when a job is
submitted, not before: every stage imports this module.
"""

import asyncio
import contextlib
import logging
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipeline import dvcfile
from pipeline.cluster.box import Box
from pipeline.ncsn.errors import UserError
from pipeline.redaction import has_secret, redact

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

INSIDE = "PIPELINE_INSIDE_JOB"
"""Environment: set in a job, whose stage is not to be submitted once more."""
PLACES = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION")
"""Environment, read by pyarrow: where a store like S3 is, sent to the job."""
CODE = ("pipeline", "stages", "extensions", "params.yaml", "dvc.yaml")
REACH_SECONDS = 5.0
LOST_SECONDS = 60.0
"""How long the cluster may be silent while a job runs."""
LAST_LINES = 20


def wanted(address: str | None) -> bool:
    """Whether a heavy stage is submitted to `compute.job_address` instead of running here."""
    return address is not None and INSIDE not in os.environ


def submit(
    stage: str,
    instance: str | None,
    address: str,
    storage: str | None,
    *,
    environment: Mapping[str, str] | None = None,
    returns: Sequence[str] = (),
    echo: Callable[[str], object] = sys.stderr.write,
) -> None:
    """Run a stage of ./dvc.yaml as a Ray job and put its outputs in their places, each whole or not at all.

    Args:
        address: of the cluster's dashboard, http://HEAD:8265.
        storage: where inputs and outputs travel: a folder or s3://bucket/path that both sides reach.
        environment: variables to set in the job.
        returns: further files to bring back, where the stage writes them.
        echo: receives the job's output while it runs.

    Raises:
        UserError: no cluster at the address, no storage, or the job failed (with its last lines).
    """
    if storage is None:
        raise UserError("compute.job_address is set: compute.job_storage must name a folder or s3://bucket/path.")
    entry = dvcfile.entry(Path(), stage, instance)
    client = _client(address)
    name = "-".join(filter(None, (stage, instance, uuid.uuid4().hex[:12])))
    box = Box(storage, name)
    try:
        box.push("inputs", Path(), entry.inputs())
        arguments = [stage, instance or "", box.storage, name, *returns]
        _run(client, name, arguments, dict(environment or {}), echo)
        _place(box, entry.outs, returns)
    finally:
        box.delete()


def _client(address: str) -> "JobSubmissionClient":
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"compute.job_address {redact(address)!r} is no http://HEAD:8265: name its dashboard.")
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname, port), timeout=REACH_SECONDS).close()
        from ray.job_submission import JobSubmissionClient

        for name in ("dashboard_sdk", "job.sdk"):
            logging.getLogger(f"ray.dashboard.modules.{name}").setLevel(logging.WARNING)
        return JobSubmissionClient(address)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"compute.job_address {redact(address)!r} cannot be used ({redact(str(error))}). Start the cluster with "
            "`ray start --head`, correct the address, or set it to null to work on this machine; a cluster "
            "that asks for a token wants RAY_AUTH_MODE=token and RAY_AUTH_TOKEN here too."
        ) from error


def _run(
    client: "JobSubmissionClient",
    name: str,
    arguments: Sequence[str],
    environment: dict[str, str],
    echo: Callable[[str], object],
) -> None:
    """Submit, follow, and raise UserError unless the job succeeds; an interruption here stops it there."""
    try:
        _start(client, name, arguments, environment)
        asyncio.run(_tail(client, name, echo))
        status = _final_status(client, name)
    except BaseException:
        with contextlib.suppress(OSError, RuntimeError):
            client.stop_job(name)
        raise
    if status != "SUCCEEDED":
        lines = (client.get_job_logs(name) or str(client.get_job_info(name).message)).strip().splitlines()
        last = "\n".join(f"  {line}" for line in lines[-LAST_LINES:])
        raise UserError(f"job {name} ended as {status}; its last lines:\n{last}")


def _start(client: "JobSubmissionClient", name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Upload the code and submit the job; UserError where the cluster refuses either."""
    with tempfile.TemporaryDirectory() as place:
        for part in filter(os.path.exists, CODE):
            _copy(Path(part), Path(place) / part)
        try:
            client.submit_job(
                entrypoint=shlex.join(["python", "-m", "pipeline.cluster.job", *arguments]),
                submission_id=name,
                runtime_env={"working_dir": place, "env_vars": {**_where(), **environment, INSIDE: "1"}},
            )
        except (OSError, RuntimeError, ValueError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
            raise UserError(
                f"the cluster at compute.job_address refused job {name} ({reason}). Fix that on the "
                "cluster, or set compute.job_address to null to work on this machine."
            ) from error


def _where() -> dict[str, str]:
    """The variables that say where a store is. Those that let in stay here: Ray shows a job's to everybody."""
    return {name: os.environ[name] for name in PLACES if name in os.environ and not has_secret(os.environ[name])}


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


async def _tail(client: "JobSubmissionClient", name: str, echo: Callable[[str], object]) -> None:
    try:
        async for lines in client.tail_job_logs(name):
            echo(lines)
    except Exception as error:  # whatever happens to the log, the job continues
        echo(f"(the log of job {name} broke off: {error}; waiting for its end)\n")


def _final_status(client: "JobSubmissionClient", name: str) -> str:
    seen = time.monotonic()
    while True:
        try:
            status: Any = client.get_job_status(name)
            if status.is_terminal():
                return str(status.value)
            seen = time.monotonic()
        except (OSError, RuntimeError) as error:
            if time.monotonic() - seen > LOST_SECONDS:
                raise UserError(f"compute.job_address fell silent while job {name} ran: {error}") from error
        time.sleep(0.2)


def _place(box: Box, outs: Sequence[str], returns: Sequence[str]) -> None:
    """Bring the outputs here, believe them when all are there and verified, and rename each into its place."""
    Path(".runs").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=".runs") as place:
        box.pull("outputs", Path(place), [*outs, *returns])
        if missing := [out for out in outs if not (Path(place) / out).exists()]:
            raise UserError(f"the job sent nothing of {', '.join(missing)}: run again.")
        for name in (*outs, *(name for name in returns if (Path(place) / name).exists())):
            target = Path(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir():
                shutil.rmtree(target)
            (Path(place) / name).replace(target)


def run_inside(stage: str, instance: str, storage: str, name: str, *returns: str) -> int:
    """What the job does: fetch the inputs into a folder of its own, run the stage there, send the outputs.

    Returns:
        The stage's exit code; nothing is sent unless it is 0.
    """
    box, code = Box(storage, name), Path.cwd()
    with tempfile.TemporaryDirectory(prefix="job-") as place:
        root = Path(place)
        for file in ("params.yaml", "dvc.yaml"):
            shutil.copy(code / file, root)
        entry = dvcfile.entry(root, stage, instance or None)
        box.pull("inputs", root, entry.inputs())
        path = os.pathsep.join(filter(None, (str(code), os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-m", f"stages.{stage}", *filter(None, [instance])]
        done = subprocess.run(command, cwd=root, env=os.environ | {"PYTHONPATH": path}, check=False)
        if done.returncode == 0:
            box.push("outputs", root, [*entry.outs, *(file for file in returns if (root / file).exists())])
        return done.returncode


def main(arguments: Sequence[str]) -> int:
    try:
        return run_inside(*arguments)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
