"""A written table against the one that the files give now, field by field and hash by hash."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.files import read_json, sha256
from pipeline.git import Commit
from pipeline.ncsn.errors import UserError
from pipeline.reporting import tables
from pipeline.reporting.lineage import File
from pipeline.reporting.read_table import read_table
from pipeline.reporting.rows import Row, Table
from pipeline.verify.findings import AGAIN, PULL, Finding

RECORDED = {"commit", "dirty", "run_id", "made"}
"""Fields that only git and MLflow can speak of."""
MANIFEST, IMAGES = "data/manifest.json", "data/images.npy"
NEEDED = (MANIFEST, IMAGES, "evaluation/{row}.json")
"""What a row is read from, next to the files it names."""
NEEDED_OF_SAMPLES = ("samples/{row}/manifest.json", "metrics/generate_{row}.json")


def read(path: Path) -> tuple[Table, dict[str, Any]]:
    """A table.json as a table and as it stands there; raises UserError where it is none."""
    value = read_json(path)
    try:
        return Table.from_json(value), value
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is not a table of `dvc repro report` ({error}): name a table.json."
        ) from error


def system_of(row: Row) -> str:
    """The row of params.yaml whose evaluation a row is read from; the floor's is that of its file."""
    if not row.is_floor:
        return row.system
    return next((Path(file.path).stem for file in row.files if file.what == "evaluation"), row.system)


class Now:
    """Table that the files give now, read row by row."""

    def __init__(self, artifacts: Path, rows: Mapping[str, str], extra_seeds: Sequence[int]) -> None:
        self._artifacts, self._networks, self._extra_seeds = artifacts, rows, extra_seeds
        self._known: dict[str, list[Row] | str] = {}

    def row(self, row: Row) -> Row | str:
        """The same row as it would be written now, or why there is none."""
        found = self._rows(system_of(row))
        if isinstance(found, str):
            return found
        same = (r for r in found if (r.system, r.denoised) == (row.system, row.denoised))
        return next(same, "the files give no such row")

    def _rows(self, system: str) -> list[Row] | str:
        if system not in self._known:
            try:
                self._known[system] = list(self._build(system).rows)
            except (UserError, OSError) as error:
                self._known[system] = str(error)
        return self._known[system]

    def _build(self, system: str) -> Table:
        manifest = read_json(self._artifacts / MANIFEST)
        manifest["sha256"] = {**manifest["sha256"], "images": sha256(self._artifacts / IMAGES)}
        rows = {system: self._networks.get(system, system)}
        return read_table(self._artifacts, rows, manifest, Commit(None), extra_seeds=self._extra_seeds)


def findings(row: Row, now: Row | str, artifacts: Path) -> Iterator[Finding]:
    """What of a row is not what the files give: a missing or another file, hash or number."""
    if gone := _gone(row, artifacts):
        yield from (Finding(path, None, None, PULL) for path in gone)
    elif isinstance(now, str):
        yield Finding("the row", "as the table has it", now.rstrip("."), AGAIN)
    elif now.measured or row.measured:
        yield from _files(row.files, now.files)
        yield from _fields(row, now)
        yield from _witnesses(row)


def _gone(row: Row, artifacts: Path) -> list[str]:
    """Files that the row was read from and that are not there; none for one that was not measured."""
    patterns = NEEDED + (() if row.is_floor else NEEDED_OF_SAMPLES) if row.measured else ()
    needed = [artifacts / pattern.format(row=system_of(row)) for pattern in patterns]
    needed += [artifacts.parent / file.path for file in row.files if row.measured]
    return [path.relative_to(artifacts.parent).as_posix() for path in needed if not path.is_file()]


def _files(written: tuple[File, ...], now: tuple[File, ...]) -> Iterator[Finding]:
    """Files whose hash is another, or that one of the two does not name."""
    expected, found = ({(f.what, f.path): f.sha256 for f in some} for some in (written, now))
    for what, path in {**expected, **found}:
        one, other = expected.get((what, path)), found.get((what, path))
        if one != other:
            yield Finding(f"{what} {path}", one, other, _fix(path))


def _fix(path: str) -> str:
    return f"run `dvc checkout --force {path}`, or {AGAIN}"


def _fields(row: Row, now: Row) -> Iterator[Finding]:
    cells, written = now.cells(), row.cells()
    for name in (name for name in {**cells, **written} if name not in RECORDED | {"files"}):
        if (expected := cells.get(name)) != (found := written.get(name)):
            yield Finding(f"the table's {name}", str(expected), str(found), AGAIN)
    if {one.measure: one.interval for one in now.measures} != {
        one.measure: one.interval for one in row.measures
    }:
        yield Finding("the table's intervals", "those of the files", "others", AGAIN)


def _witnesses(row: Row) -> Iterator[Finding]:
    """The row's commit and run are those of the last run behind it."""
    if not row.made:
        yield Finding("the runs behind the row", "one", "none", AGAIN)
        return
    last, dirty = row.made[-1], any(run.dirty for run in row.made)
    told = {"commit": last.commit, "run_id": last.run_id, "dirty": dirty}
    for name, expected in told.items():
        if getattr(row, name) != expected:
            yield Finding(f"the table's {name}", str(expected), str(getattr(row, name)), AGAIN)


def whole(table: Table, written: Mapping[str, Any]) -> Iterator[Finding]:
    """What of the table outside its rows is not what the rows give: verdict, the papers' rows, data."""
    again = json.loads(json.dumps(tables.to_json(table)))
    digests = {row.data_sha256 for row in table.rows}
    for key in {**again, **written}:
        if again.get(key) != written.get(key) and key != "rows":
            yield Finding(key, str(again.get(key)), str(written.get(key)), AGAIN)
    for digest in digests - {table.data_sha256}:
        yield Finding("the table's data_sha256", digest, table.data_sha256, AGAIN)
