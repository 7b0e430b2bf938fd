"""Prepare the data set: source -> one array file and its manifest."""

from pathlib import Path

from pipeline import entry, tracking
from pipeline.data.preparation import prepare
from pipeline.params import Params

OUT = Path("artifacts/data")


def main(params: Params) -> None:
    with tracking.stage("prepare", None, params) as run:
        run.log_dataset(prepare(OUT, **params.data.kwargs()))


if __name__ == "__main__":
    entry.run(main)
