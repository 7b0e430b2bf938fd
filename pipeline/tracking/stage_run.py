"""The run of a stage from its beginning to its end, as the stage's process sees it."""

import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.ncsn.errors import UserError
from pipeline.tracking import process, shipping
from pipeline.tracking.journal import FOLDER, Delivered
from pipeline.tracking.recorded import RecordedRun
from pipeline.tracking.runs import status_of
from pipeline.tracking.writer import Book

OPENED = FOLDER / "opened.json"
"""The pipeline that last began, and its store: its later stages do not wait to hear that it can be used."""
ERROR_LENGTH = 2000

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def stage_run(root: Path, heading: dict[str, Any], *, refuse: bool) -> Iterator[RecordedRun]:
    """Record a stage: its end waits for the delivery only where nobody comes after it.

    Args:
        refuse: the first stage of a pipeline waits until its run has begun in the store.

    Raises:
        UserError: it waited, and the store cannot be used.
    """
    book = Book(root, heading)
    run, how = RecordedRun(book), "FINISHED"
    shipping.ensure(root)
    if _waits(root, heading, refuse):
        _begun(book)
    try:
        yield run
    except BaseException as error:
        how = status_of(error)
        run.set_tags({"error": f"{type(error).__name__}: {error}"[:ERROR_LENGTH]})
        raise
    finally:
        book.write((), "end", {"status": how})
        if heading["alone"] or heading["last"] or heading["attach"]:
            book.settle()
        _tell(book, book.close())


def _waits(root: Path, heading: dict[str, Any], refuse: bool) -> bool:
    if heading["parent"] or heading["attach"]:
        return True
    with contextlib.suppress(OSError, ValueError):
        owner, *store = json.loads((root / OPENED).read_text())
        if process.same(owner, heading["owner"]) and store == [heading["uri"], heading["experiment"]]:
            return False
    return refuse


def _begun(book: Book) -> None:
    """Return when the run has begun in the store; raise UserError where it cannot."""
    if book.wait(lambda state: state.runs.get("")) is None:
        why = book.journal.delivered().problem or f"tracking does not start: see {book.root / shipping.LOG}."
        book.withdraw()
        raise UserError(why)
    names = [book.heading[key] for key in ("owner", "uri", "experiment")]
    (book.root / OPENED).write_text(json.dumps(names))


def _tell(book: Book, state: Delivered) -> None:
    """Say what did not arrive, if anything."""
    if state.refused:
        logger.warning("tracking: %d records were refused, first %s", len(state.refused), state.refused[0])
    if state.problem:
        logger.warning(
            "tracking: %s What waits in %s is delivered by the next stage, or by "
            "`python -m pipeline.tracking ship`.",
            state.problem,
            book.root / FOLDER,
        )
