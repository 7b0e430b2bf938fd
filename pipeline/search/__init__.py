"""Hyperparameter search over short trials: Optuna proposes, successive halving stops, Ray Tune runs.

A trial is a plain generator `trial(settings, **shared)` that yields its metrics once at every rung; it knows
nothing of Ray. What is tried is decided by `algorithms` alone, in a fixed order; `run` has Ray Tune or this
process run the trials, with the same records; `store` has them on disk. See docs/explanation/searches.md.
"""

from pipeline.search.algorithms import Budget, Categorical, Range, Space
from pipeline.search.records import Metrics, RungMetrics, Trial
from pipeline.search.run import resources, search, search_here
from pipeline.search.store import SearchStore

__all__ = [
    "Budget",
    "Categorical",
    "Metrics",
    "Range",
    "RungMetrics",
    "SearchStore",
    "Space",
    "Trial",
    "resources",
    "search",
    "search_here",
]  # fmt: skip
