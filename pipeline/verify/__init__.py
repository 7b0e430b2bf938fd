"""A table checked against files, sources and runs: `python -m pipeline.verify reports/table.json`."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

AGAIN = "write the table again by `dvc repro --force --single-item report`"
PULL = "run `dvc pull`, or `dvc repro`"
SHORT = 16


class RowState(StrEnum):
    """State of a row after its check."""

    VERIFIED = "verified"
    DIFFERS = "differs"
    UNKNOWN = "cannot be checked"


@dataclass(frozen=True)
class Finding:
    """Ingredient of a row that is not as it should be."""

    what: str
    expected: str | None
    found: str | None
    """None where it is missing, so that it cannot be checked."""
    fix: str

    def __str__(self) -> str:
        if self.found is None:
            return f"{self.what} is missing: {self.fix}"
        return f"{self.what}: expected {_short(self.expected)}, found {_short(self.found)}: {self.fix}"


def _short(value: str | None) -> str:
    """A long hash shortened to its beginning."""
    text = value or "none"
    hexadecimal = set(text.removesuffix(".dir")) <= set("0123456789abcdef")
    return text[:SHORT] if hexadecimal and len(text) >= 32 else text


def state(findings: Iterable[Finding]) -> RowState:
    """State of a row: one ingredient that differs decides; else a missing one leaves it unknown."""
    known = [finding.found is not None for finding in findings]
    if not known:
        return RowState.VERIFIED
    return RowState.DIFFERS if any(known) else RowState.UNKNOWN


def lines(findings: Iterable[Finding]) -> Iterator[str]:
    """A line per finding; missing files with the same fix share one."""
    missing: dict[str, list[str]] = {}
    for finding in dict.fromkeys(findings):
        if finding.found is None:
            missing.setdefault(finding.fix, []).append(finding.what)
        else:
            yield str(finding)
    for fix, names in missing.items():
        yield f"{', '.join(names)} {'are' if len(names) > 1 else 'is'} missing: {fix}"
