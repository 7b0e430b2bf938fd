"""Say for each row whether a run reproduces a published one: `python -m pipeline.commands.compare REPORTS PUBLISHED`.

REPORTS is what `dvc repro` wrote, PUBLISHED a folder such as docs/results/digits. Each row is "reproduced", "not
reproduced" or "cannot tell", by equivalence tests of FID, KID, precision and recall with the spread between the
published trainings. docs/explanation/compare.md explains the method. Exit code 0 for every verdict.
"""

import argparse
import sys
from pathlib import Path

from pipeline import files
from pipeline.ncsn.errors import UserError
from pipeline.reporting import reproduction
from pipeline.reporting.reproduction import MARGIN, Settings
from pipeline.reporting.rows import Table


def compare(reports: Path, published: Path, margin: float) -> str:
    """The verdicts as text; raises UserError where a folder has no table that can be read."""
    here, there = (Table.read(folder / "table.json") for folder in (reports, published))
    found = reproduction.compare(here, there, margin, (_settings(reports), _settings(published)))
    return reproduction.text(found, published.as_posix(), margin)


def _settings(folder: Path) -> Settings:
    """The settings behind a table; none of one that was published without them."""
    path = folder / "settings.json"
    return dict(files.read_json(path)) if path.exists() else {}


def _margin(value: str) -> float:
    found = float(value)
    if not 0 < found < 1:
        raise ValueError
    return found


def main(arguments: list[str] | None = None) -> int:
    """Print the verdicts on the folders that the command line names; returns the exit code, 2 for bad input."""
    about = str(__doc__).partition(": ")[0]
    parser = argparse.ArgumentParser("python -m pipeline.commands.compare", description=about)
    parser.add_argument("reports", metavar="REPORTS", type=Path, help="the report of the run here")
    parser.add_argument("published", metavar="PUBLISHED", type=Path, help="the published run, with several trainings")
    help_of = "largest relative difference that counts as equal, between 0 and 1; default: %(default)s"
    parser.add_argument("--margin", metavar="M", type=_margin, default=MARGIN, help=help_of)
    given = parser.parse_args(arguments)
    try:
        sys.stdout.write(compare(given.reports, given.published, given.margin))
    except (UserError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
