"""Lines about how far a loop is: every few seconds, with the time left."""

import logging
from collections.abc import Iterator

import pytest

from pipeline import progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time as `progress` sees it, moved by hand."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def lasting(clock: list[float], seconds: float) -> Iterator[int]:
    for number in progress.reported("rows", range(4), 4):
        clock[0] += seconds
        yield number


def test_a_long_loop_says_what_is_done_and_the_time_left(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert list(lasting(clock, 6.0)) == [0, 1, 2, 3], "the items are handed on as they are"
    assert caplog.messages == [
        "rows: 1 of 4, about 18 s left", "rows: 2 of 4, about 12 s left", "rows: 3 of 4, about 6 s left",
    ]  # fmt: skip


def test_a_short_loop_says_nothing(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert list(lasting(clock, 1.0)) == [0, 1, 2, 3]
    assert caplog.messages == []
