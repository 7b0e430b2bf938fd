"""Keep what a run reports among the published results: `python -m pipeline.commands.publish_results REPORTS FOLDER`.

    table.{json,md,csv,tex}   the table
    settings.json             what compare checks: the values of params.yaml behind each row
    figures/NAME.png          those of `--figures`, and those that FOLDER has already
    README.md                 the table with links, made where there is none or one made by this command

REPORTS is what `dvc repro` wrote; git ignores it. FOLDER is one such as docs/results/digits, to be committed.
A README.md written by hand is left as it is.
"""

import argparse
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from pipeline import files
from pipeline.ncsn.errors import UserError
from pipeline.reporting import page, tables
from pipeline.reporting.rows import Table

COPIED = ("table.json", "table.md", "table.csv", "table.tex", "settings.json")
MADE_BY = "<!-- Made by pipeline.commands.publish_results: edit no line here. -->"


def publish_results(reports: Path, folder: Path, figures: Iterable[str] = ()) -> list[str]:
    """Write FOLDER from REPORTS; returns the names of the figures.

    Raises:
        UserError: a file of the report is missing, or its table cannot be read. Nothing is written then.
    """
    table = Table.read(reports / "table.json")
    names = sorted({*figures, *(path.stem for path in (folder / page.FIGURES).glob("*.png"))})
    copied = [*COPIED, *(f"{page.FIGURES}/{name}.png" for name in names)]
    if missing := [name for name in copied if not (reports / name).is_file()]:
        raise UserError(f"{reports} has no {', '.join(missing)}: run `dvc repro report`, or name other figures.")
    for name in copied:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(reports / name, folder / name)
    if _ours(folder / "README.md"):
        files.write_text(folder / "README.md", _readme(table, names))
    return names


def _ours(path: Path) -> bool:
    return not path.exists() or path.read_text(encoding="utf-8").startswith(MADE_BY)


def _readme(table: Table, figures: Iterable[str]) -> str:
    parts = [
        MADE_BY,
        f"# {page.title(table)}, as published",
        "Every number as [Markdown](table.md), [CSV](table.csv), [JSON](table.json) and [LaTeX](table.tex). "
        "[settings.json](settings.json) has the values of `params.yaml` behind each row.",
        tables.results_table(table),
        *(f"![{name}]({page.FIGURES}/{name}.png)" for name in figures),
    ]
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Publish what the command line names; returns the exit code, 2 for bad input."""
    about = str(__doc__).partition(": ")[0]
    parser = argparse.ArgumentParser("python -m pipeline.commands.publish_results", description=about)
    parser.add_argument("reports", metavar="REPORTS", type=Path, help="the report of a finished run")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="new, or results published before")
    parser.add_argument("--figures", nargs="*", default=[], metavar="NAME", help="figures to add, such as samples")
    given = parser.parse_args(arguments)
    try:
        names = publish_results(given.reports, given.folder, given.figures)
    except (UserError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(f"{given.folder} has the tables and {len(names)} figures; commit it\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
