"""A written table against the one that the files give now, and its runs against MLflow's records."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.files import read_json, sha256
from pipeline.git import Commit
from pipeline.ncsn.errors import UserError
from pipeline.reporting import tables
from pipeline.reporting.lineage import RESULTS, File, Made, key_tag
from pipeline.reporting.read_table import read_table
from pipeline.reporting.rows import Row, Table
from pipeline.tracking import Record
from pipeline.verify import AGAIN, PULL, Finding

RECORDED = {"commit", "dirty", "run_id", "made"}
"""Fields that only git and MLflow can speak of."""
MANIFEST, IMAGES = "data/manifest.json", "data/images.npy"
NEEDED = (MANIFEST, IMAGES, "evaluation/{row}.json")
"""What a row is read from, next to the files it names."""
NEEDED_OF_SAMPLES = ("samples/{row}/manifest.json", "metrics/generate_{row}.json")


def read_written(path: Path) -> tuple[Table, dict[str, object]]:
    """Content of table.json as a table and as plain data; raises UserError where it is not a table."""
    return Table.read(path), read_json(path)


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


def row_findings(row: Row, now: Row | str, artifacts: Path) -> Iterator[Finding]:
    """Findings of a row against the files: a missing file, another hash or another number."""
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
    if {one.measure: one.interval for one in now.measures} != {one.measure: one.interval for one in row.measures}:
        yield Finding("the table's intervals", "those of the files", "others", AGAIN)


def _witnesses(row: Row) -> Iterator[Finding]:
    """The row's commit and run are those of the last run behind it."""
    if not row.made:
        yield Finding("the runs behind the row", "one", "none", AGAIN)
        return
    last, dirty = row.made[-1], any(run.dirty for run in row.made)
    expectations = {"commit": last.commit, "run_id": last.run_id, "dirty": dirty}
    for name, expected in expectations.items():
        if getattr(row, name) != expected:
            yield Finding(f"the table's {name}", str(expected), str(getattr(row, name)), AGAIN)


def table_findings(table: Table, written: Mapping[str, object]) -> Iterator[Finding]:
    """Findings of the table outside its rows: verdict, the papers' rows, data."""
    again = json.loads(json.dumps(tables.to_json(table)))
    digests = {row.data_sha256 for row in table.rows}
    for key in {**again, **written}:
        if again.get(key) != written.get(key) and key != "rows":
            yield Finding(key, str(again.get(key)), str(written.get(key)), AGAIN)
    for digest in digests - {table.data_sha256}:
        yield Finding("the table's data_sha256", digest, table.data_sha256, AGAIN)


def run_findings(
    made: Made, name: str, data_sha256: str | None, artifacts: Path, records: Mapping[str, Record]
) -> Iterator[Finding]:
    """Findings of a run in MLflow against the row and the file that the run wrote.

    Args:
        name: of the stage's instance.
        data_sha256: of the images that the row names.
        records: run id -> MLflow's record; a run that it does not have is left out.
    """
    if made.run_id is None:
        return
    what = f"MLflow run {made.run_id} of {made.stage}"
    if (record := records.get(made.run_id)) is None:
        fix = f"set MLFLOW_TRACKING_URI to the store that has it, or {AGAIN}"
        yield Finding(what, "FINISHED", "no such run", fix)
        return
    if record.status != "FINISHED":
        yield Finding(what, "FINISHED", record.status, AGAIN)
    expectations = _tags(made, name, artifacts)
    if "data.sha256" in record.tags:  # `generate` reads no images
        expectations["data.sha256"] = data_sha256
    for tag, expected in expectations.items():
        if (found := record.tags.get(tag)) != expected:
            yield Finding(f"{what}, tag {tag}", expected, found or "none", AGAIN)


def _tags(made: Made, name: str, artifacts: Path) -> dict[str, str | None]:
    """The tags that such a run must have; the commit's only where there is one."""
    git = {"mlflow.source.git.commit": made.commit, "git.dirty": str(made.dirty).lower()}
    key = key_tag(made.stage)
    own = {"stage": made.stage, key: name, "versions": made.versions, "hardware": made.hardware}
    tag, pattern = RESULTS.get(made.stage, ("", ""))
    written = artifacts / pattern.format(name=name)
    result = {tag: sha256(written)} if tag and written.is_file() else {}
    return own | (git if made.commit else {}) | result
