"""What a tuning stage asks of its search, caught before a trial runs."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from unittest.mock import patch

from pipeline.cluster import connect
from pipeline.params import Params, load
from pipeline.search import Budget, Space, Trial


@dataclass(frozen=True)
class Asked:
    """The arguments of one call of `search`."""

    trial: Trial
    space: Space
    budget: Budget
    points: Sequence[dict[str, Any]]
    shared: Mapping[str, Any]
    random_trials: int = 0
    """For a benchmark to set."""


def asked(main: Callable[[Params], None], module: ModuleType) -> list[Asked]:
    """Run a stage's `main` on params.yaml and artifacts/ through its searches, which find nothing.

    Nothing is written or tracked, and Ray is not started.
    """
    caught: list[Asked] = []

    def search(trial: Trial, space: Space, *, budget: Budget, points: Any, shared: Any, **rest: Any) -> Any:
        caught.append(Asked(trial, space, budget, points, shared))
        return []

    params = load()
    silent = params.model_dump()
    silent["tracking"]["enabled"] = False
    silent["tune_sampler"]["baseline"]["network"] = params.tune_sampler.network  # none but this is read
    patched = patch.object(module, "search", search), patch.object(connect, "connect", _nothing)
    try:
        with patched[0], patched[1]:
            main(type(params).model_validate(silent))
    except (ValueError, IndexError):  # of a stage that found nothing
        if not caught:
            raise
    return caught


@contextlib.contextmanager
def _nothing(**sizes: Any) -> Iterator[int]:
    yield 0
