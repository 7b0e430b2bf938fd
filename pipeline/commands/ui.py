"""MLflow's UI on the runs, with links to the pages worth opening: `python -m pipeline.commands.ui`."""

import json
import os
import socket
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

from pipeline import params, tracking
from pipeline.ncsn.errors import UserError
from pipeline.redaction import HIDDEN, redact
from pipeline.tracking.provenance import store_uri

HOST, PORT = "127.0.0.1", 5000
PORTS = 20
"""How many ports are tried, from PORT on."""
QUIET = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "PYTHONWARNINGS": "ignore",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
"""No warnings of MLflow's own insides, which nobody here can act on."""


def free_port(first: int = PORT) -> int:
    """The first port of this machine from `first` on that nobody listens on.

    Raises:
        UserError: PORTS of them are taken.
    """
    for port in range(first, first + PORTS):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # of a server that has just ended
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise UserError(f"ports {first} to {first + PORTS - 1} of {HOST} are taken: end one of the servers there.")


def shown(address: str) -> str:
    """A server's address without user, password or token, as it may be printed and opened."""
    return redact(address).replace(f"{HIDDEN}@", "").rstrip("/")


def links(server: str, experiment: str, runs: list[str]) -> Iterator[str]:
    """Lines with the address of the runs' page, and that of the rows side by side where there are two.

    Args:
        server: its address without a query.
        experiment: its id.
        runs: ids of the rows' newest evaluations.
    """
    # Without the type MLflow 3 opens an overview of traces, of which a training has none.
    runs_page = f"{server}/#/experiments/{experiment}/runs?workflowType=machine_learning"
    yield f"runs: {runs_page}"
    yield f"rows with their numbers: {runs_page}&viewStateShareKey={tracking.VIEW}"
    yield f"models: {server}/#/experiments/{experiment}/models?workflowType=machine_learning"
    if len(runs) > 1:
        yield f"rows side by side: {server}/#/compare-runs?runs={_listed(runs)}&experiments={_listed([experiment])}"


def _listed(ids: Iterable[str]) -> str:
    return quote(json.dumps(list(ids), separators=(",", ":")))


def _pages(server: str, settings: params.Params) -> Iterator[str]:
    """The lines for a store; its bare address where nothing was recorded yet, or the server does not answer."""
    try:
        experiment, runs = tracking.pages(settings.tracking.experiment, settings.preset, settings.rows)
    except UserError as error:
        yield f"warning: {error}"
        experiment, runs = "", []
    yield from links(server, experiment, runs) if experiment and "?" not in server else [f"open {server}"]


def _tell(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """Print the links and become MLflow's server, or name the one in use; returns 2 for a mistake of the user's."""
    uri, settings = store_uri(Path.cwd()), params.load()
    if uri.startswith(("http://", "https://")):
        _tell(["MLFLOW_TRACKING_URI is set, and runs go there:", *_pages(shown(uri), settings)])
        return 0
    port = free_port()
    _tell([*_pages(f"http://{HOST}:{port}", settings), "The server starts in a few seconds; Ctrl-C ends it."])
    artifacts = str(Path.cwd() / "mlartifacts")
    where = ["--host", HOST, "--port", str(port), "--workers", "1"]
    stores = ["--backend-store-uri", uri, "--default-artifact-root", artifacts]
    os.execvpe("mlflow", ["mlflow", "ui", *where, *stores], QUIET | os.environ)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
