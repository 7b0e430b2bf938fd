"""The exact part of a run's log: equal for every run of a task, resumed or not."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pipeline.files import write_text


class Row(NamedTuple):
    """`loss` is the mean over the examples of all steps since the row before."""

    step: int
    images: int
    loss: float


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as CSV with a header; floats keep all their digits."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(Row._fields)
    table.writerows((row.step, row.images, repr(row.loss)) for row in rows)
    write_text(path, text.getvalue())


def read(path: Path) -> list[Row]:
    """The rows of a file that `write` made. Raises ValueError on anything else."""
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    if tuple(header) != Row._fields:
        raise ValueError(f"{path} has the columns {header}")
    return [Row(int(step), int(images), float(loss)) for step, images, loss in rows]
