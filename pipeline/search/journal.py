"""Finished trials on disk, where a search that takes the place of a killed one finds them.

Since every decision follows from the results of earlier trials, a search is resumed by running it again: the
trials whose results are known report those at once, and the others run.
"""

import hashlib
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.files import write_text
from pipeline.search.records import Record, Settings

logger = logging.getLogger(__name__)

Known = dict[int, Record]
"""Trials that ran before, by their places from 0."""


class Journal:
    """A folder with a file for each finished trial: whole, with its SHA-256, or not at all."""

    def __init__(self, folder: Path | None) -> None:
        """
        Args:
            folder: of this search alone, see `Kept`; None: nothing is kept.
        """
        self._folder = folder

    def known(self) -> Known:
        """The trials that verify; that one which does not is run anew is told."""
        if self._folder is None or not self._folder.is_dir():
            return {}
        found = [_read(path) for path in sorted(self._folder.glob("trial_*.json"))]
        return {record.trial - 1: record for record in found if record}

    def add(self, record: Record) -> None:
        """Write a trial down; a full disk raises OSError."""
        if self._folder is not None:
            body = json.dumps(asdict(record))
            whole = {"record": json.loads(body), "sha256": _digest(body)}
            write_text(self._folder / f"trial_{record.trial:06d}.json", json.dumps(whole))


def before(known: Known, place: int, settings: Settings) -> Record | None:
    """The trial as it ran before; None where it did not, or with other settings."""
    record = known.get(place)
    return record if record and record.settings == settings else None


def _read(path: Path) -> Record | None:
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
        if whole["sha256"] != _digest(json.dumps(whole["record"])):
            raise ValueError("its hash is another")
        return _record(whole["record"])
    except (ValueError, KeyError, TypeError) as error:
        logger.warning("%s is damaged (%s): its trial runs anew", path, error)
        return None


def _record(plain: dict[str, Any]) -> Record:
    return Record(**{**plain, "rungs": tuple(plain["rungs"])})


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()
