"""Check of each row of a table, and of all else in the report: `python -m pipeline.verify reports/table.json`.

Recomputed: every hash and number of the row from artifacts/ and params.yaml; code, parameters and files of
the stages behind it against dvc.lock; its commits from git; its runs from MLflow. Searches, the frontier, toy
figures and the report's own pages, which are behind no row, are compared with dvc.lock too. Exit code 0 where
all is verified, 1 where something differs or cannot be checked, 2 for bad input.
"""

import argparse
import contextlib
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from pipeline import dvcfile, tracking
from pipeline.ncsn.errors import UserError
from pipeline.reporting.lineage import REPORT, SETTLED, StageGraph
from pipeline.reporting.rows import Row, Table
from pipeline.verify import Finding, RowState, lines, sources, state, table
from pipeline.verify.sources import History, Tree


class RowChecker:
    """Checker of the rows of a table; everything they are compared with is read once."""

    def __init__(self, root: Path, checked: Table, *, runs: bool) -> None:
        """
        Raises:
            UserError: `root` has no dvc.yaml.
        """
        plan = StageGraph.read(root)
        if plan is None:
            raise UserError("there is no dvc.yaml here: run it in the repository's folder.")
        self._plan, self._lock, self._tree = plan, dvcfile.lock(root), Tree(root)
        self._artifacts, self._history, self._runs = root / "artifacts", History(root), runs
        self._now = table.Now(self._artifacts, plan.params["rows"], plan.params.get("extra_seeds", ()))
        self._records, self._unread = self._read(checked) if runs else ({}, "")
        self._of_rows: set[str] = set()

    def _read(self, checked: Table) -> tuple[dict[str, tracking.Record], str]:
        ids = {made.run_id for row in checked.rows for made in row.made if made.run_id}
        try:
            return tracking.records(ids) if ids else {}, ""
        except UserError as error:
            return {}, str(error)

    def close(self) -> None:
        """Remove temporary files."""
        self._history.close()

    def row(self, row: Row) -> Iterator[Finding]:
        """Findings of a row."""
        name = table.system_of(row)
        chain = self._chain(None if row.is_floor else name, row.names)
        if not chain:
            yield Finding(f"evaluate@{name} of dvc.yaml", "a stage", "none", "add it to `rows`")
        yield from table.row_findings(row, self._now.row(row), self._artifacts)
        for stage, only in chain.items():
            yield from sources.stage_findings(self._tree, self._lock, self._plan.params, stage, only)
        for made in row.made:
            yield from sources.commit_findings(self._history, self._tree, made, self._lock, chain)
            if self._unread and made.run_id:
                yield Finding("MLflow's record of the runs", None, None, self._unread)
            elif self._runs:
                yield from table.run_findings(
                    made, made.network or name, row.data_sha256, self._artifacts, self._records
                )

    def beyond_rows(self) -> Iterator[Finding]:
        """Findings of what else the report shows, by the stages that are behind none of the rows checked so far."""
        for stage in sorted(self._plan.behind({REPORT}) - self._of_rows):
            given = sources.stage_findings(self._tree, self._lock, self._plan.params, stage)
            # What the report reads is looked at where it is made; its folders would say all of it once more.
            yield from (one for one in given if stage != REPORT or not one.what.startswith("artifacts/"))

    def _chain(self, name: str | None, names: Sequence[str]) -> dict[str, Collection[str] | None]:
        """The stages behind a row; of one that settles, the only parameters that matter."""
        chain = self._plan.chain(name, names)
        self._of_rows |= set(chain)
        settled = self._plan.settled(chain)
        return {stage: settled if stage in SETTLED else None for stage in chain}


def report(found: list[tuple[Row, list[Finding]]], others: Mapping[str, list[Finding]]) -> Iterator[str]:
    """The lines of the report: a row's state, what speaks against it below, and the sum.

    Args:
        others: findings of what is no row, by what that is.
    """
    for row, findings in found:
        head = "was not run" if not row.measured and not findings else state(findings)
        yield f"{row.label}: {head}"
        yield from (f"    {line}" for line in lines(findings))
    for what, findings in others.items():
        if findings:
            yield f"{what}: {state(findings)}"
            yield from (f"    {line}" for line in lines(findings))
    verified = sum(state(findings) is RowState.VERIFIED for _, findings in found)
    yield f"{verified} of {len(found)} rows verified"


def main(arguments: list[str] | None = None, root: Path = Path()) -> int:
    """Check the table of the command line; returns the exit code."""
    parser = argparse.ArgumentParser("python -m pipeline.verify", description=__doc__)
    parser.add_argument("table", type=Path, nargs="?", default=Path("reports/table.json"))
    parser.add_argument("--no-runs", action="store_true", help="leave MLflow's store out")
    given = parser.parse_args(arguments)
    try:
        checked, written = table.read_written(root / given.table)
        with contextlib.closing(RowChecker(root, checked, runs=not given.no_runs)) as check:
            found = [(row, list(check.row(row))) for row in checked.rows]
            beyond = list(check.beyond_rows())
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    others = {
        "the table outside its rows": list(table.table_findings(checked, written)),
        "the report outside its table": beyond,
    }
    sys.stdout.writelines(f"{line}\n" for line in report(found, others))
    return 1 if any([*others.values(), *(findings for _, findings in found)]) else 0


if __name__ == "__main__":
    sys.exit(main())
