"""The head of a Ray cluster on loopback; as a program, a command run as a job on one, in this folder:

python -m tests.cluster.heads COMMAND ...
"""

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil


@dataclass(frozen=True)
class Head:
    """A running cluster of one node."""

    address: str
    """HOST:PORT, for RAY_ADDRESS."""
    dashboard: str
    """http://HOST:PORT, for `ray job submit --address` and compute.job_address."""
    environment: dict[str, str]
    """What the cluster was started with; commands that speak to it need RAY_AUTH_MODE from here."""


@contextlib.contextmanager
def started() -> Iterator[Head]:
    """A real head with two CPUs and its dashboard, with a session folder and processes of its own."""
    ports = _free_ports(7)
    session = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # short: it holds sockets
    quiet = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_enable_metrics_collection": "0",
        "RAY_AUTH_MODE": "disabled",
    }
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | quiet
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    names = [
        "port", "dashboard-port", "ray-client-server-port", "dashboard-agent-listen-port",
        "dashboard-agent-grpc-port", "metrics-export-port", "runtime-env-agent-port",
    ]  # fmt: skip
    command = ["ray", "start", "--head", "--block", "--node-ip-address=127.0.0.1", "--num-cpus=2"]
    command += ["--include-dashboard=true", "--object-store-memory=100000000", f"--temp-dir={session}"]
    command += [f"--{name}={port}" for name, port in zip(names, ports, strict=True)]
    with (session / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait_for_jobs(process, ports[1], session / "log")
        yield Head(f"127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}", environment)
    finally:
        _end(process)
        shutil.rmtree(session, ignore_errors=True)


def job(head: Head, folder: Path, command: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Submit a command as docs/guides/cluster.md says it, and wait for its end."""
    inner = f"cd {shlex.quote(str(folder))} && {command}"
    submit = ["ray", "job", "submit", "--address", head.dashboard, "--", "bash", "-c", inner]
    return subprocess.run(submit, env=head.environment, text=True, **options)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _wait_for_jobs(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until the dashboard answers; the agent that starts jobs follows it, and jobs wait for it."""
    for _ in range(600):
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it started, by their ids."""
    family = [process, *psutil.Process(process.pid).children(recursive=True)] if process.poll() is None else []
    for member in family:
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            member.kill()
    process.wait(30)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the head does not outlive this process
    with started() as head:
        sys.exit(job(head, Path.cwd(), shlex.join(sys.argv[1:])).returncode)


if __name__ == "__main__":
    main()
